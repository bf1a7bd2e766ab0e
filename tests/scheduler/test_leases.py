"""Who has a job, and for how long: a process whose lease ran out records nothing, and a bug gives the job back."""

from __future__ import annotations

import pytest

from services.scheduler import loops
from services.scheduler.domain import State
from services.scheduler.store import JobRow, Store
from sskai import claims
from sskai.cluster import Machine, NoCapacityError, Pod
from sskai.database import Database
from sskai.events import v1 as events
from tests.scheduler.examples import START, proposed, submitted
from tests.scheduler.stage import Stage

SERVICE = "scheduler"


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


async def test_a_claim_that_ran_out_finds_no_job(stage: Stage) -> None:
    await stage.tell(submitted(), proposed())
    async with stage.database.transaction() as session:
        row = await session.get(JobRow, "job_1")
        assert row is not None
        row.due_at = START.replace(year=2000)
    (slow,) = await claims.claim(stage.database, JobRow, lease_seconds=0)
    (quick,) = await claims.claim(stage.database, JobRow)
    async with stage.database.transaction() as session:
        store = Store(session)
        assert await store.claimed_job("job_1", slow.lease_token) is None
        assert await store.claimed_job("job_1", None) is None
        assert await store.claimed_job("job_1", quick.lease_token) is not None


async def test_a_zombies_denial_does_not_touch_the_machine_that_another_got(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its question took longer than its lease, so another process asked, too, and was given the machine."""
    launch = stage.cluster.launch

    async def late(_pod: Pod) -> Machine:
        monkeypatch.setattr(stage.cluster, "launch", launch)
        await stage.restart()
        await stage.turn()
        assert (await stage.job()).state == "running"
        raise NoCapacityError("none")

    monkeypatch.setattr(stage.cluster, "launch", late)
    await stage.tell(submitted(), proposed())
    await stage.turn()
    job = await stage.job()
    assert (job.state, job.current_attempt, job.attempts) == ("running", 1, 1)
    await stage.turn(1)
    assert stage.cluster.running() == ["m-job-1-1"]
    assert not [one for one in stage.history if isinstance(one, events.CapacityDenied)]


async def test_a_bug_met_by_a_job_is_tried_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_world: object, _row: object) -> None:
        raise ZeroDivisionError

    await stage.tell(submitted(), proposed())
    with monkeypatch.context() as patch:
        patch.setitem(loops.STEPS, State.QUEUED, fails)
        await stage.turn()
    job = await stage.job()
    assert (job.state, job.lease_token) == ("queued", None)
    await stage.turn(loops.BUG_PAUSE_SECONDS)
    assert (await stage.job()).state == "running"
