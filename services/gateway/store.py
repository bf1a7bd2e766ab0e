"""The gateway's read models and event log: rows to values and back."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, cast

from sqlalchemy import Select, Table, bindparam, desc, exists, func, insert, or_, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import domain, endpoints, timeline
from services.gateway.aliases import Aliases
from services.gateway.domain import JobState, JobView
from services.gateway.endpoints import EndpointState, EndpointView
from services.gateway.event_log import EventLog
from services.gateway.library import Library
from services.gateway.paging import Paging
from services.gateway.plain import plain
from services.gateway.tables import (
    ACTIVE_JOBS,
    EndpointRow,
    JobRow,
    ModelRow,
    PlanRow,
    ReceiptRow,
    ReplayRow,
    RetrainRow,
    SpendRow,
)
from services.gateway.timelines import Timelines
from services.gateway.traffic import Traffic
from sskai.contract import moment
from sskai.events import v1 as events
from sskai.statements import Statement

Row = TypeVar("Row", JobRow, PlanRow, EndpointRow)


class PlanKind(StrEnum):
    """What was planned, in the job file's words."""

    FINETUNE = "finetune"
    ENDPOINT = "endpoint"


class Store:
    """One transaction's view. Jobs are locked while they change, then the tenant's end of the event log."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self.library = Library(session)
        self.timelines = Timelines(session)
        self.aliases = Aliases(session)
        self.traffic = Traffic(session)
        self.event_log = EventLog(session)

    # Jobs

    async def submit_job(
        self, event: events.JobSubmitted, trace_id: str, now: datetime, *, count_to: int
    ) -> tuple[JobRow, int]:
        """The row of a job whose id was just drawn, and how many others of its tenant have not ended: `count_to` at
        most."""
        values = _new_job(event.job_id, event.tenant_id, now, **_as_submitted(event, trace_id))
        counted = {"of_tenant": event.tenant_id, "count_to": count_to}
        ((active,),) = await _SUBMIT_JOB.all(self.session, {**values, **counted})
        return JobRow(**values), active

    async def add_job(self, event: events.JobSubmitted, trace_id: str, now: datetime) -> None:
        """The job as its submission says; it may be there, and later events of it may have come before."""
        asked = {"job_id": event.job_id, "tenant_id": event.tenant_id}
        known = await _HAS_SPEC.first(self.session, asked)
        if known is not None and known.has_spec:
            return
        submitted = _as_submitted(event, trace_id)
        if await self.session.scalar(_ADD_JOB, _new_job(**asked, now=now, **submitted)) is not None:
            return
        row = await self._locked_job(event.job_id, event.tenant_id)
        if row is None:
            raise ValueError(f"{event.job_id} belongs to somebody else")
        if row.spec is None:
            for name, value in submitted.items():
                setattr(row, name, value)
            await self.session.flush()

    async def follow_job(self, event: Any, now: datetime) -> bool:
        """One more fact of a job. False: it names a tenant that is not the job's, and changes nothing."""
        row = await self._job_to_change(event.job_id, event.tenant_id, now)
        if row is None:
            return False
        if isinstance(event, events.SpendRecorded):
            await self._spend(row, event)
        before = JobView.model_validate(row.view)
        mark = timeline.mark_of(before, event)
        if mark is not None:
            await self.timelines.keep(row.tenant_id, row.job_id, mark)
        view = domain.follow(before, event)
        row.view = view.model_dump(mode="json")
        row.state = view.state
        row.updated_at = now
        await self.session.flush()
        return True

    async def job(self, tenant_id: str, job_id: str, *, lock: bool = False) -> JobRow | None:
        query = _shown_jobs(tenant_id).where(JobRow.job_id == job_id)
        row: JobRow | None = await self.session.scalar(query.with_for_update() if lock else query)
        return row

    async def tenant_of_job(self, job_id: str) -> str | None:
        """For events that name a job and no tenant."""
        return await self.session.scalar(select(JobRow.tenant_id).where(JobRow.job_id == job_id))

    async def jobs(self, tenant_id: str, paging: Paging, **values: str | None) -> list[JobRow]:
        """A page, and one more. `values`: of columns; None: any."""
        query = _with(_shown_jobs(tenant_id), JobRow, values)
        return list(await self.session.scalars(paging.of(query, JobRow.job_id, JobRow.submitted_at)))

    async def active_jobs(self, tenant_id: str) -> int:
        """How many have not ended."""
        query = select(func.count()).select_from(JobRow).where(JobRow.tenant_id == tenant_id, text(ACTIVE_JOBS))
        return int(await self.session.scalar(query) or 0)

    async def _job_to_change(self, job_id: str, tenant_id: str, now: datetime) -> JobRow | None:
        empty = {"spec": None, "name": "", "submitted_at": None, "trace_id": ""}
        await self.session.execute(_ADD_JOB, _new_job(job_id, tenant_id, now, **empty))
        return await self._locked_job(job_id, tenant_id)

    async def _locked_job(self, job_id: str, tenant_id: str) -> JobRow | None:
        row: JobRow | None = await self.session.scalar(_JOB_TO_CHANGE, {"job_id": job_id, "tenant_id": tenant_id})
        return row

    async def _spend(self, row: JobRow, event: events.SpendRecorded) -> None:
        if await self._is_new_spend(event):
            row.spent_nano_usd += event.amount_nano_usd
            row.on_demand_nano_usd += event.on_demand_nano_usd

    async def _is_new_spend(self, event: events.SpendRecorded) -> bool:
        """An interval counts once, however often it is told."""
        new = await self.session.scalar(
            upsert(SpendRow)
            .values(
                job_id=event.job_id,
                interval=event.interval,
                tenant_id=event.tenant_id,
                amount_nano_usd=event.amount_nano_usd,
            )
            .on_conflict_do_nothing()
            .returning(SpendRow.interval)
        )
        return new is not None

    async def pay_for_endpoint(self, event: events.SpendRecorded) -> bool:
        """A row of the ledger of an endpoint's replicas. False: the tenant has no such endpoint."""
        row = await self.endpoint(event.tenant_id, event.endpoint_id, lock=True)
        if row is None:
            return False
        if await self._is_new_spend(event):
            row.view = EndpointView.model_validate(row.view).paid(event).model_dump(mode="json")
            await self.session.flush()
        return True

    async def answer_retrain(self, retrain_id: str, tenant_id: str, job_id: str) -> bool:
        """False: another job answers this request already."""
        statement = (
            upsert(RetrainRow)
            .values(retrain_id=retrain_id, tenant_id=tenant_id, job_id=job_id)
            .on_conflict_do_nothing()
            .returning(RetrainRow.retrain_id)
        )
        return await self.session.scalar(statement) is not None

    # Plans

    async def expect_plan(self, event: events.PlanRequested | events.EndpointPlanRequested) -> None:
        """A dry run was asked for; its answer will have the request's id."""
        of_job = isinstance(event, events.PlanRequested)
        plan_id = event.job_id if isinstance(event, events.PlanRequested) else event.plan_id
        self.session.add(
            PlanRow(
                id=plan_id,
                tenant_id=event.tenant_id,
                job_id=plan_id,
                kind=PlanKind.FINETUNE if of_job else PlanKind.ENDPOINT,
                plan_id=None,
                preview=True,
                status="pending",
                body={},
                created_at=moment(event.requested_at),
            )
        )
        await self.session.flush()

    async def keep_plan(self, event: events.PlanProposed | events.PlanRefused) -> bool:
        """The optimizer's answer. False: it names a tenant that is not the plan's, and changes nothing."""
        return await self._keep_plan(
            event,
            id=event.job_id if event.preview else event.plan_id,
            job_id=event.job_id,
            kind=PlanKind.FINETUNE,
            preview=event.preview,
            status="proposed" if isinstance(event, events.PlanProposed) else "refused",
            created_at=moment(event.proposed_at if isinstance(event, events.PlanProposed) else event.refused_at),
        )

    async def keep_endpoint_plan(self, event: events.EndpointPlanProposed) -> bool:
        """The same for an endpoint; its refusals are those of every plan."""
        return await self._keep_plan(
            event,
            id=event.plan_id,
            job_id=event.plan_id,
            kind=PlanKind.ENDPOINT,
            preview=True,
            status="proposed",
            created_at=moment(event.proposed_at),
        )

    async def _keep_plan(self, event: Any, **values: Any) -> bool:
        values |= {"tenant_id": event.tenant_id, "plan_id": event.plan_id or None, "body": plain(event)}
        statement = upsert(PlanRow).values(**values)
        kept = statement.on_conflict_do_update(
            index_elements=["id"],
            set_={name: statement.excluded[name] for name in ("status", "body", "plan_id")},
            where=PlanRow.tenant_id == event.tenant_id,
        )
        return await self.session.scalar(kept.returning(PlanRow.id)) is not None

    async def plan(self, tenant_id: str, plan_id: str) -> PlanRow | None:
        """By the id that it is shown under, or by the optimizer's own, which its events tell."""
        named = or_(PlanRow.id == plan_id, PlanRow.plan_id == plan_id)
        return await self.session.scalar(select(PlanRow).where(PlanRow.tenant_id == tenant_id, named).limit(1))

    async def plans(self, tenant_id: str, paging: Paging, **values: str | None) -> list[PlanRow]:
        """A page, and one more. `values`: of columns; None: any."""
        query = _with(select(PlanRow).where(PlanRow.tenant_id == tenant_id), PlanRow, values)
        return list(await self.session.scalars(paging.of(query, PlanRow.id, PlanRow.created_at)))

    # Replays

    async def expect_replay(self, event: events.PlanReplayRequested) -> None:
        self.session.add(
            ReplayRow(
                replay_id=event.replay_id,
                tenant_id=event.tenant_id,
                plan_id=event.plan_id,
                policy=event.policy,
                status="pending",
                body={},
                created_at=moment(event.requested_at),
            )
        )
        await self.session.flush()

    async def keep_replay(self, event: events.PlanReplayed) -> bool:
        """The optimizer's answer. False: it names a tenant that is not the replay's, and changes nothing."""
        values = {
            "replay_id": event.replay_id,
            "tenant_id": event.tenant_id,
            "plan_id": event.plan_id,
            "policy": event.policy,
            "status": "failed" if event.problem else "replayed",
            "body": plain(event),
            "created_at": moment(event.replayed_at),
        }
        statement = upsert(ReplayRow).values(**values)
        kept = statement.on_conflict_do_update(
            index_elements=["replay_id"],
            set_={name: statement.excluded[name] for name in ("status", "body")},
            where=(ReplayRow.tenant_id == event.tenant_id) & (ReplayRow.plan_id == event.plan_id),
        )
        return await self.session.scalar(kept.returning(ReplayRow.replay_id)) is not None

    async def replay(self, tenant_id: str, plan_id: str, replay_id: str) -> ReplayRow | None:
        """`plan_id` is the optimizer's."""
        query = select(ReplayRow).where(ReplayRow.tenant_id == tenant_id, ReplayRow.plan_id == plan_id)
        return await self.session.scalar(query.where(ReplayRow.replay_id == replay_id))

    # Endpoints

    async def add_endpoint(self, event: events.EndpointRequested, model: str) -> EndpointRow:
        row = EndpointRow(**_new_endpoint(event, model))
        self.session.add(row)
        await self.session.flush()
        return row

    async def know_endpoint(self, event: events.EndpointRequested) -> None:
        """One that a request made has its row; one that is only told of (the row was lost) gets it."""
        name = await self.aliases.name_of(event.tenant_id, event.model_id)
        model = f"{name}@{event.version}" if name and event.version else event.model_id
        await self.session.execute(upsert(EndpointRow).values(**_new_endpoint(event, model)).on_conflict_do_nothing())

    async def has_endpoint_named(self, tenant_id: str, name: str) -> bool:
        """Whether clients could mean a living endpoint by this name."""
        gone = (EndpointState.DELETING, EndpointState.DELETED)
        query = select(EndpointRow.endpoint_id).where(EndpointRow.tenant_id == tenant_id, EndpointRow.name == name)
        return await self.session.scalar(query.where(EndpointRow.state.not_in(gone)).limit(1)) is not None

    async def has_ready_endpoint_on(self, tenant_id: str, base_model_id: str) -> bool:
        """Whether an endpoint of this base, or of an adapter on it, answers already."""
        trained = (ModelRow.model_id == EndpointRow.model_id) & (ModelRow.version == EndpointRow.version)
        on_base = exists().where(trained, ModelRow.tenant_id == tenant_id, ModelRow.base_model_id == base_model_id)
        is_base = (EndpointRow.version == 0) & (EndpointRow.model_id == base_model_id)
        query = select(EndpointRow.endpoint_id).where(
            EndpointRow.tenant_id == tenant_id, EndpointRow.state == EndpointState.READY, or_(is_base, on_base)
        )
        return await self.session.scalar(query.limit(1)) is not None

    async def follow_endpoint(self, event: Any) -> bool:
        """One more fact of an endpoint. False: the tenant has no such endpoint, and nothing changes."""
        row = await self.endpoint(event.tenant_id, event.endpoint_id, lock=True)
        if row is None:
            return False
        view = endpoints.follow(EndpointView.model_validate(row.view), event)
        row.view = view.model_dump(mode="json")
        row.state = view.state
        served = (view.served_model_id, view.served_version)
        if view.served_version is not None and served != (row.model_id, row.version):
            row.model_id, row.version = view.served_model_id, view.served_version
            name = await self.aliases.name_of(row.tenant_id, row.model_id)
            row.model = f"{name}@{row.version}" if name and row.version else row.model_id
        await self.session.flush()
        return True

    async def endpoint(self, tenant_id: str, endpoint_id: str, *, lock: bool = False) -> EndpointRow | None:
        query = select(EndpointRow).where(EndpointRow.tenant_id == tenant_id, EndpointRow.endpoint_id == endpoint_id)
        return await self.session.scalar(query.with_for_update() if lock else query)

    async def endpoint_called(self, tenant_id: str, id_or_name: str) -> EndpointRow | None:
        """The endpoint with this id, or the living one that clients mean by this name."""
        gone = (EndpointState.DELETING, EndpointState.DELETED)
        named = (EndpointRow.name == id_or_name) & EndpointRow.state.not_in(gone)
        query = select(EndpointRow).where(
            EndpointRow.tenant_id == tenant_id, (EndpointRow.endpoint_id == id_or_name) | named
        )
        return (await self.session.scalars(query.order_by(desc(EndpointRow.endpoint_id)))).first()

    async def endpoints(self, tenant_id: str, paging: Paging, **values: str | None) -> list[EndpointRow]:
        """A page, and one more, without those that are deleted. `values`: of columns; None: any."""
        living = EndpointRow.state != EndpointState.DELETED
        query = _with(select(EndpointRow).where(EndpointRow.tenant_id == tenant_id, living), EndpointRow, values)
        return list(await self.session.scalars(paging.of(query, EndpointRow.endpoint_id, EndpointRow.created_at)))

    # Receipts

    async def keep_receipt(self, event: events.ReceiptIssued) -> None:
        """The first one stands: a receipt is issued once."""
        values = {
            "job_id": event.job_id,
            "tenant_id": event.tenant_id,
            "body": plain(event),
            "issued_at": moment(event.issued_at),
        }
        await self.session.execute(upsert(ReceiptRow).values(**values).on_conflict_do_nothing())

    async def receipt(self, tenant_id: str, job_id: str) -> ReceiptRow | None:
        return await self.session.scalar(
            select(ReceiptRow).where(ReceiptRow.tenant_id == tenant_id, ReceiptRow.job_id == job_id)
        )

    async def receipts(self, tenant_id: str, after: str | None, limit: int) -> list[ReceiptRow]:
        """Newest job first."""
        query = select(ReceiptRow).where(ReceiptRow.tenant_id == tenant_id)
        if after is not None:
            query = query.where(ReceiptRow.job_id < after)
        return list(await self.session.scalars(query.order_by(desc(ReceiptRow.job_id)).limit(limit)))


