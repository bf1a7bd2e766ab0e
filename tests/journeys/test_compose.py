"""docker-compose.yaml without an engine: each of our containers' commands as a process with the environment that
Compose gives it. Only addresses and folders are this machine's; then a job is submitted, planned, run and paid for."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sskai.client import Client
from sskai.database import SERVICES
from sskai.local.kafka import Kafka
from sskai.local.objectstore import ObjectStore
from sskai.local.postgres import Postgres
from sskai.local.processes import Child, Program, free_ports
from tests import tiny_model
from tools import compose

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(600)]

STARTED = ("cloud", *SERVICES)
MODEL = "smollm2-135m-instruct"
BIN = str(Path(sys.executable).parent)


class Containers:
    """Of the compose file's default way to start, as processes."""

    def __init__(self, folder: Path, parts: dict[str, str]) -> None:
        """`parts`: what to write in place of addresses and secrets of kafka, postgres and objects."""
        self.folder = folder
        self.services: dict[str, Any] = compose.resolved("cpu", compose.filled_environment(folder))["services"]
        self.ports = dict(zip(STARTED, free_ports(len(STARTED)), strict=True))
        self._instead = {
            **parts,
            **{f"http://{name}:8000": f"http://127.0.0.1:{port}" for name, port in self.ports.items()},
            # The monitor takes what the collector would hand on (tests/real/test_collector.py).
            "http://collector:4318": f"http://127.0.0.1:{self.ports['monitor']}",
            "/var/lib/sskai": str(folder / "home"),
            "/var/cache/sskai": str(folder / "cache"),
            "/opt/sskai": str(compose.ROOT),
        }

    def environment(self, name: str) -> dict[str, str]:
        own = {"SSKAI_HOST": "127.0.0.1", "SSKAI_PORT": str(self.ports.get(name, 0))}
        told: dict[str, str] = {**self.services[name]["environment"], **own}
        for here, there in self._instead.items():
            told = {variable: value.replace(here, there) for variable, value in told.items()}
        return told | {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(compose.ROOT)}

    def run(self, name: str) -> None:
        """To its end, which has to be a good one."""
        done = subprocess.run(
            self.services[name]["command"],
            env=self.environment(name),
            cwd=compose.ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def start(self, name: str) -> Child:
        # `env -i`: a container has none of this process's variables.
        variables = [f"{variable}={value}" for variable, value in self.environment(name).items()]
        command = ["env", "-i", *variables, *self.services[name]["command"]]
        log = self.folder / "logs" / f"{name}.log"
        return Child.spawn(Program(name, command, log, lambda: self.is_healthy(name), folder=compose.ROOT))

    def is_healthy(self, name: str) -> bool:
        """By the container's own health check."""
        kind, *test = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        asked = [part.replace("127.0.0.1:8000", f"127.0.0.1:{self.ports[name]}") for part in test]
        assert asked != test, f"{name}'s health check asks nobody: {shlex.join(test)}"
        return (
            subprocess.run([f"{BIN}/{asked[0]}", *asked[1:]], capture_output=True, timeout=30, check=False).returncode
            == 0
        )


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """All up and healthy."""
    folder = tmp_path_factory.mktemp("compose")
    # What `prepare` would fetch: the built-in model, here a tiny one.
    tiny_model.build(folder / "cache" / "models" / MODEL)
    with ExitStack() as stack:
        kafka, postgres = stack.enter_context(Kafka.start()), stack.enter_context(Postgres.start())
        store = stack.enter_context(ObjectStore.start())
        secrets = dict(
            line.split("=", 1) for line in compose.filled_environment(folder).read_text().splitlines() if "=" in line
        )
        database = f"postgresql+psycopg://sskai:{secrets['SSKAI_POSTGRES_PASSWORD']}@postgres:5432/sskai"
        parts = {
            "kafka:19092": kafka.bootstrap,
            database: postgres.url,
            "http://objects:8333": store.url,
            secrets["SSKAI_OBJECTS_ACCESS_KEY"]: store.credentials.access_key,
            secrets["SSKAI_OBJECTS_SECRET_KEY"]: store.credentials.secret_key,
        }
        started = Containers(folder, parts)
        started.run("prepare")
        children = []
        for name in STARTED:
            children.append(started.start(name))
            stack.callback(children[-1].stop)
        for child in children:
            child.wait_ready(limit_seconds=180)
        yield started


def test_no_container_is_told_of_an_address_that_is_not_here(containers: Containers) -> None:
    """Otherwise this test would say less than it seems to."""
    hosts = [f"//{name}" for name in containers.services] + ["kafka:", "@postgres"]
    for name in ("prepare", *STARTED):
        told = containers.environment(name)
        assert not [value for value in told.values() if any(host in value for host in hosts)], name


def test_a_job_goes_from_a_file_to_a_receipt(containers: Containers, conversation_file: Path) -> None:
    told = containers.environment("gateway")
    with Client(f"http://127.0.0.1:{containers.ports['gateway']}", told["SSKAI_ADMIN_KEY"]) as client:
        # Smaller than the built-in one, which takes the optimizer a minute to measure on a busy machine.
        base = client.models.upload(containers.folder / "cache" / "models" / MODEL, name="tiny")["id"]
        dataset = client.datasets.upload(conversation_file, name="chats")
        job_file = {
            "kind": "finetune",
            "name": "from-compose",
            "model": {"base": base, "method": "lora", "rank": 4},
            "dataset": {"uri": f"dataset://chats/{dataset['version']}", "eval_fraction": 0.05},
            "hyperparameters": {"batch_size": 4, "sequence_length": 64, "max_steps": 4, "learning_rate": 2e-3},
            "budget": {"total_usd": 1},
        }
        job = client.jobs.create(job_file)
        ended = client.jobs.wait(job["id"], limit_seconds=360, poll_seconds=0.5)
        assert ended["state"] == "succeeded", str(ended)
        (best, *_) = client.plans.get(ended["plan_id"])["candidates"]
        assert best["placement"]["instance_type"].startswith("local.")
        assert int(client.receipts.wait(job["id"])["paid_nano_usd"]) > 0
        names = {span["name"] for span in client.jobs.trace(job["id"])["spans"]}
        assert len(names) > 5, "the gateway asks the monitor at SSKAI_MONITOR_URL"
