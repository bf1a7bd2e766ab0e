"""Waiting on a real database: limits under many turns at once, order, shares, budgets, and what a held job says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from google.protobuf.message import Message
from sqlalchemy import func, select

from services.scheduler.loops import World, drive_jobs, tend_queue
from services.scheduler.queue_store import PredictionRow, QueueRow, QueueStore, TenantMonthRow, WaitRow
from services.scheduler.queueing import forget_old_waits
from services.scheduler.store import JobRow, Store
from sskai.contract import moment, timestamp
from sskai.database import Database
from sskai.events import v1 as events
from tests.scheduler.examples import START, progressed, proposed, submitted
from tests.scheduler.test_life_of_a_job import Stage

SERVICE = "scheduler"
SPOT = [f"aws/us-east-1/{zone}/g5.xlarge/spot" for zone in ("use1-az1", "use1-az2")]

Make = Callable[..., Stage]


@pytest.fixture
def make(database: Database) -> Make:
    return lambda **settings: Stage(database, **settings)


def job(
    job_id: str,
    tenant_id: str = "tenant_a",
    *,
    priority: events.Priority = events.PRIORITY_NORMAL,
    machines: int = 1,
    later: float = 0.0,
    usd: float | None = None,
    **options: float,
) -> list[Message]:
    """A submission and its plan."""
    submission, plan = submitted(job_id, **options), proposed(job_id)
    submission.tenant_id = plan.tenant_id = tenant_id
    submission.spec.priority = priority
    submission.submitted_at.CopyFrom(timestamp(START + timedelta(seconds=later)))
    for candidate in plan.candidates:
        candidate.machine_count = machines
        if usd is not None:
            candidate.total_usd.expected = usd
    return [submission, plan]


async def states(stage: Stage) -> dict[str, str]:
    async with stage.database.transaction() as session:
        rows = await session.execute(select(JobRow.job_id, JobRow.state))
        return {row.job_id: row.state for row in rows}


async def running(stage: Stage) -> list[str]:
    return sorted(job_id for job_id, state in (await states(stage)).items() if state == "running")


async def finish(stage: Stage, job_id: str) -> None:
    ended = events.AttemptFinished(job_id=job_id, attempt=1, succeeded=True, artifact_uri="s3://sskai/a", at=stage.now)
    await stage.tell(ended)


async def tend(stage: Stage, seconds: float = 0.0) -> None:
    """Time passes, waiting jobs get what came free, and everybody that is due is driven."""
    stage.now += timedelta(seconds=seconds)
    await tend_queue(stage.world)
    await stage.turn()


async def test_limits_hold_under_twenty_drives_at_once(make: Make) -> None:
    """Two schedulers, each with ten turns at the same moment."""
    stage = make(max_running_jobs_per_tenant=3, max_machines=5)
    for number in range(20):
        await stage.tell(*job(f"job_{number:02}", f"tenant_{'ab'[number % 2]}"))
    other = World(stage.database, stage.cluster, stage.world.settings, clock=lambda: stage.now)
    async with stage.database.transaction() as session:
        for row in (await session.scalars(select(JobRow))).all():
            row.due_at = START - timedelta(days=40_000)
    await asyncio.gather(*(drive_jobs(world) for world in (stage.world, other) for _ in range(10)))
    live = await running(stage)
    assert len(live) == 5
    assert {tenant: sum(int(name[-2:]) % 2 == tenant for name in live) for tenant in (0, 1)} in (
        {0: 3, 1: 2},
        {0: 2, 1: 3},
    )
    assert len(stage.cluster.running()) == 5


async def test_a_place_is_taken_with_the_attempt_or_not_at_all(make: Make) -> None:
    """A scheduler that dies while it decides leaves the job in line, and its place to the next one."""
    stage = make(max_running_jobs_per_tenant=1)
    await stage.tell(*job("job_1"))

    async def dies() -> None:
        async with stage.database.transaction() as session:
            store = Store(session)
            found = await store.job("job_1")
            assert found is not None
            _, told, has_place = await stage.world.queue(store, stage.now).admit(found)
            assert has_place
            assert told, "JobAdmitted"
            raise SystemError("killed before the commit")

    with pytest.raises(SystemError):
        await dies()
    await stage.tell(*job("job_2"))
    await stage.turn()
    assert len(await running(stage)) == 1


async def test_a_high_job_overtakes_and_the_one_behind_it_is_told(make: Make) -> None:
    stage = make(max_running_jobs_per_tenant=1)
    await stage.tell(*job("job_1"))
    await stage.turn()
    await stage.tell(*job("job_2", later=1), *job("job_3", later=2, priority=events.PRIORITY_HIGH))
    held: dict[str, events.JobHeld] = {}
    for seconds in (0, 70):  # at first the high one may not have been looked at yet
        await stage.turn(seconds)
        held |= {one.job_id: one for one in stage.heard(events.JobHeld)}
    assert held["job_2"].rule == "priority"
    assert held["job_2"].position == 2
    await finish(stage, "job_1")
    await tend(stage)
    assert await running(stage) == ["job_3"]
    assert [one.job_id for one in stage.heard(events.JobAdmitted)] == ["job_3"], (
        "told with its place, not with its plan"
    )
    await finish(stage, "job_3")
    await tend(stage)
    assert await running(stage) == ["job_2"]


async def test_machines_that_come_free_go_to_both_tenants_in_turn(make: Make) -> None:
    stage = make(max_machines=2)
    await stage.tell(*job("job_a0"), *job("job_a1", later=1))
    await stage.turn()
    for number in range(2, 5):
        await stage.tell(*job(f"job_a{number}", later=number), *job(f"job_b{number}", "tenant_b", later=50 + number))
    await stage.turn()
    ended = ["job_a0", "job_a1", "job_b2", "job_a2"]
    seen = [await running(stage)]
    for name in ended:
        await finish(stage, name)
        await tend(stage, 10)
        seen.append(await running(stage))
    assert seen == [
        ["job_a0", "job_a1"],
        ["job_a1", "job_b2"],
        ["job_a2", "job_b2"],
        ["job_a2", "job_b3"],
        ["job_a3", "job_b3"],
    ], "each machine that comes free goes to the tenant that has none"


async def test_a_held_job_says_its_rule_and_when_once(make: Make) -> None:
    stage = make(max_running_jobs_per_tenant=1)
    await stage.tell(*job("job_1"))
    await stage.turn()
    half = progressed(1, 50)
    half.step_seconds = 36
    await stage.tell(half, *job("job_2", later=5))
    held = []
    for _ in range(8):
        await stage.turn(6)
        held += stage.heard(events.JobHeld)
    (one,) = held
    assert (one.rule, one.position) == ("quota", 1)
    assert "1 of 1 jobs of this tenant run" in one.detail
    assert moment(one.since) == moment(one.held_at) == START + timedelta(seconds=6)
    assert moment(one.earliest_start) < moment(one.expected_start) < moment(one.latest_start)
    left = (moment(one.expected_start) - START).total_seconds()
    assert left == pytest.approx(1800, abs=10), "half of an hour's steps is done"


async def test_an_eta_that_moves_is_told_again(make: Make) -> None:
    stage = make(max_running_jobs_per_tenant=1)
    await stage.tell(*job("job_1"), *job("job_2", later=5))
    await stage.turn(6)
    (first,) = stage.heard(events.JobHeld)
    slow = progressed(1, 10)
    slow.step_seconds = 360  # ten times what was planned
    await stage.tell(slow)
    await stage.turn(30)
    assert not stage.heard(events.JobHeld), "not more often than once a minute"
    await stage.turn(40)
    (second,) = stage.heard(events.JobHeld)
    assert second.rule == "quota"
    assert moment(second.expected_start) > moment(first.expected_start) + timedelta(hours=5)
    assert second.since == first.since


async def test_an_interrupted_job_keeps_its_place(make: Make) -> None:
    stage = make(max_running_jobs_per_tenant=1)
    await stage.tell(*job("job_1", later=9))
    await stage.turn()
    await stage.tell(*job("job_2", priority=events.PRIORITY_HIGH))
    stage.cluster.interrupt("m-job-1-1")
    await stage.turn(1)
    await tend(stage)
    assert (await states(stage))["job_1"] == "planning"
    assert (await states(stage))["job_2"] == "queued"
    await stage.tell(proposed("job_1", after_attempt=1))
    await stage.turn()
    assert await running(stage) == ["job_1"]


@pytest.mark.parametrize("deadline_hours", [None, 20.0])
async def test_who_waits_for_the_market_lends_its_place_unless_a_deadline_needs_it(
    make: Make, deadline_hours: float | None
) -> None:
    stage = make(max_running_jobs_per_tenant=1)
    stage.cluster.denied = set(SPOT)
    patient = job("job_1", deadline_hours=deadline_hours)
    patient[0].spec.spot_policy = events.SPOT_POLICY_SPOT
    await stage.tell(*patient)
    for _ in range(3):
        await stage.turn(1)
    assert (await states(stage))["job_1"] == "queued"
    submission, plan = job("job_2", later=5)
    submission.spec.spot_policy = events.SPOT_POLICY_ON_DEMAND
    await stage.tell(submission, plan)
    await stage.turn(1)
    await tend(stage)
    assert await running(stage) == (["job_2"] if deadline_hours is None else [])


async def test_waits_for_spot_are_learned_and_foretold(make: Make) -> None:
    stage = make(patience_seconds=1e6)
    for number in range(4):
        stage.cluster.denied = set(SPOT)
        await stage.tell(*job(f"job_{number}", later=600 * number))
        await stage.turn()
        held = []
        for _ in range(20):
            await stage.turn(15)
            held += [one for one in stage.heard(events.JobHeld) if one.rule == "waiting-for-spot"]
        assert held
        assert "use1-az1" in held[0].detail
        stage.cluster.denied = set()
        for _ in range(5):  # an offer that denied again and again is left alone for minutes
            await stage.turn(60)
        await tend(stage)
        assert f"job_{number}" in await running(stage)
    async with stage.database.transaction() as session:
        waits = (await session.scalars(select(WaitRow.seconds).where(WaitRow.ended))).all()
        assert len(waits) >= 4
        assert all(100 < seconds < 700 for seconds in waits)
        kinds = set(await session.scalars(select(WaitRow.kind)))
        assert kinds == {SPOT[0]}
        predictions = (await session.scalars(select(PredictionRow))).all()
        assert predictions
        assert all(one.actual_seconds is not None for one in predictions)
        rows = (await session.scalars(select(QueueRow))).all()
        assert {row.rule for row in rows} == {""}, "nobody waits any more"
        assert (await QueueStore(session).calibration("waiting-for-spot")).high != 0


async def test_a_wait_that_was_given_up_teaches_only_how_long_it_lasted(make: Make) -> None:
    stage = make(patience_seconds=1e6)
    stage.cluster.denied = set(SPOT)
    await stage.tell(*job("job_1"))
    for _ in range(4):
        await stage.turn(10)
    await stage.tell(events.JobCancelRequested(job_id="job_1", tenant_id="tenant_a"))
    await tend(stage)
    async with stage.database.transaction() as session:
        (wait,) = (await session.scalars(select(WaitRow))).all()
        assert not wait.ended
        assert not (await session.scalars(select(PredictionRow))).all()
        assert not (await session.scalars(select(QueueRow))).all(), "ended jobs leave the queue"


async def test_work_that_its_budget_does_not_pay_for_is_held_then_fails_with_advice(make: Make) -> None:
    stage = make()
    await stage.tell(*job("job_1", usd=2.0, budget_usd=1.5))
    await stage.turn()
    (held,) = stage.heard(events.JobHeld)
    assert held.rule == "budget"
    assert "1.50 USD" in held.detail
    assert not held.HasField("expected_start"), "nobody can say when prices fall"
    failed = []
    for _ in range(8):
        await stage.turn(600)
        failed += stage.heard(events.JobFailed)
    (failure,) = failed
    assert failure.reason == "budget-exhausted"
    assert "raise budget.total_usd" in failure.advice


async def test_a_cheaper_plan_lets_a_held_job_go(make: Make) -> None:
    stage = make()
    await stage.tell(*job("job_1", usd=2.0, budget_usd=1.5))
    await stage.turn()
    assert not await running(stage)
    await stage.tell(proposed("job_1"))
    await stage.turn(6)
    assert await running(stage) == ["job_1"]


async def test_a_tenants_month_is_not_overspent_and_begins_anew(make: Make) -> None:
    stage = make(tenant_budget_usd_per_month=5.0)
    await stage.tell(*job("job_1", usd=3.0), *job("job_2", usd=3.0, later=1), *job("job_3", "tenant_b", usd=3.0))
    await stage.turn()
    assert await running(stage) == ["job_1", "job_3"]
    (held,) = stage.heard(events.JobHeld)
    assert (held.job_id, held.rule) == ("job_2", "tenant-budget")
    assert "3.00 USD are reserved" in held.detail
    async with stage.database.transaction() as session:
        row = await session.get(JobRow, "job_1")
        assert row is not None
        row.spent_nano_usd = 3_000_000_000
    await finish(stage, "job_1")
    await tend(stage, 70)
    await stage.turn(6)
    assert "job_2" not in await running(stage), "what was spent stays spent"
    (held,) = [one for one in stage.heard(events.JobHeld) if one.job_id == "job_2"] or [held]
    async with stage.database.transaction() as session:
        (month,) = (await session.scalars(select(TenantMonthRow))).all()
        assert (month.tenant_id, month.month) == ("tenant_a", "2126-11")
        assert month.spent_nano_usd >= 3_000_000_000
    stage.now = stage.now.replace(month=12, day=1)
    await tend(stage)
    await tend(stage, 6)
    assert "job_2" in await running(stage)


async def test_a_gang_waits_for_all_its_machines(make: Make) -> None:
    stage = make(max_machines=4)
    await stage.tell(*job("job_1", machines=2))
    await stage.turn()
    for one in (job("job_2", machines=3, later=1), job("job_3", machines=2, later=2), job("job_4", later=3)):
        await stage.tell(*one)
        await tend(stage, 6)
    assert await running(stage) == ["job_1", "job_4"], "the fourth takes the machine that nobody ahead of it needs"
    await finish(stage, "job_1")
    await tend(stage)
    assert await running(stage) == ["job_2", "job_4"]
    assert (await states(stage))["job_3"] == "queued"


async def test_jobs_from_before_the_queue_count(make: Make) -> None:
    stage = make(max_running_jobs_per_tenant=1)
    await stage.tell(*job("job_1"))
    await stage.turn()
    async with stage.database.transaction() as session:
        await session.delete(await session.get(QueueRow, "job_1"))
    await stage.tell(*job("job_2"))
    await stage.turn()
    assert await running(stage) == ["job_1"]


async def test_what_is_kept_of_waits_is_limited(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make()
    monkeypatch.setattr("services.scheduler.queue_store.KEPT_WAITS", 10)
    async with stage.database.transaction() as session:
        for number in range(30):
            session.add(WaitRow(rule="no-capacity", kind="", seconds=number, ended=True, at=stage.now))
        session.add(TenantMonthRow(tenant_id="t", month="2120-01", spent_nano_usd=1))
        session.add(TenantMonthRow(tenant_id="t", month="2126-01", spent_nano_usd=1))
    await forget_old_waits(stage.database, stage.now)
    async with stage.database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(WaitRow)) == 10
        assert (await session.scalars(select(TenantMonthRow.month))).all() == ["2126-01"]
    await forget_old_waits(stage.database, stage.now + timedelta(days=100))
    async with stage.database.transaction() as session:
        assert not (await session.scalars(select(WaitRow))).all()


async def test_the_search_for_capacity_begins_with_the_place(make: Make) -> None:
    """`retry.duration` limits the search of who may launch, not the time in line."""
    stage = make(max_running_jobs_per_tenant=1)
    await stage.tell(*job("job_1"))
    await stage.turn()
    submission, plan = job("job_2", later=1)
    submission.spec.retry.duration_seconds = 600
    submission.spec.spot_policy = events.SPOT_POLICY_SPOT
    await stage.tell(submission, plan)
    for _ in range(3):
        await stage.turn(600)
    stage.cluster.denied = set(SPOT)
    await finish(stage, "job_1")
    await tend(stage)
    began = stage.now
    failed: list[Message] = []
    while not failed and (stage.now - began).total_seconds() < 3000:
        await tend(stage, 30)
        failed = stage.heard(events.JobFailed)
    assert [getattr(one, "reason", "") for one in failed] == ["no-capacity"]
    assert 600 < (stage.now - began).total_seconds() < 800


@pytest.mark.parametrize("deadline_hours", [None, 3.0])
async def test_a_wait_for_spot_is_foretold_by_the_policy_that_has_it_wait(
    make: Make, deadline_hours: float | None
) -> None:
    """Nobody is told a start that is later than the moment at which the job goes on demand."""
    stage = make()
    stage.cluster.denied = set(SPOT)
    await stage.tell(*job("job_1", deadline_hours=deadline_hours))
    async with stage.database.transaction() as session:
        for number in range(60):
            session.add(WaitRow(rule="waiting-for-spot", kind=SPOT[0], seconds=9e4 + number, ended=True, at=stage.now))
    held: list[events.JobHeld] = []
    while not await running(stage) and (stage.now - START).total_seconds() < 4 * 3600:
        await stage.turn(30)
        held += [one for one in stage.heard(events.JobHeld) if one.rule == "waiting-for-spot"]
    (machine,) = stage.cluster.running()
    assert stage.cluster.pods[machine].placement.capacity_type == events.CAPACITY_TYPE_ON_DEMAND
    assert held
    waited = (stage.now - moment(held[0].held_at)).total_seconds()
    foretold = (moment(held[0].expected_start) - moment(held[0].held_at)).total_seconds()
    assert foretold == pytest.approx(waited, rel=0.25, abs=120)
