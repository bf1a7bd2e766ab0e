"""Whether the ledger balances: 1,000 simulated jobs with interruptions and price changes. Part of monitor.py.

The jobs are run by the scheduler's own rules (what is metered, when a budget stops), on machines whose prices walk and
which are taken away; each tells what a real one tells. The truth is kept beside them, in exact fractions: the integral
of price over machine time. What was told then goes through the monitor on a real PostgreSQL: shuffled, a third of it
twice, every trainer's clock up to five minutes wrong.

    balance     |sum of rows - integral|, of each job and of all
    budgets     spend beyond a job's budget, of the jobs that have one
    receipts    issued by the monitor = recomputed from the list of events alone, by a fold of a few lines
    order       totals of the monitor = totals of the list, whatever the order
    reserves    several jobs under one budget of their tenant ask, spend and are metered late: spend beyond it
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import func, select, update

from benchmarks.figures import Figure, figure
from services.monitor import budgets, domain, ledger, loops
from services.monitor.budgets import Account, Ask, Budget
from services.monitor.handlers import HANDLERS
from services.monitor.ledger import AttemptLog, Life
from services.monitor.spend_tables import DayRow
from services.monitor.store import Store
from services.monitor.tables import JobRow, ReceiptRow
from services.scheduler import money, reserving, transitions
from services.scheduler.domain import Job, State
from sskai.contract import moment, timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD
from sskai.testing import envelope, fresh_database, handle

JOBS, SEED = 1000, 7
METERING_SECONDS = 600.0  # between rows; fewer than the scheduler writes, so that 1,000 jobs can be replayed in minutes
SKEW_SECONDS = 300
START = datetime(2026, 11, 2, tzinfo=UTC)
ON_DEMAND_USD_PER_HOUR = 1.006
TENANTS, JOBS_PER_TENANT, TICK_SECONDS = 10, 12, 60.0


@dataclass
class Market:
    """A spot price that walks: another one for every launch."""

    dice: random.Random
    price: float = 0.35

    def quote(self) -> events.Placement:
        self.price = min(1.2, max(0.1, self.price * self.dice.uniform(0.8, 1.25)))
        spot = self.dice.random() < 0.85
        price = round(self.price, 4) if spot else ON_DEMAND_USD_PER_HOUR
        return events.Placement(
            cloud="aws",
            region="us-east-1",
            zone="use1-az1",
            instance_type="g5.xlarge",
            capacity_type=events.CAPACITY_TYPE_SPOT if spot else events.CAPACITY_TYPE_ON_DEMAND,
            price_usd_per_hour=price,
            on_demand_price_usd_per_hour=ON_DEMAND_USD_PER_HOUR,
        )


@dataclass
class Story:
    """What a job told, and what is true of it."""

    job: Job
    told: list[Message] = field(default_factory=list)
    owed: Fraction = Fraction(0)  # nano-USD, the integral of price over machine time
    now: datetime = START
    skew: timedelta = timedelta(0)

    @property
    def ids(self) -> dict[str, Any]:
        return {"job_id": self.job.job_id, "tenant_id": self.job.tenant_id}

    @property
    def rows(self) -> list[events.SpendRecorded]:
        return [one for one in self.told if isinstance(one, events.SpendRecorded)]

    def meter(self, seconds: float) -> None:
        """Time passes on the machine."""
        assert self.job.attempt is not None
        until = self.now + timedelta(seconds=seconds)
        micro = (until - self.now) // timedelta(microseconds=1)
        price = Fraction(str(self.job.attempt.placement.price_usd_per_hour))
        self.owed += price * NANO_PER_USD * micro / (3600 * 10**6)
        self.now = until
        self.job, rows = money.meter(self.job, until)
        self.told += rows

    def trainer(self, kind: type[Message], **values: Any) -> None:
        """By the trainer's clock, which is wrong."""
        number = self.job.attempt.number if self.job.attempt else 0
        self.told.append(kind(**self.ids, attempt=number, at=timestamp(self.now + self.skew), **values))


