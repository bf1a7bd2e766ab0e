"""Loads and saves what handlers and loops decide on, inside their transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.domain import Rules
from services.monitor.ledger import AttemptLog, Receipt, Row
from services.monitor.notices import LEAD_SECONDS, Desk
from services.monitor.retraining import Endpoint
from services.monitor.settings import Settings
from services.monitor.spend_store import SpendStore
from services.monitor.storage import COMPUTE
from services.monitor.tables import (
    AttemptRow,
    Base,
    EndpointRow,
    JobRow,
    ModelVersionRow,
    ReceiptRow,
    ReferenceRow,
    SpendRow,
)
from sskai.contract import moment
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD


class Store:
    """One transaction's view of the monitor's tables."""

    def __init__(self, session: AsyncSession, rules: Rules | None = None, lead_seconds: float = LEAD_SECONDS) -> None:
        self.session = session
        self.rules = rules or Rules()
        self._lead_seconds = lead_seconds

    def cloud(self, now: datetime) -> Desk:
        """What the cloud said of machines."""
        return Desk(self.session, now, self._lead_seconds)

    async def _insert(self, table: type[Base], **values: Any) -> bool:
        """Insert a row unless its key is taken; whether it was inserted."""
        statement = upsert(table).values(**values).on_conflict_do_nothing().returning(*table.__table__.primary_key)
        return (await self.session.execute(statement)).first() is not None

    # Jobs and their accounts

    async def job(self, job_id: str, tenant_id: str) -> JobRow:
        """The job's account, locked; a new one if this is the first that is heard of the job."""
        values = {
            "budget_fraction_told": 0.0,
            "planned": False,
            "dataset_bytes": 0,
            "weight_bytes": 0,
            "weights_are_ours": False,
            "dataset_name": "",
            "dataset_version": 0,
        }
        await self._insert(JobRow, job_id=job_id, tenant_id=tenant_id, due_at=None, **values)
        return (await self.session.scalars(select(JobRow).filter_by(job_id=job_id).with_for_update())).one()

    async def spent_nano_usd(self, job_id: str) -> int:
        """By the job's machines."""
        return await SpendStore(self.session).spent_nano_usd(job_id)

    async def ledger_rows(self, job_id: str) -> list[Row]:
        rows = await self.session.scalars(select(SpendRow).filter_by(job_id=job_id, kind=COMPUTE, endpoint_id=""))
        return [
            Row(row.interval, row.attempt, row.started_at, row.ended_at, row.amount_nano_usd, row.on_demand_nano_usd)
            for row in rows
        ]

    async def add_receipt(self, job: JobRow, receipt: Receipt, now: datetime) -> None:
        body = {"outcome": job.outcome, **asdict(receipt)}
        self.session.add(ReceiptRow(job_id=job.job_id, tenant_id=job.tenant_id, body=body, issued_at=now))

    async def receipt(self, job_id: str, tenant_id: str) -> ReceiptRow | None:
        return (await self.session.scalars(select(ReceiptRow).filter_by(job_id=job_id, tenant_id=tenant_id))).first()

    async def spend(self, job_id: str, tenant_id: str) -> Sequence[SpendRow]:
        """Rows of a job's machines, in order."""
        statement = select(SpendRow).filter_by(job_id=job_id, tenant_id=tenant_id, kind=COMPUTE, endpoint_id="")
        statement = statement.order_by(SpendRow.interval)
        return (await self.session.scalars(statement)).all()

    # Attempts

    async def attempt(self, job_id: str, tenant_id: str, attempt: int) -> AttemptLog:
        """What is known of an attempt, locked until the end of the transaction."""
        await self._insert(
            AttemptRow,
            job_id=job_id,
            attempt=attempt,
            tenant_id=tenant_id,
            stopped=False,
            requeued=False,
            finished=False,
            cloud="",
            region="",
        )
        return _log(await self._attempt_row(job_id, attempt))

    async def place_attempt(self, event: events.AttemptStarted) -> None:
        """Where an attempt runs, and since when."""
        row = await self._attempt_row(event.job_id, event.attempt)
        row.cloud, row.region = event.placement.cloud, event.placement.region
        row.started_at = moment(event.started_at)

    async def attempts(self, job_id: str) -> list[AttemptLog]:
        rows = await self.session.scalars(select(AttemptRow).filter_by(job_id=job_id).order_by(AttemptRow.attempt))
        return [_log(row) for row in rows]

    async def save_attempt(self, job_id: str, log: AttemptLog) -> None:
        row = await self._attempt_row(job_id, log.attempt)
        row.resumed_from_step, row.resumed_at = log.resumed or (None, None)
        row.first_step, row.first_step_at = log.first_step or (None, None)
        row.last_step, row.last_step_at = log.last_step or (None, None)
        row.step_seconds_at_step, row.step_seconds = log.step_seconds or (None, None)
        row.stopped, row.requeued, row.finished = log.stopped, log.requeued, log.finished

    async def _attempt_row(self, job_id: str, attempt: int) -> AttemptRow:
        statement = select(AttemptRow).filter_by(job_id=job_id, attempt=attempt).with_for_update()
        return (await self.session.scalars(statement)).one()

    # Endpoints, the versions they serve, and retraining

    async def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """The endpoint, locked; None if it is not known."""
        row = await self.session.get(EndpointRow, endpoint_id, with_for_update=True)
        return Endpoint(**{field.name: getattr(row, field.name) for field in fields(Endpoint)}) if row else None

    async def save_endpoint(self, endpoint: Endpoint) -> None:
        await self.session.merge(
            EndpointRow(**{field.name: getattr(endpoint, field.name) for field in fields(Endpoint)})
        )

    async def add_model_version(self, event: events.ModelVersionReady) -> None:
        await self._insert(
            ModelVersionRow,
            model_id=event.model_id,
            version=event.version,
            tenant_id=event.tenant_id,
            job_id=event.job_id,
            dataset_uri=event.dataset_uri,
        )

    async def model_version(self, model_id: str, version: int) -> ModelVersionRow | None:
        return await self.session.get(ModelVersionRow, (model_id, version))

    async def retrain_spent_usd(self, endpoint_id: str, since: datetime) -> float:
        """What the endpoint's retrains cost."""
        statement = (
            select(func.sum(SpendRow.amount_nano_usd))
            .join(JobRow, JobRow.job_id == SpendRow.job_id)
            .where(JobRow.retrain_endpoint_id == endpoint_id, SpendRow.ended_at > since)
        )
        return int(await self.session.scalar(statement) or 0) / NANO_PER_USD

    # Drift

    async def want_reference(self, tenant_id: str, model_id: str, version: int) -> None:
        """Have the loop fetch what a served version's training data asks, unless it is there. Version 0 has none."""
        if version:
            await self._insert(ReferenceRow, model_id=model_id, version=version, tenant_id=tenant_id)


def store_of(settings: Settings) -> Callable[[AsyncSession], Store]:
    """With the rules that the settings make."""
    return partial(Store, rules=settings.rules, lead_seconds=settings.interruption_lead_seconds)


def _log(row: AttemptRow) -> AttemptLog:
    return AttemptLog(
        attempt=row.attempt,
        resumed=_pair(row.resumed_from_step, row.resumed_at),
        first_step=_pair(row.first_step, row.first_step_at),
        last_step=_pair(row.last_step, row.last_step_at),
        step_seconds=_pair(row.step_seconds_at_step, row.step_seconds),
        stopped=row.stopped,
        requeued=row.requeued,
        finished=row.finished,
    )


def _pair(step: int | None, value: Any) -> tuple[int, Any] | None:
    return None if step is None else (step, value)