def _shown_jobs(tenant_id: str) -> Select[JobRow]:
    return select(JobRow).where(JobRow.tenant_id == tenant_id, JobRow.spec.is_not(None))


def _with(query: Select[Row], table: type[Row], values: dict[str, str | None]) -> Select[Row]:
    for name, value in values.items():
        if value is not None:
            query = query.where(getattr(table, name) == value)
    return query


# Made once: to make such a statement takes longer than to execute it.
_JOBS = cast(Table, JobRow.__table__)
_ADD_JOB = upsert(_JOBS).on_conflict_do_nothing().returning(_JOBS.c.job_id)
_JOB_TO_CHANGE = (
    select(JobRow)
    .where(JobRow.job_id == bindparam("job_id"), JobRow.tenant_id == bindparam("tenant_id"))
    .with_for_update()
)
_HAS_SPEC = Statement(
    select(_JOBS.c.spec.is_not(None).label("has_spec")).where(
        _JOBS.c.job_id == bindparam("job_id"), _JOBS.c.tenant_id == bindparam("tenant_id")
    )
)
_others = _JOBS.alias("others")
_active_others = select(_others.c.job_id).where(_others.c.tenant_id == bindparam("of_tenant"), text(ACTIVE_JOBS))
_SUBMIT_JOB = Statement(
    insert(_JOBS).returning(
        select(func.count()).select_from(_active_others.limit(bindparam("count_to")).subquery()).scalar_subquery()
    ),
    _JOBS.c.keys(),
)


