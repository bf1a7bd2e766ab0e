"""A scheduler whose database went back to a backup while attempts went on: what is owned by nobody ends, nothing runs
twice, and what was acknowledged goes on. `test_disaster.py` does it with the whole stack."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psycopg
import pytest

from services.scheduler.domain import State
from services.scheduler.recovering import recover
from sskai.cluster import Pod
from sskai.database import Database, plain_url
from sskai.events import v1 as events
from sskai.local import postgres as server
from sskai.objects import Objects
from tests.scheduler.examples import placement, proposed
from tests.scheduler.stage import Stage

SERVICE = "scheduler"


def run(program: str, database: Database, *arguments: str) -> None:
    plain = plain_url(database.url)
    command = [str(server.binaries_folder() / program), f"--dbname={plain}", *arguments]
    subprocess.run(command, check=True, capture_output=True)


async def next_attempt(stage: Stage) -> str:
    """The running machine goes; a new plan comes; another one runs."""
    before = stage.cluster.running()
    for machine in before:
        stage.cluster.interrupt(machine)
    for _ in range(40):
        await stage.turn(200)  # after several machines in a row the policy waits for the market
        if (await stage.job()).state in (State.PLANNING, State.QUEUED):
            await stage.tell(proposed(after_attempt=(await stage.job()).attempts, at=stage.now))
        if stage.cluster.running():
            break
    (machine,) = stage.cluster.running()
    return machine


@pytest.mark.parametrize("begun_since", [1, 5])
async def test_numbers_and_machines_are_reconciled_after_a_restore(
    begun_since: int,
    database: Database,
    database_of: Callable[[str], AbstractAsyncContextManager[Database]],
    objects: Objects,
    tmp_path: Path,
) -> None:
    dump = tmp_path / "scheduler.dump"
    stage = Stage(database)
    await stage.run_first_attempt(fresh=True)
    run("pg_dump", database, "--format=custom", f"--file={dump}")
    for _ in range(begun_since):
        await next_attempt(stage)
    begun = 1 + begun_since
    assert (await stage.job()).attempts == begun
    for number in range(1, begun + 1):
        objects.put_bytes(f"jobs/job_1/fences/{number:05d}.json", b"{}")
    later = "job_2"  # ids sort by time
    objects.put_bytes(f"jobs/{later}/fences/00001.json", b"{}")
    orphan = await stage.cluster.launch(Pod(later, "tenant_a", 1, placement(), {}))
    assert len(stage.cluster.running()) == 2

    async with database_of("scheduler") as empty:
        with psycopg.connect(plain_url(empty.url)) as c:
            c.execute("DROP SCHEMA scheduler CASCADE")
        run("pg_restore", empty, "--exit-on-error", str(dump))
        restored = Stage(empty)
        restored.now = stage.now
        restored.cluster = restored.world.cluster = stage.cluster
        found = await recover(empty, objects)
        assert [(one.job_id, one.attempts, one.before) for one in found.raised] == [("job_1", begun, 1)]
        assert found.lost == [later]

        most: Counter[str] = Counter()
        for turn in range(40):
            await restored.turn(20)
            if (await restored.job()).state in (State.PLANNING, State.QUEUED):
                await restored.tell(proposed(after_attempt=1, at=restored.now))
            running = Counter(stage.cluster.observations[one].job_id for one in stage.cluster.running())
            most |= running
            assert turn == 0 or orphan.machine_id not in stage.cluster.running(), "ended by the first lists"
        assert most["job_1"] == 1, "no two machines of one job at any time"
        job = await restored.job()
        assert (job.state, job.attempts, job.current_attempt) == (State.RUNNING, begun + 1, begun + 1)
        await restored.tell(
            events.AttemptFinished(job_id="job_1", tenant_id="tenant_a", attempt=begun, succeeded=True),
        )
        assert (await restored.job()).state == State.RUNNING, "an attempt that nobody owns any more decides nothing"
    objects.delete("jobs/job_1/")
    objects.delete(f"jobs/{later}/")
