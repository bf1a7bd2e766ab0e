"""The services as the doctor sees them, all parts together, and the command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, Response
from typer.testing import CliRunner

from sskai.cli import app
from sskai.doctor import Finding, Findings, examine, services
from sskai.doctor.settings import Settings
from sskai.local.processes import free_ports
from sskai.settings import beneath_environment
from sskai.testing import served
from tests.doctor.found import states


@asynccontextmanager
async def service(name: str, release: str = "0.1.0", **away: str) -> AsyncIterator[str]:
    app = FastAPI()

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "service": name} | ({"version": release} if release else {})

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str]:
        response.status_code = 503 if away else 200
        return {"database": "ok", "consumer": "ok"} | away

    async with served(app) as url:
        yield url


def judged(ours: str, **releases: str) -> str:
    said = Findings("services")
    services.judge_releases(said, releases, ours)
    return states(said.found)["versions"]


async def test_what_is_ready_away_not_ready_or_somebody_else_is_told_apart() -> None:
    (nobody,) = free_ports(1)
    async with (
        service("optimizer") as optimizer,
        service("trainer", database="away: OperationalError") as trainer,
        service("monitor", release="") as monitor,
    ):
        settings = Settings.model_validate(
            {
                "gateway_url": f"http://127.0.0.1:{nobody}", "optimizer_url": optimizer, "scheduler_url": optimizer,
                "trainer_url": trainer, "inference_url": "", "otlp_url": monitor,
            }
        )  # fmt: skip
        found = {one.check: one for one in await services.look(settings)}
    assert states(found.values()) == {
        "gateway": "fail", "optimizer": "ok", "scheduler": "fail", "trainer": "fail", "inference": "skipped",
        "monitor": "ok", "versions": "warn",
    }  # fmt: skip
    assert found["trainer"].says == "not ready: database away: OperationalError"
    assert "is optimizer" in found["scheduler"].says
    assert "SSKAI_INFERENCE_URL" in found["inference"].says


def test_neighbours_may_run_together_and_others_may_not() -> None:
    assert judged("0.2.0", gateway="0.2.0", monitor="0.2.0") == "ok"
    assert judged("0.2.0", gateway="0.2.0", monitor="0.1.3") == "warn"
    assert judged("0.2.0", gateway="0.1.0", monitor="0.1.0") == "warn"
    assert judged("0.3.0", gateway="0.3.0", monitor="0.1.0") == "fail"
    assert judged("1.0.0", gateway="0.9.0") == "fail"
    assert judged("0.2.0", gateway="0.2.0", monitor=services.OLDER) == "warn"
    assert judged("0.2.0") == "skipped"


async def test_a_part_that_hangs_or_breaks_is_a_finding_and_the_others_are_looked_at() -> None:
    async def sound() -> list[Finding]:
        return [Finding("sound", "it", "ok", "is")]

    async def hangs() -> list[Finding]:
        await asyncio.Event().wait()
        raise AssertionError

    async def breaks() -> list[Finding]:
        raise KeyError("no")

    found = await examine.examine({"sound": sound, "hangs": hangs, "breaks": breaks}, seconds=0.05)
    assert [(one.part, one.state) for one in found] == [("sound", "ok"), ("hangs", "fail"), ("breaks", "fail")]


@pytest.mark.parametrize(
    ("seen", "code"), [(["ok", "skipped"], 0), (["ok", "warn"], 1), (["warn", "fail"], 2), ([], 0)]
)
def test_the_worst_finding_is_the_exit_code(seen: list[str], code: int) -> None:
    assert examine.exit_code([Finding("a", "b", one, "c") for one in seen]) == code  # type: ignore[arg-type]


def test_the_environment_wins_over_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSKAI_OBJECTS_BUCKET", "mine")
    read = beneath_environment(
        Settings, {"SSKAI_OBJECTS_BUCKET": "stack", "SSKAI_KAFKA_BOOTSTRAP": "k:1", "SSKAI_ADMIN_KEY": "x"}
    )
    assert (read.objects_bucket, read.kafka_bootstrap) == ("mine", "k:1")


def test_the_command_prints_what_is_to_be_mended_and_ends_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody,) = free_ports(1)
    monkeypatch.setenv("SSKAI_OBJECTS_URL", f"http://127.0.0.1:{nobody}")
    monkeypatch.setenv("SSKAI_HOME", "/nonexistent")
    answered = CliRunner().invoke(app, ["doctor", "objects", "--json"])
    assert answered.exit_code == 2
    told = json.loads(answered.stdout)
    assert (told["exit_code"], told["settings"]) == (2, "the environment's SSKAI_* variables")
    assert [(one["check"], one["state"]) for one in told["findings"]] == [("bucket", "fail")]
    table = CliRunner().invoke(app, ["doctor", "objects"])
    assert table.exit_code == 2
    assert "→ Start the object store" in table.stdout
    unknown = CliRunner().invoke(app, ["doctor", "objets"])
    assert unknown.exit_code == 2
    assert "Did you mean objects?" in " ".join(unknown.output.split())