def _as_submitted(event: events.JobSubmitted, trace_id: str) -> dict[str, Any]:
    return {
        "spec": event.spec.SerializeToString(),
        "kind": event.spec.kind,
        "name": event.spec.name,
        "model_id": event.spec.model.model_id,
        "dataset_id": event.spec.dataset.dataset_id,
        "submitted_at": moment(event.submitted_at),
        "trace_id": trace_id,
    }


def _new_job(job_id: str, tenant_id: str, now: datetime, **values: Any) -> dict[str, Any]:
    """The row of a job that has none."""
    empty = {"state": JobState.SUBMITTED, "view": {}, "spent_nano_usd": 0, "on_demand_nano_usd": 0, "updated_at": now}
    return {"job_id": job_id, "tenant_id": tenant_id, **empty, **values}


def _new_endpoint(event: events.EndpointRequested, model: str) -> dict[str, Any]:
    """The row of an endpoint that was just asked for."""
    return {
        "endpoint_id": event.endpoint_id,
        "tenant_id": event.tenant_id,
        "name": event.name,
        "kind": event.kind,
        "model": model,
        "model_id": event.model_id,
        "version": event.version,
        "sample_rate": event.sample_rate,
        "state": EndpointState.REQUESTED,
        "view": {},
        "created_at": moment(event.requested_at),
    }
