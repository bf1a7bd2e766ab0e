"""What a pod told before it ended outweighs that it ended, however late the scheduler comes to read it."""

from __future__ import annotations

import pytest

from services.scheduler.domain import State
from sskai.cluster import PodState
from sskai.database import Database
from sskai.events import v1 as events
from tests.scheduler.examples import progressed
from tests.scheduler.stage import Stage

SERVICE = "scheduler"


FINISHED = events.AttemptFinished(
    job_id="job_1",
    tenant_id="tenant_a",
    attempt=1,
    succeeded=True,
    artifact_uri="s3://sskai/jobs/job_1/artifact/attempt-00001",
    steps=100,
)


async def test_a_job_that_finished_while_the_scheduler_was_down_is_not_run_again(database: Database) -> None:
    """Exit code 0 says that the broker has `AttemptFinished`: services/trainer/README.md."""
    stage = Stage(database)
    machine = await stage.run_first_attempt()
    await stage.tell(progressed(1, 99))
    stage.cluster.exit(machine, 0)
    await stage.turn(seconds=10)  # back after 10 s: the cluster is asked at once, the broker gives partitions later
    await stage.tell(FINISHED)
    assert (await stage.job()).state == State.SUCCEEDED


async def test_a_job_that_finished_within_its_notice_is_not_run_again(database: Database) -> None:
    """Events of machines and of attempts come by topics of their own, so the notice may be read first."""
    stage = Stage(database)
    machine = await stage.run_first_attempt()
    await stage.tell(progressed(1, 99))
    await stage.tell(events.InterruptionNoticed(machine_id=machine, action="terminate", notice_seconds=5))
    await stage.turn()
    stage.cluster.exit(machine, 0)
    await stage.turn(seconds=6)
    await stage.tell(FINISHED)
    assert (await stage.job()).state == State.SUCCEEDED


async def test_a_last_word_that_never_comes_is_not_waited_for_for_ever(database: Database) -> None:
    stage = Stage(database)
    machine = await stage.run_first_attempt()
    await stage.tell(events.InterruptionNoticed(machine_id=machine, action="terminate", notice_seconds=5))
    await stage.turn()
    stage.cluster.exit(machine, 0)
    for _ in range(8):
        await stage.turn(seconds=7)
        assert (await stage.job()).current_attempt == 1
    await stage.turn(seconds=7)
    assert [(one.attempt, one.reason) for one in stage.heard(events.JobRequeued)] == [(1, "spot-interrupted")]


async def test_a_machine_that_ended_with_its_finished_pod_is_no_loss(database: Database) -> None:
    """EC2 tells the end of every machine, also of one that shut itself down when its pod was done."""
    stage = Stage(database)
    machine = await stage.run_first_attempt()
    await stage.tell(progressed(1, 99))
    stage.cluster.exit(machine, 0)
    await stage.tell(events.MachineLost(machine_id=machine, reason="terminated"))
    for _ in range(5):
        await stage.turn(seconds=5)
    await stage.tell(FINISHED)
    assert (await stage.job()).state == State.SUCCEEDED


@pytest.mark.parametrize("spoke", [False, True], ids=["before its first event", "after some"])
async def test_a_pod_that_died_silently_on_a_machine_that_lives_has_ended(database: Database, spoke: bool) -> None:
    """Not every cluster knows when: the wait for a last word begins when the scheduler first sees it dead."""
    stage = Stage(database)
    machine = await stage.run_first_attempt()
    if spoke:
        await stage.turn(seconds=60)
        await stage.tell(progressed(1, 9))
    stage.cluster.says(machine, state=PodState.EXITED, exit_code=1)
    await stage.turn(seconds=60)
    assert (await stage.job()).state == State.RUNNING, "its last word may be on its way"
    await stage.turn(seconds=4)
    assert [(one.attempt, one.reason) for one in stage.heard(events.JobRequeued)] == [(1, "error")]