def simulate(number: int, dice: random.Random) -> Story:
    """One job's whole life."""
    steps, step_seconds = dice.randint(20, 400), dice.uniform(5, 60)
    expected = steps * step_seconds / 3600 * 0.4
    spec = events.JobSpec(kind="finetune", name=f"job-{number}", project=f"project-{number % 7}")
    if dice.random() < 0.5:
        spec.budget_usd = round(expected * dice.uniform(0.3, 2.0) + 0.15, 2)
    submitted = events.JobSubmitted(
        job_id=f"job_{number:04}", tenant_id=f"tenant_{number % TENANTS}", spec=spec, submitted_at=timestamp(START)
    )
    began = START + timedelta(seconds=dice.uniform(0, 20 * 86_400))
    submitted.submitted_at.CopyFrom(timestamp(began))
    story = Story(transitions.submitted(submitted, began, ""), now=began)
    story.told.append(submitted)
    naive = events.Candidate(
        placement=events.Placement(instance_type="g5.xlarge"),
        total_usd=events.Estimate(expected=expected * 2.5),
        hours=events.Estimate(expected=steps * step_seconds / 3600),
    )
    story.told.append(events.PlanProposed(**story.ids, plan_id="plan", naive=naive))
    market, saved = Market(dice), 0
    while saved < steps:
        story.now += timedelta(seconds=dice.uniform(0, 1800))  # waits for capacity
        saved, ended = _attempt(story, market, dice, saved, (steps, step_seconds))
        if ended:
            return story
    return story


