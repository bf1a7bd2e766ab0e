"""The drill of docs/operations/recovery.md: database and broker are lost at work, and come back from a backup."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sskai.client import SskaiError
from sskai.client.documents import Job
from sskai.contract import new_id
from sskai.database import plain_url
from sskai.demo.journey import Scenario
from sskai.local import postgres, stack
from sskai.local.layout import SERVICES, SOURCE_FOLDER
from sskai.local.state import StackState, read_state
from sskai.testing import wait_for
from tests.journeys.conftest import Stack, base_model, conversation_file, scenario
from tests.journeys.test_journey import journey

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(3600)]
__all__ = ["base_model", "conversation_file", "scenario"]  # fixtures

ROLE = "sskai_gateway_requests"
ENDED = ("succeeded", "failed", "cancelled")
LIMIT_SECONDS = 600
# Parts come and go here, and a machine that is busy with that plans and trains slowly.
PATIENT = {"SSKAI_PATIENCE_SECONDS": "2", "SSKAI_TRAINER_THREADS": "1", "SSKAI_PROFILE_LIMIT_SECONDS": "300"}


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    """A whole system of its own: its database and broker will not be the same afterwards."""
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory(prefix="sskai-disaster-") as folder:
        Path(folder).chmod(0o755)
        for name, value in PATIENT.items():
            environment.setenv(name, value)
        home = Path(folder) / "home"
        try:
            yield Stack(home, stack.up(home))
        finally:
            stack.down(home)


def sskai(home: Path, *words: str) -> Any:
    """The command as an operator types it; what it prints as JSON."""
    command = [sys.executable, "-c", "from sskai.cli import main; main()", *words, "--json"]
    environment = {**os.environ, "SSKAI_HOME": str(home)}
    done = subprocess.run(command, cwd=SOURCE_FOLDER, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, f"{words}: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


def database_program(name: str, url: str, *arguments: str) -> None:
    plain = plain_url(url)
    subprocess.run(
        [postgres.binaries_folder() / name, f"--dbname={plain}", *arguments], check=True, capture_output=True
    )


def kill(home: Path, *names: str) -> None:
    """Nobody is asked, and the supervisor starts nothing anew: it is the first to go."""
    state = read_state(home)
    assert state is not None
    state.supervisor.stop(signal.SIGKILL)
    for name in names:
        part = state.parts.get(name)
        if part is not None and part.process is not None:
            part.process.stop(signal.SIGKILL)


def working(one: Stack) -> list[dict[str, Any]]:
    """Machines whose pod is a process; those that are gone are listed for a while."""
    return [each for each in one.cloud.machines() if each["state"] != "gone" and each["pod"]["pid"] and each["tags"]]


def machines_by_job(one: Stack) -> Counter[str]:
    return Counter(machine["tags"]["sskai-job"] for machine in working(one))


async def test_database_and_broker_are_lost_and_every_job_of_the_backup_ends(
    running: Stack, scenario: Scenario, tmp_path: Path
) -> None:
    home, told = running.home, running.state.environment
    dump = tmp_path / "sskai.dump"
    quick = journey(running, dataclasses.replace(scenario, max_steps=40))
    file = quick.job_file(quick.upload())
    with running.client() as client:

        def submit(steps: int) -> Job:
            changed = {"name": new_id("bot").replace("_", "-")}
            changed |= {"hyperparameters": file["hyperparameters"] | {"max_steps": steps, "n_epochs": 400}}
            return client.jobs.create(file | changed)

        def fences(job_id: str) -> int:
            return sum(one.key.endswith(".json") for one in running.objects.list(f"jobs/{job_id}/fences/"))

        def machine_of(job_id: str, attempt: int) -> str | None:
            wanted = {"sskai-job": job_id, "sskai-attempt": str(attempt)}
            alive = (str(one["machine_id"]) for one in working(running) if one["tags"].items() >= wanted.items())
            return next(alive, None)

        done, long, late = submit(20), submit(1500), submit(40)
        await wait_for(lambda: client.jobs.get(done["id"])["state"] == "succeeded", limit_seconds=LIMIT_SECONDS)
        version = quick.events.wait("ModelVersionReady", job_id=done["id"], limit_seconds=LIMIT_SECONDS)
        endpoint = client.endpoints.create("kept", f"{version['name']}@{version['version']}")
        assert client.endpoints.wait(endpoint["id"], limit_seconds=LIMIT_SECONDS)["state"] == "ready"
        await wait_for(lambda: fences(long["id"]) >= 1, limit_seconds=LIMIT_SECONDS)

        database_program("pg_dump", told["SSKAI_DATABASE_URL"], "--format=custom", f"--file={dump}")

        # After the backup: the running job loses two machines, and another job is begun.
        for attempt in (1, 2):
            machine = await wait_for(lambda number=attempt: machine_of(long["id"], number), limit_seconds=LIMIT_SECONDS)
            assert machine is not None
            running.cloud.interrupt(machine, 0)
            await wait_for(lambda number=attempt: fences(long["id"]) > number, limit_seconds=LIMIT_SECONDS)
        lost = submit(1500)
        await wait_for(lambda: fences(lost["id"]) >= 1, limit_seconds=LIMIT_SECONDS)

    kill(home, *SERVICES, "kafka", "postgres")
    for part in ("kafka", "postgres"):
        shutil.rmtree(home / part)
    assert machines_by_job(running)[lost["id"]] == 1, "pods go on without all of it"

    # Broker with its topics, an empty database, objects and the cloud; no service.
    state = stack.up(home, services=False)
    _restore(state, dump)
    found = sskai(home, "recover", "attempts")
    raised = {one["job_id"]: one["attempts"] for one in found["raised"]}
    assert raised[long["id"]] == 3
    assert found["lost"] == [lost["id"]]
    sskai(home, "recover", "republish", "2020-01-01T00:00:00Z")
    kill(home)
    running.state = stack.up(home)

    with running.client() as client:
        with pytest.raises(SskaiError, match=r"404|[Nn]o such"):
            client.jobs.get(lost["id"])
        await wait_for(lambda: machines_by_job(running)[lost["id"]] == 0, limit_seconds=LIMIT_SECONDS)

        def all_ended() -> bool:
            assert max(machines_by_job(running).values(), default=0) <= 2, "one that ends, one that follows it"
            return all(client.jobs.get(one["id"])["state"] in ENDED for one in (done, long, late))

        await wait_for(all_ended, limit_seconds=2 * LIMIT_SECONDS)
        assert [client.jobs.get(one["id"])["state"] for one in (done, long, late)] == ["succeeded"] * 3
        assert client.endpoints.wait(endpoint["id"], limit_seconds=LIMIT_SECONDS)["state"] == "ready"
        assert quick.ask("kept", scenario.question, 4)
    await wait_for(lambda: not +machines_by_job(running), limit_seconds=LIMIT_SECONDS)
    broken = [one for one in sskai(home, "doctor")["findings"] if one["state"] == "fail"]
    assert broken == []


def _restore(state: StackState, dump: Path) -> None:
    """As docs/operations/recovery.md says: roles are not in a dump of one database."""
    url = state.environment["SSKAI_DATABASE_URL"]
    plain = plain_url(url)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {ROLE} NOLOGIN")
    database_program("pg_restore", url, "--exit-on-error", str(dump))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("ANALYZE")
