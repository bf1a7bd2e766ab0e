"""Money is reserved before it is spent: no launch without it, more is asked for in time, nothing passes the limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.scheduler import money, reserving
from services.scheduler.domain import Job
from sskai.database import Database
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD
from tests.scheduler.examples import START, progressed, proposed, running_job, submitted
from tests.scheduler.stage import Stage

SERVICE = "scheduler"
METERING = 5.0
BUDGET = {"budget_id": "budget_1", "tenant_id": "tenant_a"}


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def budget_set(scope: str = "tenant", target: str = "tenant_a", **changes: object) -> events.BudgetSet:
    values = {"amount_nano_usd": NANO_PER_USD, "period": "month", "action": "stop", "set_at": START, **changes}
    return events.BudgetSet(**BUDGET, scope=scope, target=target, **values)  # type: ignore[arg-type]


def granted(number: int, limit: int) -> events.SpendReserved:
    return events.SpendReserved(job_id="job_1", tenant_id="tenant_a", number=number, limit_nano_usd=limit)


def refused(number: int, limit: int = 0) -> events.SpendReserveDeclined:
    ids = {"job_id": "job_1", "tenant_id": "tenant_a"}
    return events.SpendReserveDeclined(**ids, number=number, limit_nano_usd=limit, detail="0.10 USD are left")


def asked(stage: Stage) -> list[events.SpendReserveRequested]:
    return [one for one in stage.told if isinstance(one, events.SpendReserveRequested)]


async def test_a_job_under_a_budget_asks_once_and_is_launched_when_it_may(stage: Stage) -> None:
    await stage.tell(budget_set(), submitted(), proposed())
    await stage.turn()
    [request] = asked(stage)
    # An hour at 0.36 USD, and what an answer and a drain take.
    assert request.minimum_nano_usd == request.wanted_nano_usd == pytest.approx(0.391 * NANO_PER_USD, rel=0.01)
    [held] = stage.heard(events.JobHeld)
    assert held.rule == "reserve"  # type: ignore[attr-defined]
    await stage.turn(400)
    assert not asked(stage), "its request stands open"
    assert not stage.cluster.running()
    await stage.tell(granted(1, request.wanted_nano_usd))
    await stage.turn()
    assert (await stage.job()).state == "running"


async def test_a_declined_job_waits_with_the_reason_and_goes_on_when_money_comes_free(stage: Stage) -> None:
    await stage.tell(budget_set(), submitted(), proposed())
    await stage.turn()
    await stage.tell(refused(1))
    await stage.turn(61)
    assert (await stage.job()).ask_detail == "0.10 USD are left"
    assert not stage.cluster.running()
    await stage.tell(granted(1, NANO_PER_USD))
    await stage.turn()
    assert (await stage.job()).state == "running"


@pytest.mark.parametrize(
    "other",
    [
        budget_set(action="warn"),
        budget_set("project", "chat"),
        budget_set("endpoint", "endpoint_1"),
        budget_set("job", "job_2"),
    ],
)
async def test_a_budget_that_warns_or_is_of_others_asks_nothing_of_a_job(stage: Stage, other: events.BudgetSet) -> None:
    await stage.tell(other, submitted(), proposed())
    await stage.turn()
    assert (await stage.job()).state == "running"


async def test_a_removed_budget_holds_nobody(stage: Stage) -> None:
    await stage.tell(budget_set(), submitted(), proposed())
    await stage.turn()
    await stage.tell(events.BudgetRemoved(**BUDGET, removed_at=START), budget_set(set_at=START.replace(year=2000)))
    await stage.turn(301)
    assert (await stage.job()).state == "running"


async def test_spend_stays_below_the_limit_and_the_newest_checkpoint_is_left(stage: Stage) -> None:
    """More is asked for in time; declined, the job saves and stops before the limit."""
    submission = submitted()
    submission.spec.project = "support"
    await stage.tell(budget_set("project", "support"), submission, proposed())
    await stage.turn()
    limit = 25_000_000  # 250 s at 0.36 USD an hour
    await stage.tell(granted(1, limit))
    await stage.turn()
    saved = events.CheckpointCommitted(
        job_id="job_1", tenant_id="tenant_a", attempt=1, step=40, uri="s3://sskai/c40", cause="interval"
    )
    await stage.tell(saved)
    requests: list[events.SpendReserveRequested] = []
    for step in range(100):
        await stage.tell(progressed(1, step))
        await stage.turn(5)
        requests += asked(stage)
        if requests:
            await stage.tell(refused(2, limit))
        if (await stage.job()).state == "draining":
            break
    assert [(one.number, one.project) for one in requests] == [(2, "support")]
    await stage.turn(61)
    job = await stage.job()
    assert job.state == "failed"
    assert 0.6 * limit < job.spent_nano_usd <= limit
    [failed] = stage.heard(events.JobFailed)
    assert failed.reason == "budget-exhausted"  # type: ignore[attr-defined]
    assert failed.artifact_uri == "s3://sskai/c40"  # type: ignore[attr-defined]
    assert "0.10 USD are left" in failed.advice  # type: ignore[attr-defined]
    await stage.ledger_holds()


async def test_a_job_that_runs_when_the_budget_is_set_asks_and_stops_when_declined(stage: Stage) -> None:
    await stage.run_first_attempt()
    await stage.turn(5)
    await stage.tell(budget_set())
    await stage.turn(5)
    [request] = asked(stage)
    assert request.spent_nano_usd == (await stage.job()).spent_nano_usd
    await stage.tell(refused(1))
    await stage.turn(5)
    assert (await stage.job()).state == "draining"


async def test_a_jobs_own_budget_can_be_changed_while_it_runs(stage: Stage) -> None:
    await stage.run_first_attempt(budget_usd=5.0)
    await stage.turn(5)
    await stage.tell(budget_set("job", "job_1", amount_nano_usd=10_000_000))
    await stage.turn(5)
    for _ in range(20):
        await stage.turn(10)
    job = await stage.job()
    assert job.state == "failed"
    assert job.spent_nano_usd <= 10_000_000


@given(
    price=st.floats(0.01, 100),
    limit=st.floats(0.001, 50),
    turns=st.lists(st.floats(0.5, METERING), max_size=300),
)
@example(price=36.0, limit=0.7, turns=[METERING] * 10)
def test_metered_in_time_a_job_never_passes_its_limit(price: float, limit: float, turns: list[float]) -> None:
    where = proposed().candidates[0].placement
    where.price_usd_per_hour = price
    job: Job = replace(running_job(where), limit_nano_usd=round(limit * NANO_PER_USD))
    affordable = job.limit_nano_usd or 0
    if affordable < money.interval_nano_usd(price, METERING + money.DRAIN_SECONDS):
        return  # it would not have been launched
    now = START
    for seconds in [*turns, METERING, METERING]:
        if money.must_stop_for_budget(job, METERING):
            break
        now += timedelta(seconds=seconds)
        job, _ = money.meter(job, now)
    job, _ = money.meter(job, now + timedelta(seconds=money.DRAIN_SECONDS))
    assert job.spent_nano_usd <= affordable + len(turns) + 3  # each row is rounded half up


def test_what_is_asked_for_is_bounded_by_the_jobs_own_budget() -> None:
    job = running_job()
    job.spec.budget_usd = 0.05
    _, [request] = reserving.ask_while_running(job, METERING, START)
    assert request.wanted_nano_usd == 50_000_000  # type: ignore[attr-defined]
