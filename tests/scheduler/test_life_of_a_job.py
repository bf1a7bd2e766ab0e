"""Handlers and loops on a real database and a small real cluster: a job's life, with what the market does to it."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from services.scheduler.machines_loop import watch_machines
from services.scheduler.money import DRAIN_SECONDS
from services.scheduler.store import AttemptRow, JobRow
from sskai import contract
from sskai.cluster import offer_of
from sskai.database import Database
from sskai.events import v1 as events
from tests.scheduler.examples import START, placement, progressed, proposed, submitted
from tests.scheduler.stage import Stage

SERVICE = "scheduler"


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


async def test_a_planned_job_is_launched_on_the_best_offer(stage: Stage) -> None:
    machine = await stage.run_first_attempt()
    pod = stage.cluster.pods[machine]
    assert (pod.job_id, pod.attempt, pod.placement.zone) == ("job_1", 1, "use1-az1")
    assert pod.env["SSKAI_ATTEMPT"] == "1"
    (started,) = stage.heard(events.AttemptStarted)
    assert started.machine_id == machine
    assert (await stage.job()).state == "running"


async def test_a_pod_is_told_what_was_planned_for_its_own_placement(stage: Stage) -> None:
    """Each candidate has its own interval and memory; a plan that gives none of its own has one for all."""
    plan = proposed()
    best, alternate = plan.candidates[0], plan.candidates[1]
    best.gradient_checkpointing, best.micro_batch_size, best.checkpoint_interval_steps = True, 2, 25
    best.interruptions_per_hour = 0.25
    assert not alternate.gradient_checkpointing
    await stage.tell(submitted(), plan)
    await stage.turn()
    first = json.loads(stage.cluster.pods["m-job-1-1"].env["SSKAI_PLAN"])
    assert (first["gradient_checkpointing"], first["checkpoint_interval_steps"]) == (True, 25)
    assert first["interruptions_per_hour"] == 0.25
    assert (first["micro_batch_size"], first["total_steps"], first["batch_size"]) == (2, 100, 8)

    stage.cluster.interrupt("m-job-1-1")
    await stage.turn(1)
    again = proposed(after_attempt=1)
    del again.candidates[0]
    await stage.tell(again)
    await stage.turn()
    second = json.loads(stage.cluster.pods["m-job-1-2"].env["SSKAI_PLAN"])
    assert (second["gradient_checkpointing"], second["checkpoint_interval_steps"]) == (False, 10)
    assert second["micro_batch_size"] == 4


async def test_a_plan_that_comes_before_its_job_is_kept(stage: Stage) -> None:
    await stage.tell(proposed(), submitted())
    assert (await stage.job()).state == "queued"
    await stage.turn()
    (admitted,) = stage.heard(events.JobAdmitted)
    assert admitted.plan_id == "plan_0"


async def test_a_job_and_its_plan_at_the_same_time_meet(stage: Stage) -> None:
    """They come by two topics, read side by side: neither may miss the other."""
    ids = [f"job_{number}" for number in range(2, 22)]
    await asyncio.gather(*(stage.tell(message(one)) for one in ids for message in (submitted, proposed)))
    async with stage.database.transaction() as session:
        states = set(await session.scalars(select(JobRow.state)))
    assert states == {"queued"}


async def test_a_refused_plan_fails_the_job_and_says_why(stage: Stage) -> None:
    await stage.tell(
        submitted(), events.PlanRefused(job_id="job_1", reason="deadline", detail="3 h short", advice="Give it 4 h.")
    )
    (failed,) = stage.heard(events.JobFailed)
    assert failed.reason == "no-plan:deadline"
    assert "Give it 4 h." in failed.advice


async def test_a_notice_drains_and_the_job_goes_on_elsewhere_without_a_lost_step(stage: Stage) -> None:
    machine = await stage.run_first_attempt()
    await stage.tell(progressed(1, 42))
    notice = events.InterruptionNoticed(machine_id=machine, action="terminate", notice_seconds=120)
    await stage.tell(notice, notice)
    await stage.turn()
    assert stage.cluster.drained == [machine]
    await stage.tell(events.AttemptDrained(job_id="job_1", tenant_id="tenant_a", attempt=1, step=42))
    (requeued,) = stage.heard(events.JobRequeued)
    assert (requeued.reason, requeued.steps_done, requeued.attempt) == ("spot-interrupted", 42, 1)
    await stage.tell(proposed(after_attempt=1))
    await stage.turn()
    assert stage.cluster.running() == [machine, "m-job-1-2"], "the drained pod may do its last act"
    await stage.turn(6)
    assert stage.cluster.running() == ["m-job-1-2"], "the drained pod was deleted, the next one runs"
    assert '"step": 42' in stage.cluster.pods["m-job-1-2"].env["SSKAI_PREVIOUS"]


async def test_a_rebalance_recommendation_is_no_notice(stage: Stage) -> None:
    machine = await stage.run_first_attempt()
    await stage.tell(events.InterruptionNoticed(machine_id=machine, action="rebalance"))
    assert (await stage.job()).state == "running"


async def test_a_machine_that_vanishes_without_notice_is_replaced(stage: Stage) -> None:
    machine = await stage.run_first_attempt()
    stage.cluster.interrupt(machine)
    await stage.turn(1)
    (lost,) = stage.heard(events.AttemptLost)
    assert lost.reason == "spot-interrupted"
    assert (await stage.job()).state == "planning"
    await stage.turn(10)  # no optimizer answers: the alternates of the old plan will do
    await stage.turn()
    assert stage.cluster.running() == ["m-job-1-2"]


async def test_unreachable_is_not_dead(stage: Stage) -> None:
    machine = await stage.run_first_attempt()
    stage.cluster.away = True
    for _ in range(25):
        with pytest.raises(ConnectionError):
            await stage.turn(60)
    stage.cluster.away = False
    await stage.turn(1)
    assert stage.cluster.running() == [machine]
    assert not stage.heard(events.AttemptLost)


async def test_an_old_attempt_changes_nothing(stage: Stage) -> None:
    machine = await stage.run_first_attempt()
    stage.cluster.interrupt(machine)
    await stage.turn(1)
    await stage.turn(10)
    await stage.turn()
    before = await stage.job()
    stage.told.clear()
    await stage.tell(
        progressed(1, 99),
        events.CheckpointCommitted(job_id="job_1", attempt=1, step=99),
        events.AttemptFinished(job_id="job_1", attempt=1, succeeded=True, artifact_uri="s3://sskai/zombie"),
        events.AttemptDrained(job_id="job_1", attempt=1, step=99),
    )
    after = await stage.job()
    assert (after.state, after.steps_saved, after.steps_told) == (before.state, before.steps_saved, before.steps_told)
    assert not stage.told


async def test_a_denied_offer_gives_way_to_the_next(stage: Stage) -> None:
    stage.cluster.denied = {"aws/us-east-1/use1-az1/g5.xlarge/spot"}
    await stage.tell(submitted(), proposed())
    await stage.turn()
    assert [denial.offer for denial in stage.heard(events.CapacityDenied)] == ["aws/us-east-1/use1-az1/g5.xlarge/spot"]
    await stage.turn()
    (machine,) = stage.cluster.running()
    assert stage.cluster.pods[machine].placement.zone == "use1-az2"


async def test_without_spot_an_early_job_waits_and_says_so_once(stage: Stage) -> None:
    stage.cluster.denied = {f"aws/us-east-1/{zone}/g5.xlarge/spot" for zone in ("use1-az1", "use1-az2")}
    await stage.tell(submitted(deadline_hours=20), proposed())
    held = []
    for _ in range(5):
        await stage.turn(1)
        held += stage.heard(events.JobHeld)
    assert [one.rule for one in held] == ["waiting-for-spot"] or [one.rule for one in held] == []
    assert not stage.cluster.running() or stage.cluster.pods[stage.cluster.running()[0]].placement.zone == "*"


async def test_a_job_looks_for_capacity_as_long_as_its_file_says(stage: Stage) -> None:
    stage.cluster.denied = {f"aws/us-east-1/{zone}/g5.xlarge/spot" for zone in ("use1-az1", "use1-az2")}
    job = submitted()
    job.spec.spot_policy = events.SPOT_POLICY_SPOT
    job.spec.retry.duration_seconds = 600
    await stage.tell(job, proposed())
    failed = []
    for _ in range(100):
        await stage.turn(30)
        failed += stage.heard(events.JobFailed)
        if failed:
            break
    (failure,) = failed
    assert failure.reason == "no-capacity"
    assert "regions" in failure.advice
    assert 600 < (stage.now - START).total_seconds() < 800


async def test_a_missing_secret_fails_the_job_and_says_what_to_set(stage: Stage) -> None:
    job = submitted()
    job.spec.secrets.append("HF_TOKEN")
    await stage.tell(job, proposed())
    await stage.turn()
    (failure,) = stage.heard(events.JobFailed)
    assert failure.reason == "user-error"
    assert "set the secret" in failure.advice


async def test_without_an_optimizer_the_user_is_told_what_the_job_waits_for(stage: Stage) -> None:
    await stage.tell(submitted())
    held = []
    for _ in range(6):
        await stage.turn(20)
        held += stage.heard(events.JobHeld)
    assert {one.rule for one in held} == {"no-plan"}
    assert len(held) <= 2, "once, and again at most every minute"
    await stage.tell(proposed())
    assert (await stage.job()).state == "queued"


async def test_the_point_of_no_return_moves_a_job_to_on_demand(stage: Stage) -> None:
    """One that has made no step yet: past its start-up, spot is ridden with one restart in hand."""
    machine = await stage.run_first_attempt(deadline_hours=1.5)
    await stage.turn(0.2 * 3600)
    assert stage.cluster.drained == []
    await stage.turn(0.25 * 3600)
    assert stage.cluster.drained == [machine]
    await stage.tell(events.AttemptDrained(job_id="job_1", tenant_id="tenant_a", attempt=1, step=5))
    await stage.tell(proposed(after_attempt=1))
    await stage.turn()
    await stage.turn(6)
    (now_on,) = stage.cluster.running()
    assert stage.cluster.pods[now_on].placement.capacity_type == events.CAPACITY_TYPE_ON_DEMAND


async def test_spend_never_passes_the_budget_and_leaves_the_newest_checkpoint(stage: Stage) -> None:
    plan = proposed()
    for candidate in plan.candidates:
        candidate.total_usd.expected = 0.05  # it takes longer than was planned
    await stage.tell(submitted(budget_usd=0.10), plan)  # 0.36 USD/h: 1,000 s
    await stage.turn()
    (machine,) = stage.cluster.running()
    checkpoint = events.CheckpointCommitted(job_id="job_1", attempt=1, step=20, uri="s3://sskai/jobs/job_1/c-20")
    await stage.tell(checkpoint)
    while not stage.cluster.drained:
        await stage.turn(5)
        assert (await stage.job()).spent_nano_usd <= 100_000_000
    assert stage.cluster.drained == [machine]
    stage.now += timedelta(seconds=DRAIN_SECONDS)  # it saves for as long as it may
    await stage.tell(events.AttemptDrained(job_id="job_1", tenant_id="tenant_a", attempt=1, step=21))
    (failed,) = stage.heard(events.JobFailed)
    assert failed.reason == "budget-exhausted"
    assert failed.artifact_uri == "s3://sskai/jobs/job_1/c-20"
    assert (await stage.job()).spent_nano_usd <= 100_000_000


async def test_success_is_told_once_with_every_ledger_row(stage: Stage) -> None:
    await stage.run_first_attempt()
    rows = []
    for _ in range(3):
        await stage.turn(20)
        rows += stage.heard(events.SpendRecorded)
    finished = events.AttemptFinished(job_id="job_1", attempt=1, succeeded=True, artifact_uri="s3://sskai/a", steps=100)
    stage.now += timedelta(seconds=7)
    stage.told.clear()
    await stage.tell(finished, finished)
    rows += stage.heard(events.SpendRecorded)
    (succeeded,) = stage.heard(events.JobSucceeded)
    assert [row.interval for row in rows] == list(range(1, succeeded.metered_intervals + 1))
    seconds = sum((contract.moment(row.ended_at) - contract.moment(row.started_at)).total_seconds() for row in rows)
    assert seconds == 67
    assert sum(row.amount_nano_usd for row in rows) == round(0.36e9 * 67 / 3600)


async def test_errors_are_retried_as_often_as_the_job_file_says(stage: Stage) -> None:
    job = submitted()
    job.spec.retry.max_restarts_on_errors = 1
    await stage.tell(job, proposed())
    await stage.turn()
    for attempt in (1, 2):
        stage.cluster.exit(f"m-job-1-{attempt}", 70)
        await stage.turn(5)
        if attempt == 1:
            await stage.turn(30)
            await stage.turn()
    (failed,) = stage.heard(events.JobFailed)
    assert failed.reason == "error"
    assert (await stage.job()).attempts == 2


async def test_the_trainers_last_word_is_not_overtaken_by_the_clusters(stage: Stage) -> None:
    machine = await stage.run_first_attempt()
    stage.cluster.exit(machine, 0)
    await stage.turn(0.5)
    assert (await stage.job()).state == "running"
    await stage.tell(events.AttemptFinished(job_id="job_1", attempt=1, succeeded=True, artifact_uri="s3://sskai/a"))
    assert (await stage.job()).state == "succeeded"


@pytest.mark.parametrize("running", [False, True])
async def test_cancel(stage: Stage, running: bool) -> None:
    cancel = events.JobCancelRequested(job_id="job_1", tenant_id="tenant_a")
    if not running:
        await stage.tell(submitted(), cancel, cancel, proposed())
        assert len(stage.heard(events.JobCancelled)) == 1
        return
    machine = await stage.run_first_attempt()
    stage.told.clear()
    await stage.tell(cancel)
    await stage.turn()
    assert stage.cluster.drained == [machine]
    await stage.turn(120)
    assert (await stage.job()).state == "cancelled"
    await stage.turn(1)
    assert not stage.cluster.running()


async def test_an_orphan_is_deleted(stage: Stage) -> None:
    await stage.run_first_attempt()
    await stage.tell(events.AttemptFinished(job_id="job_1", attempt=1, succeeded=True, artifact_uri="s3://sskai/a"))
    assert stage.cluster.running(), "the process may still linger after its last word"
    await stage.turn(1)
    assert not stage.cluster.running()


async def test_a_crash_between_launch_and_record_makes_no_second_machine(stage: Stage, database: Database) -> None:
    await stage.tell(submitted(), proposed())
    original, stage.cluster.launch = stage.cluster.launch, _dies_after(stage.cluster.launch)  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        await stage.turn()
    stage.cluster.launch = original  # type: ignore[method-assign]
    async with database.transaction() as session:  # the lease of the process that died runs out
        for row in (await session.scalars(select(JobRow))).all():
            row.lease_until = datetime(2000, 1, 1, tzinfo=START.tzinfo)
    await stage.turn(1)
    assert stage.cluster.running() == ["m-job-1-1"]
    assert (await stage.job()).state == "running"


class KilledError(BaseException):
    """Nothing that runs in the process sees the end of it."""


def _dies_after(launch):  # type: ignore[no-untyped-def]
    async def dying(pod):  # type: ignore[no-untyped-def]
        await launch(pod)
        raise KilledError("right after the machine exists")

    return dying


async def test_attempts_never_overlap_whatever_order_events_come_in(stage: Stage, database: Database) -> None:
    machine = await stage.run_first_attempt()
    stage.cluster.interrupt(machine)
    await asyncio.gather(
        watch_machines(stage.world),
        stage.tell(events.MachineLost(machine_id=machine)),
        stage.tell(events.AttemptDrained(job_id="job_1", attempt=1, step=3)),
    )
    await stage.turn(10)
    await stage.turn()
    async with database.transaction() as session:
        attempts = (await session.scalars(select(AttemptRow).order_by(AttemptRow.number))).all()
    assert [attempt.number for attempt in attempts] == [1, 2]
    assert attempts[0].ended_at is not None
    assert attempts[0].ended_at <= attempts[1].started_at


def test_placements_have_names() -> None:

    assert offer_of(placement(spot=False)) == "aws/us-east-1/use1-az1/g5.xlarge/on-demand"
