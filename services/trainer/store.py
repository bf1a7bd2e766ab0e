"""What the trainer's service remembers: results of jobs, the models they are versions of, checkpoints to clean up."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Double, ForeignKey, Integer, Text, UniqueConstraint, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import DateTime

from services.trainer.domain import ResultState
from sskai import telemetry
from sskai.claims import Claimable
from sskai.contract import moment, new_id
from sskai.database import service_metadata
from sskai.events import v1 as events


class Base(DeclarativeBase):
    metadata = service_metadata("trainer")
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, float: Double}  # noqa: RUF012


class ModelRow(Base):
    """A model of a tenant; each job of its name makes a version of it."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    newest_version: Mapped[int] = mapped_column(Integer)


class ResultRow(Claimable, Base):
    """What a job produced. Due until its artefact was verified, one way or the other."""

    __tablename__ = "results"
    __table_args__ = (UniqueConstraint("model_id", "version"),)
    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str]
    artifact_uri: Mapped[str]
    base_model_id: Mapped[str]
    base_uri: Mapped[str]
    method: Mapped[str]
    dataset_id: Mapped[str]
    dataset_uri: Mapped[str]
    eval_loss_before: Mapped[float]
    eval_loss_after: Mapped[float]
    state: Mapped[str]
    detail: Mapped[str]
    model_id: Mapped[str | None] = mapped_column(ForeignKey(ModelRow.model_id))
    version: Mapped[int | None] = mapped_column(Integer)
    traceparent: Mapped[str | None]


class EndedJobRow(Claimable, Base):
    """A job whose checkpoints are deleted some time after its end."""

    __tablename__ = "ended_jobs"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    artifact_uri: Mapped[str]  # empty: none
    ended_at: Mapped[datetime]


class Store:
    """Loads and saves within one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add_result(self, event: events.JobSucceeded) -> None:
        """Have it verified; of one job only the first result counts."""
        spec = event.spec
        values = {
            "job_id": event.job_id,
            "tenant_id": event.tenant_id,
            "name": event.model_name or spec.name,
            "artifact_uri": event.artifact_uri,
            "base_model_id": spec.model.model_id,
            "base_uri": spec.model.uri,
            "method": spec.model.method,
            "dataset_id": spec.dataset.dataset_id,
            "dataset_uri": spec.dataset.uri,
            "eval_loss_before": event.eval_loss_before,
            "eval_loss_after": event.eval_loss_after,
            "state": ResultState.WAITING,
            "detail": "",
            "traceparent": telemetry.current_traceparent(),
        }
        await self._session.execute(upsert(ResultRow).values(values).on_conflict_do_nothing())

    async def add_ended_job(self, event: events.JobSucceeded | events.JobFailed | events.JobCancelled) -> None:
        """Have its checkpoints deleted when their time is over."""
        values = {
            "job_id": event.job_id,
            "tenant_id": event.tenant_id,
            "artifact_uri": "" if isinstance(event, events.JobCancelled) else event.artifact_uri,
            "ended_at": moment(event.ended_at),
        }
        await self._session.execute(upsert(EndedJobRow).values(values).on_conflict_do_nothing())

    async def next_version(self, result: ResultRow) -> tuple[str, int]:
        """(model_id, version) for a verified result, recorded: the next one of the tenant's model of that name."""
        fresh = {
            "model_id": new_id("model"),
            "tenant_id": result.tenant_id,
            "name": result.name,
            "newest_version": 1,
        }
        # One statement, so that two results of one name take turns and neither gets the other's number.
        statement = (
            upsert(ModelRow)
            .values(fresh)
            .on_conflict_do_update(
                index_elements=["tenant_id", "name"], set_={"newest_version": ModelRow.newest_version + 1}
            )
            .returning(ModelRow.model_id, ModelRow.newest_version)
        )
        model_id, version = (await self._session.execute(statement)).one()
        await self._session.execute(
            update(ResultRow)
            .where(ResultRow.job_id == result.job_id, ResultRow.tenant_id == result.tenant_id)
            .values(model_id=model_id, version=version)
        )
        return model_id, version

    async def result(self, tenant_id: str, job_id: str) -> ResultRow | None:
        statement = select(ResultRow).where(ResultRow.job_id == job_id, ResultRow.tenant_id == tenant_id)
        return (await self._session.scalars(statement)).one_or_none()