def _attempt(
    story: Story, market: Market, dice: random.Random, saved: int, work: tuple[int, float]
) -> tuple[int, bool]:
    """(the steps that are saved after it, whether the job has ended)."""
    steps, step_seconds = work
    job = replace(story.job, state=State.QUEUED)
    job = transitions.begin_attempt(job, events.Candidate(placement=market.quote()), story.now)
    story.skew = timedelta(seconds=dice.uniform(-SKEW_SECONDS, SKEW_SECONDS))
    assert job.attempt is not None
    machine = f"i-{job.job_id}-{job.attempt.number}"
    story.job = transitions.launched(job, machine, story.now, story.now, METERING_SECONDS)
    ids = {**story.ids, "attempt": job.attempt.number, "machine_id": machine, "started_at": timestamp(story.now)}
    story.told.append(events.AttemptStarted(**ids, placement=job.attempt.placement))
    if money.must_stop_for_budget(story.job, METERING_SECONDS):
        return saved, _stop(story, dice)
    story.meter(dice.uniform(20, 200))  # start-up
    if money.must_stop_for_budget(story.job, METERING_SECONDS):
        return saved, _stop(story, dice)
    lasts = dice.expovariate(1 / (steps * step_seconds))
    step, lived, every = saved, 0.0, max(1, steps // 8)
    resumed_from = saved
    while step < steps:
        chunk = min(METERING_SECONDS, (steps - step) * step_seconds, max(1.0, lasts - lived))
        story.meter(chunk)
        lived += chunk
        before, step = step, min(steps, step + max(1, round(chunk / step_seconds)))
        if before == resumed_from and job.attempt.number > 1:
            story.trainer(events.AttemptResumed, from_attempt=job.attempt.number - 1, from_step=resumed_from)
        saves = step // every > saved // every and step < steps
        if before == resumed_from or saves or step == steps or lived >= lasts:
            story.trainer(events.AttemptProgressed, phase="training", step=step, step_seconds=step_seconds)
        if saves:
            saved = step
            story.trainer(events.CheckpointCommitted, step=step, bytes=10**9, cause="interval")
        if money.must_stop_for_budget(story.job, METERING_SECONDS):
            return step, _stop(story, dice)
        if lived >= lasts and step < steps:
            story.told.append(events.AttemptLost(**story.ids, attempt=job.attempt.number, reason="spot-interrupted"))
            story.told.append(events.JobRequeued(**story.ids, attempt=job.attempt.number, steps_done=saved))
            _close_attempt(story)
            return saved, False
    story.meter(dice.uniform(1, 40))  # publishing
    story.trainer(events.AttemptFinished, succeeded=True, steps=steps, median_step_seconds=step_seconds)
    times = {"submitted_at": story.told[0].submitted_at, "ended_at": timestamp(story.now)}  # type: ignore[attr-defined]
    ended = events.JobSucceeded(**story.ids, attempt=job.attempt.number, metered_intervals=story.job.intervals, **times)
    story.told.append(ended)
    return steps, True


def _stop(story: Story, dice: random.Random) -> bool:
    """The budget is near: save, and stop within the drain."""
    story.job = money.stop_within_budget(
        replace(story.job, stop_by=story.now + timedelta(seconds=money.DRAIN_SECONDS)), story.now
    )
    assert story.job.stop_by is not None
    story.meter(dice.uniform(0.2, 1.0) * (story.job.stop_by - story.now).total_seconds())
    times = {"submitted_at": story.told[0].submitted_at, "ended_at": timestamp(story.now)}  # type: ignore[attr-defined]
    story.told.append(
        events.JobFailed(**story.ids, reason="budget-exhausted", metered_intervals=story.job.intervals, **times)
    )
    return True


def _close_attempt(story: Story) -> None:
    assert story.job.attempt is not None
    story.job = replace(story.job, attempt=replace(story.job.attempt, ended_at=story.now))


# From the list of events alone


def recomputed(told: Sequence[Message]) -> ledger.Receipt:
    """A job's receipt by a fold over its events, without the monitor."""
    logs: dict[int, AttemptLog] = {}
    rows, life = [], Life()
    for one in told:
        number = getattr(one, "attempt", 0)
        log = logs.get(number) or AttemptLog(number)
        match one:
            case events.JobSubmitted():
                life = replace(life, submitted_at=moment(one.submitted_at))
                continue
            case events.PlanProposed():
                life = replace(life, naive=domain.naive_choice(one.naive))
                continue
            case events.SpendRecorded():
                times = moment(one.started_at), moment(one.ended_at)
                amounts = one.amount_nano_usd, one.on_demand_nano_usd
                rows.append(ledger.Row(one.interval, number, *times, *amounts))
            case events.AttemptProgressed():
                log = log.stepped(one.step, moment(one.at), one.step_seconds)
            case events.CheckpointCommitted():
                log = log.stepped(one.step, moment(one.at))
            case events.AttemptResumed():
                log = log.resumed_from(one.from_step, moment(one.at))
            case events.AttemptLost():
                log = replace(log, stopped=True)
            case events.JobRequeued():
                log = replace(log, requeued=True)
            case events.AttemptFinished():
                log = log.stepped(one.steps, moment(one.at), one.median_step_seconds)
                log = replace(log, finished=True)
            case events.JobSucceeded():
                life = replace(life, ended_at=moment(one.ended_at), succeeded=True)
            case events.JobFailed():
                life = replace(life, ended_at=moment(one.ended_at))
                continue
        logs[number] = log
    return ledger.receipt(rows, list(logs.values()), life)


# Through the monitor


async def replay(database: Database, stories: Sequence[Story], dice: random.Random, lanes: int = 4) -> int:
    """Everything in an order of chance, a third of it twice; the number of deliveries."""
    told = [envelope(one) for story in stories for one in story.told]
    deliveries = told + dice.sample(told, len(told) // 3)
    dice.shuffle(deliveries)

    async def lane(share: Iterable[Any]) -> None:
        for one in share:
            await handle(HANDLERS, database, Store, one)

    await asyncio.gather(*(lane(deliveries[place::lanes]) for place in range(lanes)))
    for _ in range(len(stories) // 50 + 2):
        async with database.transaction() as session:
            due = JobRow.due_at.is_not(None)
            await session.execute(update(JobRow).where(due).values(due_at=START, lease_until=None))
        await loops.issue_receipts(database, settle_seconds=0)
    return len(deliveries)


async def receipts(database: Database) -> dict[str, dict[str, Any]]:
    async with database.transaction() as session:
        rows = (await session.scalars(select(ReceiptRow))).all()
        return {row.job_id: {k: v for k, v in row.body.items() if k != "outcome"} for row in rows}


async def day_totals(database: Database) -> tuple[int, int, int]:
    """(paid, rows, machine microseconds) of the monitor's daily totals."""
    columns = (DayRow.amount_nano_usd, DayRow.rows, DayRow.machine_microseconds)
    async with database.transaction() as session:
        row = (await session.execute(select(*(func.sum(column) for column in columns)))).one()
    return tuple(int(one or 0) for one in row)  # type: ignore[return-value]


# Reserves


def overshoot_of_reserves(dice: random.Random) -> dict[str, Any]:
    """Jobs of several tenants, each under a budget that stops; answers and rows come late. Worst spend beyond any."""
    worst, stopped, spent_share = 0, 0, []
    for _ in range(TENANTS):
        amount = round(dice.uniform(2, 8) * NANO_PER_USD)
        spent, ended_early = _one_tenant(amount, dice)
        worst, stopped = max(worst, spent - amount), stopped + ended_early
        spent_share.append(spent / amount)
    return {
        "jobs": TENANTS * JOBS_PER_TENANT,
        "overshoot_nano_usd": max(0, worst),
        "jobs_stopped_or_held": stopped,
        "mean_share_of_budgets_spent": round(sum(spent_share) / len(spent_share), 3),
    }


def _one_tenant(amount: int, dice: random.Random) -> tuple[int, int]:
    budget = Budget("budget", "t", budgets.TENANT, "t", amount, action="stop")
    runs = [_Run(number, dice) for number in range(JOBS_PER_TENANT)]
    for tick in range(2000):
        now = START + timedelta(seconds=tick * TICK_SECONDS)
        for run in runs:
            run.tick(now)
        for run in runs:
            run.metered = run.job.spent_nano_usd if dice.random() < 0.5 or run.over else run.metered
            if run.request is not None and dice.random() < 0.7:
                others = budgets.outstanding([(one.limit, one.metered) for one in runs if one is not run])
                account = Account(budget, sum(one.metered for one in runs), others)
                ask = Ask(run.request.minimum_nano_usd, run.request.wanted_nano_usd)
                run.answered(budgets.decide(ask, run.limit, run.metered, [account]), now)
        if all(run.over for run in runs):
            break
    return sum(run.job.spent_nano_usd for run in runs), sum(not run.done for run in runs)


class _Run:
    """A job that asks, runs, and stops where it may not go on; the monitor's side of its reserve beside it."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self.placement = Market(dice).quote()
        self.seconds = dice.uniform(600, 6 * 3600)
        submitted = events.JobSubmitted(job_id=f"job_{number}", tenant_id="t", submitted_at=timestamp(START))
        job = transitions.submitted(submitted, START, "")
        usd = self.placement.price_usd_per_hour * self.seconds / 3600
        usd *= dice.uniform(0.5, 1.2)  # the plan was wrong
        plan = events.PlanProposed(profile=events.WorkProfile(total_steps=100))
        plan.candidates.add(placement=self.placement, total_usd=events.Estimate(expected=usd))
        self.job = replace(transitions.planned(job, plan, START), plan=plan)
        self.request: events.SpendReserveRequested | None = None
        self.limit = self.metered = 0
        self.over = self.done = False

    def tick(self, now: datetime) -> None:
        if self.over:
            return
        if self.job.attempt is None:
            asked = reserving.ask_to_launch(self.job, TICK_SECONDS, now)
            if asked is None:
                job = transitions.begin_attempt(self.job, self.job.plan.candidates[0], now)  # type: ignore[union-attr]
                self.job = transitions.launched(job, "m", now, now, TICK_SECONDS)
                self.ends_at = now + timedelta(seconds=self.seconds)
            else:
                self.job, told = asked
                self._keep(told)
                self.over = now - START > timedelta(hours=4)  # nothing comes free any more
            return
        self.job, _ = money.meter(self.job, min(now, self.ends_at))
        if now >= self.ends_at:
            self._end(done=True)
            return
        self.job, told = reserving.ask_while_running(self.job, TICK_SECONDS, now)
        self._keep(told)
        if money.must_stop_for_budget(self.job, TICK_SECONDS):
            self.job, _ = money.meter(self.job, now + timedelta(seconds=money.DRAIN_SECONDS))
            self._end(done=False)

    def answered(self, answer: budgets.Answer, now: datetime) -> None:
        assert self.request is not None
        number = self.request.number
        if answer.short is not None:
            declined = events.SpendReserveDeclined(number=number, limit_nano_usd=answer.limit)
            self.job = reserving.declined(self.job, declined, now)
            return
        self.limit, self.request = answer.limit, None
        reserved = events.SpendReserved(number=number, limit_nano_usd=answer.limit)
        self.job = reserving.reserved(self.job, reserved, now)

    def _keep(self, told: Sequence[Message]) -> None:
        for one in told:
            self.request = one  # type: ignore[assignment]

    def _end(self, *, done: bool) -> None:
        self.over, self.done, self.request = True, done, None
        self.metered = self.limit = self.job.spent_nano_usd


# The figures


async def measure(server_url: str, jobs: int = JOBS) -> dict[str, Any]:
    """All of it, as it was found."""
    dice = random.Random(SEED)
    stories = [simulate(number, dice) for number in range(jobs)]
    rows = [row for story in stories for row in story.rows]
    paid = sum(row.amount_nano_usd for row in rows)
    owed = sum((story.owed for story in stories), Fraction(0))
    worst = max(abs(sum(row.amount_nano_usd for row in story.rows) - story.owed) for story in stories)
    overshoot = max(
        (story.job.spent_nano_usd - story.job.budget_nano_usd for story in stories if story.job.budget_nano_usd),
        default=0,
    )
    expected = {story.job.job_id: recomputed(story.told) for story in stories}
    async with fresh_database(server_url, "monitor") as database:
        deliveries = await replay(database, stories, dice)
        issued = await receipts(database)
        totals = await day_totals(database)
    equal = sum(
        issued.get(job_id) == {name: getattr(receipt, name) for name in receipt.__slots__}
        for job_id, receipt in expected.items()
    )
    seconds = sum((row.ended_at.ToMicroseconds() - row.started_at.ToMicroseconds()) for row in rows)
    reserves = overshoot_of_reserves(random.Random(SEED))
    return {
        "jobs": jobs,
        "attempts": sum(story.job.attempts for story in stories),
        "rows": len(rows),
        "paid_usd": round(paid / NANO_PER_USD, 2),
        "integral_usd": round(float(owed / NANO_PER_USD), 2),
        "difference_nano_usd": round(float(paid - owed), 1),
        "worst_job_difference_nano_usd": round(float(worst), 1),
        "jobs_with_budget": sum(bool(story.job.budget_nano_usd) for story in stories),
        "stopped_by_budget": sum(isinstance(story.told[-1], events.JobFailed) for story in stories),
        "budget_overshoot_nano_usd": max(0, overshoot),
        "receipts_equal_to_recomputed": equal,
        "deliveries": deliveries,
        "events": sum(len(story.told) for story in stories),
        "skew_seconds": SKEW_SECONDS,
        "totals_after_replay_equal": totals == (paid, len(rows), seconds),
        "reserves": reserves,
    }


def figures(found: dict[str, Any]) -> list[Figure]:
    """What was promised of it."""
    jobs = found["jobs"]
    how = f"{jobs} jobs, {found['attempts']} attempts, {found['deliveries']} deliveries of {found['events']} events"
    cents = abs(round(100 * found["paid_usd"]) - round(100 * found["integral_usd"]))
    most = max(found["budget_overshoot_nano_usd"], found["reserves"]["overshoot_nano_usd"])
    lost = jobs - found["receipts_equal_to_recomputed"]
    same = int(found["totals_after_replay_equal"])
    skewed = f"shuffled, repeated, clocks up to {found['skew_seconds']} s apart"
    return [
        figure("rows_against_integral", cents, "US cents", 0, "equal", how=how),
        figure("budget_overshoot", most, "nano-USD", 0, "equal", how=f"{found['jobs_with_budget']} jobs had one"),
        figure("receipts_that_differ", lost, "receipts", 0, "equal", how="from those recomputed from events alone"),
        figure("totals_unchanged", same, "of 1", 1, "equal", how=skewed),
    ]
