"""Prometheus itself: its promtool takes the configuration and tries the alerts, and the server scrapes a service."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from sskai.database import Database
from sskai.local.processes import free_ports
from sskai.testing import wait_for
from tests.real.programs import serving
from tools.compose import ROOT

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

SERVICE = "scheduler"
FOLDER = ROOT / "deploy" / "prometheus"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: apt-get install prometheus (python tools/system_packages.py --real)")
    return found


@pytest.mark.parametrize(
    "arguments",
    [["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]],
    ids=" ".join,
)
def test_promtool_is_content(arguments: list[str]) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_it_scrapes_a_service_and_tells_of_one_that_is_down(
    kafka: str, database: Database, tmp_path: Path
) -> None:
    """Our very file and rules, with this machine's addresses and a shorter patience."""
    service_port, own_port = free_ports(2)
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    addresses = {"scheduler:8000": f"127.0.0.1:{service_port}", "127.0.0.1:9090": f"127.0.0.1:{own_port}"}
    for job in configuration["scrape_configs"]:
        for one in job["static_configs"]:
            # Whoever is not there refuses the connection.
            one["targets"] = [addresses.get(target, "127.0.0.1:1") for target in one["targets"]]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    (tmp_path / "rules.yml").write_text((FOLDER / "rules.yml").read_text().replace("for: 2m", "for: 1s"))

    def ask(path: str) -> list[dict[str, dict[str, str]]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{own_port}{path}", timeout=5) as answer:
            data = json.loads(answer.read())["data"]
        found: list[dict[str, dict[str, str]]] = data.get("alerts") or data.get("result") or []
        return found

    def ready(port: int, path: str) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == 200)

    environment = {
        "SSKAI_KAFKA_BOOTSTRAP": kafka,
        "SSKAI_DATABASE_URL": database.url,
        "SSKAI_CLUSTER": "local",
        "SSKAI_CLOUD_URL": "http://127.0.0.1:1",
        "SSKAI_PORT": str(service_port),
        "PYTHONPATH": str(ROOT),
    }
    service = [sys.executable, "-m", "services", "scheduler"]
    command = [
        program("prometheus"),
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
    ]
    with (
        serving(service, tmp_path, lambda: ready(service_port, "/readyz"), environment),
        serving(
            [*command, f"--web.listen-address=127.0.0.1:{own_port}"], tmp_path, lambda: ready(own_port, "/-/ready")
        ),
    ):
        query = urllib.parse.quote('sskai_loop_seconds_count{service="scheduler",loop="drive_jobs"}')
        await wait_for(lambda: bool(ask(f"/api/v1/query?query={query}")), limit_seconds=60)

        def down() -> set[str]:
            firing = [one["labels"] for one in ask("/api/v1/alerts") if str(one["state"]) == "firing"]
            return {one["service"] for one in firing if one["alertname"] == "SSKAIServiceDown"}

        everybody_else = {"gateway", "optimizer", "trainer", "inference", "monitor"}
        await wait_for(lambda: down() == everybody_else, limit_seconds=60)
