"""Between the decisions (admission, waiting) and the tables: whether a job that is looked at may launch, and if not,
what it and its user are told.

One decision at a time: it is made under one lock, from what the same transaction sees, and a job that may launch takes
its place in that transaction. So no number of schedulers passes a limit together, and a crash leaves either both or
neither. A place is kept until the job ends; only the market's wait gives it back, where no deadline needs it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from google.protobuf.message import Message
from prometheus_client import Counter, Gauge
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler import admission, waiting
from services.scheduler import queue_values as values
from services.scheduler.admission import Decision
from services.scheduler.domain import EndReason, Job, State
from services.scheduler.endings import fail, held
from services.scheduler.places import Span
from services.scheduler.queue_store import PredictionRow, QueueRow, QueueStore, WaitRow
from services.scheduler.settings import Settings
from services.scheduler.waiting import MARKET_RULES, Told
from sskai.database import Database
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

PREDICTIONS = Counter(
    "sskai_scheduler_wait_predictions",
    "Foretold starts that came, by the rule that held the job and by whether they came within the interval",
    ["rule", "covered"],
)
WAITING = Gauge("sskai_scheduler_waiting_jobs", "Jobs that wait, by the rule that holds them", ["rule"])
RULES = (
    *("no-plan", "no-capacity", "quota", "priority", "fair-share", "budget"),
    *("tenant-budget", "waiting-for-spot", "reserve"),
)

LOOK_AGAIN_SECONDS = 5.0
LOOKS_PER_SECOND = 50  # of all who are held, together; those who may launch are woken
# Prices fall and plans are made anew: so long a job is held whose budget does not pay for its plan, then it fails.
BUDGET_PATIENCE_SECONDS = 3600.0
# A decision on more jobs than this stands for so many times the processor time that it took: until then the same jobs
# are held. 10,000 waiting jobs take 0.5 to 0.7 s, most of it to read them.
MANY_JOBS = 500
REUSE = 10
WAITS_AT_A_TIME = 500


@dataclass
class LastDecision:
    """The newest decision of this process. One on many jobs holds them for a while longer: that can only delay."""

    decision: Decision | None = None
    made_at: float = 0.0  # monotonic
    took_seconds: float = 0.0  # of the processor

    @property
    def stands_for_seconds(self) -> float:
        """How much longer nobody decides anew; 0: decide."""
        if self.decision is None or len(self.decision.verdicts) <= MANY_JOBS:
            return 0.0
        return max(0.0, self.made_at + REUSE * self.took_seconds - time.monotonic())

    def keep(self, decision: Decision, took_seconds: float) -> None:
        self.decision, self.made_at, self.took_seconds = decision, time.monotonic(), took_seconds


OtherWay = Callable[[], Awaitable[float | None]]


class Queue:
    """The queue for one transaction."""

    def __init__(self, session: AsyncSession, settings: Settings, now: datetime, last: LastDecision) -> None:
        self.store = QueueStore(session)
        self.session = session
        self.settings = settings
        self.now = now
        self.last = last

    async def admit(self, job: Job) -> tuple[Job, list[Message], bool]:
        """(the queued job, what to tell, whether it may launch): without a place it is held, or has failed."""
        row = await self.store.row(job.job_id)
        if row is None or not row.placed:
            await self.store.lock()
            row = await self.store.row(job.job_id) or self._new(job)
        await self._close_if_started(row)
        values.measure(row, job)
        if row.placed:
            return self._admitted(job)
        decision, stands = self.last.decision, self.last.stands_for_seconds
        verdict = decision.verdicts.get(job.job_id) if decision and stands else None
        if stands and verdict is None:
            # It came after the last decision on many: the next one is about it, too.
            return replace(job, due_at=self.now + timedelta(seconds=stands)), [], False
        if decision is None or verdict is None or not verdict.rule:
            decision = await self.decide(job.job_id)
            verdict = decision.verdicts[job.job_id]
        if not verdict.rule:
            row.placed, row.placed_at = True, self.now
            return self._admitted(job)
        if verdict.rule == "budget" and self._has_waited_long_for_money(job, row):
            failed = replace(job.to(State.FAILED), due_at=None)
            return failed, [fail(failed, EndReason.BUDGET_EXHAUSTED.word, verdict.detail, self.now)], False
        line = decision.line(job.job_id)
        span = waiting.in_line(line) if line else await self._until_money(verdict.rule, row)
        # Who has no place does not look for capacity: `retry.duration` is not about that time.
        job = replace(job, waiting_since=None)
        again = max(LOOK_AGAIN_SECONDS, len(decision.verdicts) / LOOKS_PER_SECOND)
        return *await self._hold(job, row, verdict.rule, verdict.detail, again, span, verdict.position), False

    async def hold(
        self, job: Job, rule: str, detail: str, seconds: float, *, other_way: OtherWay | None = None
    ) -> tuple[Job, list[Message]]:
        """The job waits for something else than its place: it looks again in so many seconds.

        `other_way`: after how long it goes on without what it waits for; asked only where that is told.
        """
        row = await self.store.row(job.job_id) or self._new(job)
        if rule in MARKET_RULES:
            # With a deadline its place must be there when it has to go on demand; without one others may use it.
            row.placed = row.placed and job.deadline is not None
            zones = values.spot_zones(job)
            if zones and not any(zone in detail for zone in zones):
                detail = f"{detail} (in {', '.join(zones)})"
        span = None
        if row.rule != rule or self._may_tell(row):
            span = await self._until_let_go(job, row, rule, other_way)
        return await self._hold(job, row, rule, detail, seconds, span, 0)

    async def decide(self, asking: str = "") -> Decision:
        """Decide on everybody who wants a place now, and give the others theirs at once. After the store's `lock`."""
        started = time.process_time()
        holders = [values.holder_of(row, self.now) for row in await self.store.holders()]
        contenders = [values.waiting_of(row) for row in await self.store.contenders(asking)]
        spent: dict[str, float] = {}
        if self.settings.tenant_budget_usd_per_month is not None:
            spent = {
                tenant: amount / NANO_PER_USD
                for tenant, amount in (await self.store.spent_nano_usd(self._month)).items()
            }
        decision = admission.decide(contenders, holders, values.limits_of(self.settings), self.now, spent)
        self.last.keep(decision, time.process_time() - started)
        if others := [job_id for job_id in decision.launch if job_id != asking]:
            await self.store.place(others, self.now)
        return decision

    async def close(self, row: QueueRow, started_at: datetime | None) -> None:
        """The wait is over: the predictions meet what happened. `started_at` None: it was given up."""
        ended = started_at is not None
        for prediction in await self.store.open_predictions(row.job_id):
            await self._meets(prediction, started_at or self.now, ended=ended)
        self._keep_wait(row, started_at or self.now, ended=ended)
        row.rule, row.kind, row.since, row.told_at = "", "", None, None
        row.earliest = row.expected = row.latest = None

    async def _hold(  # noqa: PLR0917 - the parts of one sentence
        self, job: Job, row: QueueRow, rule: str, detail: str, seconds: float, span: Span | None, position: int
    ) -> tuple[Job, list[Message]]:
        if row.rule != rule:
            self._keep_wait(row, self.now, ended=False)
            row.rule, row.kind, row.since, row.told_at = rule, values.kind_of(job, rule), self.now, None
        job = replace(job, due_at=self.now + timedelta(seconds=seconds))
        if not self._may_tell(row):
            return job, []
        if span is not None:
            span = waiting.stretched(span, await self.store.calibration(rule))
        foretold = waiting.moments(self.now, span)
        told = Told(rule, row.told_at, row.earliest, row.expected, row.latest) if row.told_at else None
        if not waiting.worth_telling(told, rule, foretold[1] if foretold else None, self.now):
            return job, []
        row.told_at = self.now
        row.earliest, row.expected, row.latest = foretold or (None, None, None)
        if span is not None:
            self.session.add(
                PredictionRow(
                    job_id=job.job_id,
                    rule=rule,
                    made_at=self.now,
                    low_seconds=span.low,
                    expected_seconds=span.expected,
                    high_seconds=span.high,
                )
            )
        since = row.since or self.now
        return job, [held(job, rule, detail, self.now, since=since, foretold=foretold, position=position)]

    def _admitted(self, job: Job) -> tuple[Job, list[Message], bool]:
        """It has its place; told once in a job's life."""
        if job.admitted or job.plan is None:
            return job, [], True
        ids = {"job_id": job.job_id, "tenant_id": job.tenant_id, "plan_id": job.plan.plan_id}
        return replace(job, admitted=True), [events.JobAdmitted(**ids, admitted_at=self.now)], True

    def _may_tell(self, row: QueueRow) -> bool:
        return row.told_at is None or (self.now - row.told_at).total_seconds() >= waiting.RATE_SECONDS

    async def _until_let_go(self, job: Job, row: QueueRow, rule: str, other_way: OtherWay | None) -> Span | None:
        if rule not in (*MARKET_RULES, "no-plan"):
            return None
        waited = (self.now - row.since).total_seconds() if row.since and row.rule == rule else 0.0
        past = await self.store.past_waits(rule, values.kind_of(job, rule))
        span = waiting.of_past_waits(rule, past, waited)
        seconds = await other_way() if other_way is not None else None
        return span if seconds is None else waiting.at_most(span, seconds)

    async def _until_money(self, rule: str, row: QueueRow) -> Span | None:
        """A month's budget is there again when the next one begins; what jobs still hold may come free at any time."""
        limit = self.settings.tenant_budget_usd_per_month
        if rule != "tenant-budget" or limit is None:
            return None
        spent = (await self.store.spent_nano_usd(self._month)).get(row.tenant_id, 0)
        if spent + row.committed_nano_usd <= limit * NANO_PER_USD or row.committed_nano_usd > limit * NANO_PER_USD:
            return None
        return waiting.known((values.next_month(self.now) - self.now).total_seconds())

    def _has_waited_long_for_money(self, job: Job, row: QueueRow) -> bool:
        patience = job.spec.retry.duration_seconds or BUDGET_PATIENCE_SECONDS
        return row.rule == "budget" and row.since is not None and (self.now - row.since).total_seconds() > patience

    async def _close_if_started(self, row: QueueRow) -> None:
        """It has been launched since it last waited, and has come back before anybody noted that."""
        if row.rule and row.since is not None:
            started_at = await self.store.started_since(row.job_id, row.since)
            if started_at is not None:
                await self.close(row, started_at)

    async def _meets(self, prediction: PredictionRow, at: datetime, *, ended: bool) -> None:
        told = Span(prediction.low_seconds, prediction.expected_seconds, prediction.high_seconds)
        actual = (at - prediction.made_at).total_seconds()
        if not ended and actual <= told.high:
            # Given up within the interval: nobody knows what would have come.
            await self.session.delete(prediction)
            return
        prediction.actual_seconds = actual
        rule, covered = prediction.rule, ended and waiting.covers(told, actual)
        PREDICTIONS.labels(rule=rule, covered=str(covered).lower()).inc()
        calibration = waiting.learned(await self.store.calibration(rule), told, actual)
        await self.store.keep_calibration(rule, calibration, covered)

    def _keep_wait(self, row: QueueRow, at: datetime, *, ended: bool) -> None:
        if row.rule in (*MARKET_RULES, "no-plan") and row.since is not None:
            seconds = max(0.0, (at - row.since).total_seconds())
            self.session.add(WaitRow(rule=row.rule, kind=row.kind, seconds=seconds, ended=ended, at=at))

    def _new(self, job: Job) -> QueueRow:
        row = QueueRow(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            priority=values.priority_of(job),
            submitted_at=job.submitted_at,
            placed=False,
            month=self._month,
            counted_nano_usd=job.spent_nano_usd,
            rule="",
            kind="",
        )
        values.measure(row, job)
        self.session.add(row)
        return row

    @property
    def _month(self) -> str:
        return values.month_of(self.now)


async def tend_queue(database: Database, settings: Settings, now: datetime, last: LastDecision) -> int:
    """Note which waits are over, close the books, and give places to those who may launch. Returns to how many."""
    async with database.transaction() as session:
        queue = Queue(session, settings, now, last)
        if not await queue.store.try_lock():
            return 0  # somebody decides right now
        for row, started_at, ended in await queue.store.waits_that_are_over(WAITS_AT_A_TIME):
            if started_at is not None or ended:
                await queue.close(row, started_at)
        await session.flush()
        await queue.store.close_books(values.month_of(now))
        by_rule = await queue.store.waiting_by_rule()
        for rule in RULES:
            WAITING.labels(rule=rule).set(by_rule.get(rule, 0))
        if not set(by_rule) - {*MARKET_RULES, "no-plan", "reserve"} or last.stands_for_seconds:
            return 0
        return len((await queue.decide()).launch)


async def forget_old_waits(database: Database, now: datetime) -> None:
    """What is kept of waits and months is limited."""
    async with database.transaction() as session:
        await QueueStore(session).forget(now, values.month_of(now - timedelta(days=31 * 13)))
