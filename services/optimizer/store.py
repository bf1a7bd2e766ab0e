"""What the optimizer remembers: jobs, planning requests, plans with their inputs, prices, denials, measured steps.

And what live feeds told: facts of machine types, placement scores, and how fresh each feed is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    case,
    delete,
    extract,
    func,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.optimizer.catalogue import DESCRIBED
from services.optimizer.completion import Exposure
from services.optimizer.prices import SCORE_SECONDS, Observed, Score
from services.optimizer.tables import (
    CorrectionRow,
    DenialRow,
    EndpointPlanRow,
    EndpointRequestRow,
    FeedRow,
    JobRow,
    MachineFactsRow,
    MarketRow,
    MeasurementRow,
    PlanningRow,
    PlanRow,
    PriceRow,
    ProfileRow,
    ScoreRow,
)
from services.optimizer.throughput import TYPICAL_TOKENS, Measured
from services.optimizer.values import History
from sskai import telemetry
from sskai.contract import new_id
from sskai.events import v1 as events

# Older measurements say little: drivers, libraries and machine generations move on.
MEASURED_DAYS = 90
# Markets change faster than machines.
EXPOSED_DAYS = 14

# Whose rows rest on a market.
DECIDED = (PlanRow, EndpointPlanRow)
Decided = TypeVar("Decided", PlanRow, EndpointPlanRow)


class Store:
    """Loads and saves within one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def job(self, tenant_id: str, job_id: str) -> JobRow | None:
        """The tenant's job, locked, so that two events about it take turns."""
        statement = select(JobRow).where(JobRow.job_id == job_id, JobRow.tenant_id == tenant_id).with_for_update()
        return (await self._session.scalars(statement)).one_or_none()

    async def job_by_id(self, job_id: str) -> JobRow | None:
        """For facts of the platform, which name no tenant."""
        return await self._session.get(JobRow, job_id, with_for_update=True)

    async def add_job(self, job_id: str, tenant_id: str, spec: events.JobSpec, now: datetime) -> JobRow:
        row = JobRow(
            job_id=job_id,
            tenant_id=tenant_id,
            spec=spec.SerializeToString(deterministic=True),
            after_attempt=0,
            steps_done=0,
            spent_usd=0.0,
            ended=False,
            updated_at=now,
        )
        self._session.add(row)
        return row

    async def ask_for_plan(self, job: JobRow, cause: str, now: datetime) -> None:
        """Have the job planned as it stands now. One and the same cause asks once."""
        await self._ask(
            now,
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            cause=cause,
            preview=False,
            after_attempt=job.after_attempt,
            spec=job.spec,
            steps_done=job.steps_done,
            spent_usd=job.spent_usd,
        )

    async def ask_for_preview(self, job_id: str, tenant_id: str, spec: events.JobSpec, now: datetime) -> None:
        """Have a plan made that nothing will be launched for."""
        await self._ask(
            now,
            job_id=job_id,
            tenant_id=tenant_id,
            cause="preview",
            preview=True,
            after_attempt=0,
            spec=spec.SerializeToString(deterministic=True),
            steps_done=0,
            spent_usd=0.0,
        )

    async def ask_for_endpoint_plan(
        self, plan_id: str, tenant_id: str, spec: events.EndpointSpec, now: datetime
    ) -> None:
        """Have an endpoint planned. A plan is asked for once."""
        statement = upsert(EndpointRequestRow).values(
            plan_id=plan_id,
            tenant_id=tenant_id,
            spec=spec.SerializeToString(deterministic=True),
            tries=0,
            traceparent=telemetry.current_traceparent(),
            requested_at=now,
        )
        await self._session.execute(statement.on_conflict_do_nothing())

    async def is_being_planned(self, job: JobRow) -> bool:
        """Whether a plan is on its way that will see everything known by now.

        Its request is locked: nobody begins the plan before this transaction, and what it knows, is committed.
        """
        waiting = (PlanningRow.due_at.is_not(None), PlanningRow.lease_until.is_(None))
        statement = select(PlanningRow.request_id).where(
            PlanningRow.job_id == job.job_id, PlanningRow.tenant_id == job.tenant_id, *waiting
        )
        return (await self._session.scalars(statement.with_for_update())).first() is not None

    async def forget_requests(self, job: JobRow) -> None:
        """An ended job needs no plan."""
        await self._session.execute(
            delete(PlanningRow).where(PlanningRow.job_id == job.job_id, PlanningRow.tenant_id == job.tenant_id)
        )

    async def newest_plan_on(self, instance_type: str, tenant_id: str, job_id: str) -> PlanRow | None:
        """The newest that has candidates of this type: another plan may have been made while a machine was ordered."""
        statement = (
            select(PlanRow)
            .where(PlanRow.job_id == job_id, PlanRow.tenant_id == tenant_id)
            .where(PlanRow.expected_steps.has_key(instance_type))
            .order_by(PlanRow.decided_at.desc(), PlanRow.plan_id.desc())
            .limit(1)
        )
        return (await self._session.scalars(statement)).first()

    async def history(self, request: PlanningRow, denied_since: datetime, now: datetime) -> History:
        """What the decision has to know beside the request itself."""
        first = (
            select(PlanRow.micro_batch_size)
            .where(PlanRow.job_id == request.job_id, PlanRow.tenant_id == request.tenant_id)
            .where(PlanRow.micro_batch_size > 0, PlanRow.preview.is_(False))
            .order_by(PlanRow.decided_at, PlanRow.plan_id)
            .limit(1)
        )
        saving = await self._saving(request)
        denied = select(DenialRow.offer).where(DenialRow.denied_at > denied_since).order_by(DenialRow.offer)
        return History(
            steps_done=request.steps_done,
            spent_usd=request.spent_usd,
            # Before the first attempt nothing ran that a resumed run would have to be equal to.
            micro_batch_size=(await self._session.scalar(first) or 0) if request.after_attempt else 0,
            denied=tuple((await self._session.scalars(denied)).all()),
            measured=await self._measured(now),
            exposures=await self._exposures(now),
            save_seconds=saving[0],
            stall_seconds=saving[1],
        )

    async def _measured(self, now: datetime) -> tuple[Measured, ...]:
        row = MeasurementRow
        keys = (row.family, row.hardware, row.method)
        y = func.ln(row.step_seconds / row.roofline_step_seconds)
        z = func.ln(func.greatest(row.tokens_per_micro_batch, 1.0) / TYPICAL_TOKENS)
        statement = (
            select(*keys, func.count(), *(func.sum(term) for term in (z, z * z, y, z * y, y * y)))
            .where(row.step_seconds > 0, row.started_at > now - timedelta(days=MEASURED_DAYS))
            .group_by(*keys)
            .order_by(*keys)
        )
        return tuple(Measured(*values) for values in await self._session.execute(statement))

    async def _exposures(self, now: datetime) -> tuple[Exposure, ...]:
        """What was seen of spot machines by region and type within EXPOSED_DAYS."""
        row, since = MeasurementRow, now - timedelta(days=EXPOSED_DAYS)
        hours = func.extract("epoch", func.coalesce(row.ended_at, now) - row.started_at) / 3600
        lived = (
            select(
                row.region,
                row.instance_type,
                func.sum(func.greatest(hours, 0)),
                func.count().filter(row.interrupted),
                func.count(),
            )
            .where(row.spot, row.started_at > since)
            .group_by(row.region, row.instance_type)
        )
        # cloud/region/zone/type/spot; a type's name holds no slash.
        region, kind = func.split_part(DenialRow.offer, "/", 2), func.split_part(DenialRow.offer, "/", 4)
        refused = (
            select(region, kind, func.sum(DenialRow.denials))
            .where(DenialRow.denied_at > since, DenialRow.offer.endswith("/spot"))
            .group_by(DenialRow.offer)
        )
        seen = {(each[0], each[1]): (float(each[2]), each[3], each[4]) for each in await self._session.execute(lived)}
        denials: dict[tuple[str, str], int] = {}
        for each in await self._session.execute(refused):
            denials[each[0], each[1]] = denials.get((each[0], each[1]), 0) + int(each[2])
        exposures = []
        for place in sorted(seen.keys() | denials.keys()):
            lived_hours, interruptions, launches = seen.get(place, (0.0, 0, 0))
            denied = denials.get(place, 0)
            exposures.append(Exposure(place[0], place[1], lived_hours, interruptions, launches + denied, denied))
        return tuple(exposures)

    async def _saving(self, request: PlanningRow) -> tuple[float, float]:
        """Seconds that the job's newest measured checkpoint took and stalled; zeros: there was none."""
        row = MeasurementRow
        statement = (
            select(row.save_seconds, row.stall_seconds)
            .where(row.job_id == request.job_id, row.tenant_id == request.tenant_id, row.save_seconds > 0)
            .order_by(row.attempt.desc())
            .limit(1)
        )
        found = (await self._session.execute(statement)).first()
        return (found[0] or 0.0, found[1] or 0.0) if found else (0.0, 0.0)

    async def market_version(self) -> tuple[Any, ...]:
        """Differs whenever a price, a fact or a score does: rows are only added, or replaced by newer ones."""
        columns = []
        for moment in (PriceRow.observed_at, MachineFactsRow.seen_at, ScoreRow.seen_at):
            columns += [
                select(func.count(moment)).scalar_subquery(),
                select(func.sum(extract("epoch", moment))).scalar_subquery(),
            ]
        return tuple((await self._session.execute(select(*columns))).one())

    async def observed_prices(self) -> dict[str, Observed]:
        row = PriceRow
        rows = await self._session.execute(select(row.offer, row.price_usd_per_hour, row.observed_at, row.source))
        return {offer: Observed(usd, observed_at, source) for offer, usd, observed_at, source in rows}

    async def newest_price(self, offer: str) -> Observed | None:
        """Without the lock that `observed_price` takes to replace it."""
        row = await self._session.get(PriceRow, offer)
        return None if row is None else Observed(row.price_usd_per_hour, row.observed_at, row.source)

    async def observed_price(self, offer: str) -> Observed | None:
        row = await self._session.get(PriceRow, offer, with_for_update=True)
        return None if row is None else Observed(row.price_usd_per_hour, row.observed_at, row.source)

    async def save_price(self, offer: str, observed: Observed) -> None:
        """Of two first prices of an offer that come at the same time, the newer one stands."""
        values = asdict(observed)
        statement = upsert(PriceRow).values(offer=offer, **values)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["offer"],
                set_={name: statement.excluded[name] for name in values},
                where=PriceRow.observed_at < statement.excluded.observed_at,
            )
        )

    async def machine_facts(self, source: str) -> dict[str, dict[str, Any]]:
        """What this source says, by instance type."""
        row = MachineFactsRow
        statement = select(row.instance_type, row.facts).where(row.source == source).order_by(row.instance_type)
        return {row.instance_type: row.facts for row in await self._session.execute(statement)}

    async def is_described(self, instance_type: str) -> bool:
        """Whether AWS described the type, and we know how fast it is."""
        row = await self.facts_of(instance_type)
        return row is not None and row.source == DESCRIBED

    async def facts_of(self, instance_type: str) -> MachineFactsRow | None:
        return await self._session.get(MachineFactsRow, instance_type)

    async def save_machine_facts(self, facts: Mapping[str, Mapping[str, Any]], source: str, seen_at: datetime) -> None:
        """By instance type; the newest word stands."""
        if not facts:
            return
        # In one order, so that two regions that describe the same types do not wait for each other in a circle.
        rows = [
            {"instance_type": name, "facts": dict(facts[name]), "source": source, "seen_at": seen_at}
            for name in sorted(facts)
        ]
        statement = upsert(MachineFactsRow).values(rows)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["instance_type"],
                set_={name: statement.excluded[name] for name in ("facts", "source", "seen_at")},
                where=MachineFactsRow.seen_at < statement.excluded.seen_at,
            )
        )

    async def scores(self) -> dict[str, Score]:
        row = ScoreRow
        rows = await self._session.execute(select(row.offer, row.score, row.seen_at))
        return {offer: Score(score, seen_at) for offer, score, seen_at in rows}

    async def save_scores(self, scores: Mapping[str, int], seen_at: datetime) -> None:
        """By offer. What is too old to say anything goes."""
        await self._session.execute(
            delete(ScoreRow).where(ScoreRow.seen_at < seen_at - timedelta(seconds=SCORE_SECONDS))
        )
        if not scores:
            return
        rows = [{"offer": offer, "score": scores[offer], "seen_at": seen_at} for offer in sorted(scores)]
        statement = upsert(ScoreRow).values(rows)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["offer"],
                set_={name: statement.excluded[name] for name in ("score", "seen_at")},
                where=ScoreRow.seen_at < statement.excluded.seen_at,
            )
        )

    async def add_feeds(self, regions: Iterable[str], kinds: Iterable[str]) -> None:
        """Due at once where they are new."""
        rows = [{"region": region, "kind": kind, "facts": 0} for region in regions for kind in kinds]
        await self._session.execute(upsert(FeedRow).values(rows).on_conflict_do_nothing())

    async def feeds(self) -> list[FeedRow]:
        return list((await self._session.scalars(select(FeedRow))).all())

    async def save_denial(self, offer: str, denied_at: datetime) -> None:
        """Counted within windows of EXPOSED_DAYS, so that an offer's bad day is forgotten."""
        statement = upsert(DenialRow).values(offer=offer, denied_at=denied_at, denials=1, since=denied_at)
        row = DenialRow
        recent = row.since > denied_at - timedelta(days=EXPOSED_DAYS)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["offer"],
                set_={
                    "denied_at": func.greatest(row.denied_at, statement.excluded.denied_at),
                    "denials": case((recent, row.denials + 1), else_=1),
                    "since": case((recent, row.since), else_=denied_at),
                },
            )
        )

    async def begin_measurement(self, row: MeasurementRow) -> None:
        await self._session.merge(row)

    async def measure(self, tenant_id: str, job_id: str, attempt: int, step_seconds: float) -> None:
        """The newest word on an attempt's step time; an attempt that nobody began is not measured."""
        row = MeasurementRow
        await self._session.execute(
            update(row)
            .where(row.job_id == job_id, row.attempt == attempt, row.tenant_id == tenant_id)
            .values(step_seconds=step_seconds)
        )

    async def measure_saving(
        self, tenant_id: str, job_id: str, attempt: int, *, save_seconds: float, stall_seconds: float
    ) -> None:
        """The newest word on what an attempt's checkpoints take."""
        row = MeasurementRow
        await self._session.execute(
            update(row)
            .where(row.job_id == job_id, row.attempt == attempt, row.tenant_id == tenant_id)
            .values(save_seconds=save_seconds, stall_seconds=stall_seconds)
        )

    async def end_attempts(
        self, tenant_id: str, job_id: str, now: datetime, *, attempt: int | None = None, interrupted: bool = False
    ) -> None:
        """An attempt (None: all of the job) runs no more. What ended once stays as it ended."""
        row = MeasurementRow
        which = [row.job_id == job_id, row.tenant_id == tenant_id, row.ended_at.is_(None)]
        if attempt is not None:
            which.append(row.attempt == attempt)
        await self._session.execute(update(row).where(*which).values(ended_at=now, interrupted=interrupted))

    async def waiting_jobs(
        self, after: str, *, decided_since: datetime, decided_before: datetime, limit: int
    ) -> list[tuple[JobRow, PlanRow]]:
        """Live jobs beyond this id without a running attempt or a request under way, each with its newest proposal
        (which was decided between these moments)."""
        running = select(MeasurementRow.job_id).where(
            MeasurementRow.job_id == JobRow.job_id, MeasurementRow.ended_at.is_(None)
        )
        asked = select(PlanningRow.job_id).where(PlanningRow.job_id == JobRow.job_id, PlanningRow.due_at.is_not(None))
        newest = (
            select(PlanRow.plan_id)
            .where(PlanRow.job_id == JobRow.job_id, PlanRow.tenant_id == JobRow.tenant_id, PlanRow.preview.is_(False))
            .order_by(PlanRow.decided_at.desc(), PlanRow.plan_id.desc())
            .limit(1)
            .correlate(JobRow)
            .scalar_subquery()
        )
        statement = (
            select(JobRow, PlanRow)
            .join(PlanRow, PlanRow.plan_id == newest)
            .where(JobRow.job_id > after, JobRow.ended.is_(False), ~running.exists(), ~asked.exists())
            .where(PlanRow.micro_batch_size > 0)
            .where(PlanRow.decided_at >= decided_since, PlanRow.decided_at < decided_before)
            .order_by(JobRow.job_id)
            .limit(limit)
            .with_for_update(of=JobRow, skip_locked=True)
        )
        return [(job, plan) for job, plan in await self._session.execute(statement)]

    async def stored_plan(self, tenant_id: str, plan_id: str, table: type[Decided]) -> tuple[Decided, str] | None:
        """A plan with the text of the market that it was made on (empty where it was made on none)."""
        statement = (
            select(table, MarketRow.text)
            .outerjoin(MarketRow, MarketRow.sha256 == table.market_sha256)
            .where(table.plan_id == plan_id, table.tenant_id == tenant_id)
        )
        found = (await self._session.execute(statement)).first()
        return None if found is None else (found[0], found[1] or "")

    async def remembered_profile(self, key: str, now: datetime) -> dict[str, Any] | None:
        statement = update(ProfileRow).where(ProfileRow.key == key).values(used_at=now).returning(ProfileRow.answer)
        answer: dict[str, Any] | None = await self._session.scalar(statement)
        return answer

    async def remember_profile(self, key: str, answer: dict[str, Any], now: datetime) -> None:
        statement = upsert(ProfileRow).values(key=key, answer=answer, used_at=now)
        await self._session.execute(statement.on_conflict_do_nothing())

    async def remember_correction(self, version: str, measured: tuple[Measured, ...], now: datetime) -> None:
        """What had been learnt when a plan was made; known for as long as the newest plan that names it."""
        learnt = upsert(CorrectionRow).values(
            version=version, measured=[asdict(each) for each in measured], learnt_at=now
        )
        await self._session.execute(learnt.on_conflict_do_update(index_elements=["version"], set_={"learnt_at": now}))

    async def save_plan(self, row: PlanRow | EndpointPlanRow, market_text: str) -> None:
        """The decision, and the market it was made on unless that is known."""
        if row.market_sha256 is not None:
            market = upsert(MarketRow).values(sha256=row.market_sha256, text=market_text, seen_at=row.decided_at)
            await self._session.execute(
                market.on_conflict_do_update(index_elements=["sha256"], set_={"seen_at": row.decided_at})
            )
        self._session.add(row)

    async def forget_before(self, moment: datetime) -> None:
        """Drop what is past its retention, at most some thousands of rows at a time."""
        old_plans = select(PlanRow.plan_id).where(PlanRow.decided_at < moment).limit(5000)
        await self._session.execute(delete(PlanRow).where(PlanRow.plan_id.in_(old_plans)))
        old_endpoints = select(EndpointPlanRow.plan_id).where(EndpointPlanRow.decided_at < moment).limit(5000)
        await self._session.execute(delete(EndpointPlanRow).where(EndpointPlanRow.plan_id.in_(old_endpoints)))
        kept = union_all(*(select(row.market_sha256).where(row.market_sha256.is_not(None)) for row in DECIDED))
        await self._session.execute(delete(MarketRow).where(MarketRow.seen_at < moment, MarketRow.sha256.not_in(kept)))
        await self._session.execute(delete(ProfileRow).where(ProfileRow.used_at < moment))
        await self._session.execute(delete(CorrectionRow).where(CorrectionRow.learnt_at < moment))
        await self._session.execute(delete(MeasurementRow).where(MeasurementRow.started_at < moment))
        await self._session.execute(delete(PriceRow).where(PriceRow.observed_at < moment))
        await self._session.execute(delete(MachineFactsRow).where(MachineFactsRow.seen_at < moment))
        await self._session.execute(
            delete(PlanningRow).where(PlanningRow.requested_at < moment, PlanningRow.due_at.is_(None))
        )
        row = EndpointRequestRow
        await self._session.execute(delete(row).where(row.requested_at < moment, row.due_at.is_(None)))
        await self._session.execute(delete(JobRow).where(JobRow.updated_at < moment, JobRow.ended))

    async def _ask(self, now: datetime, **columns: Any) -> None:
        statement = upsert(PlanningRow).values(
            request_id=new_id("req"),
            tries=0,
            traceparent=telemetry.current_traceparent(),
            requested_at=now,
            **columns,
        )
        await self._session.execute(statement.on_conflict_do_nothing())
