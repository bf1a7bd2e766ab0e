"""The tables of money beyond a job's rows: daily totals, budgets and reserves, meters of what is kept."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Date, Index, Numeric
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from services.monitor.tables import Base
from sskai.claims import Claimable


class OwnerRow(Base):
    """What a job or an endpoint is called, the project that it belongs to, and how many checkpoints it keeps."""

    __tablename__ = "owners"

    owner_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    name: Mapped[str]
    project: Mapped[str]
    keep: Mapped[int]  # 0: nobody said


class DayRow(Base):
    """Sums of the ledger's rows by the day (UTC) in which they begin. Every other total is a sum of these."""

    __tablename__ = "spend_days"
    __table_args__ = (Index("ix_spend_days_job_id", "job_id"), Index("ix_spend_days_endpoint_id", "endpoint_id"))

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    job_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    on_demand_nano_usd: Mapped[int] = mapped_column(BigInteger)
    machine_microseconds: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int]


class BudgetRow(Base):
    """A budget as it was set last; whoever changes what is spent or reserved of a tenant's budgets locks them first."""

    __tablename__ = "budgets"

    budget_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(index=True)
    scope: Mapped[str]
    target: Mapped[str]
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    period: Mapped[str]
    thresholds: Mapped[list[float]] = mapped_column(JSONB)
    action: Mapped[str]
    set_at: Mapped[datetime]
    removed: Mapped[bool]


class BudgetToldRow(Base):
    """The highest threshold that was told of a budget in a period."""

    __tablename__ = "budgets_told"

    budget_id: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    fraction: Mapped[float]


class ReserveRow(Base):
    """What an owner may have spent in all, and what it asks for beyond that (`wanted`; null: nothing)."""

    __tablename__ = "reserves"

    owner_id: Mapped[str] = mapped_column(primary_key=True)  # the job, or the endpoint
    tenant_id: Mapped[str] = mapped_column(index=True)
    project: Mapped[str]
    endpoint_id: Mapped[str]
    number: Mapped[int]
    limit_nano_usd: Mapped[int] = mapped_column(BigInteger)
    minimum_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    wanted_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    asked_at: Mapped[datetime]
    release_at: Mapped[datetime | None]  # its owner has ended: from then on nothing is reserved for it


class MeterRow(Claimable, Base):
    """A thing that is metered by the day; see storage.py. `due_at` null: nothing more will come."""

    __tablename__ = "meters"

    kind: Mapped[str] = mapped_column(primary_key=True)  # "storage" | "egress"
    thing_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    keep: Mapped[int]  # of so many newest items; 0: all
    since: Mapped[datetime]
    gone_at: Mapped[datetime | None]
    rows: Mapped[int]
    told_amount: Mapped[Decimal] = mapped_column(Numeric(40, 0))
    told_nano_usd: Mapped[int] = mapped_column(BigInteger)


class ItemRow(Base):
    """A checkpoint of a job, or a dataset's or a model's files."""

    __tablename__ = "items"

    thing_id: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    bytes: Mapped[int] = mapped_column(BigInteger)
