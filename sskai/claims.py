"""Claims: how a loop takes due rows so that nobody else works on them, and notices when it lost them.

A claim is a lease (by the database's clock, so that no machine's clock decides) and a token. Act on the world after the
claim's transaction is closed; then record the result with `release`, which writes only if the token still stands. Zero
rows means that the lease ran out and somebody else has the row: drop the result.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, DateTime, Text, Update, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from sskai.database import Database


class Claimable:
    """Columns of a row that loops work on. `due_at` None: nothing to do."""

    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), index=True, server_default=func.now())
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    lease_token: Mapped[str | None] = mapped_column(Text)


Row = TypeVar("Row", bound=Claimable)


def _seconds(amount: float) -> ColumnElement[Any]:
    return text(f"interval '{float(amount)} seconds'")  # type: ignore[return-value]


async def claim(
    database: Database,
    row_class: type[Row],
    *,
    limit: int = 10,
    lease_seconds: float = 30,
    where: ColumnElement[bool] | None = None,
) -> list[Row]:
    """Lease up to `limit` due rows, oldest first. They come detached, each with its `lease_token`."""
    clock = func.clock_timestamp()
    statement = (
        select(row_class)
        .where(row_class.due_at <= clock)
        .where((row_class.lease_until.is_(None)) | (row_class.lease_until < clock))
        .order_by(row_class.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if where is not None:
        statement = statement.where(where)
    async with database.transaction() as session:
        rows = list((await session.scalars(statement)).all())
        if rows:
            until: datetime = (await session.execute(select(clock + _seconds(lease_seconds)))).scalar_one()
            for row in rows:
                row.lease_token = secrets.token_hex(8)
                row.lease_until = until
    return rows


async def renew(database: Database, row: Claimable, lease_seconds: float) -> bool:
    """More time for work that takes long. False: the lease ran out and somebody else may have the row: stop."""
    statement = _of(row, update(type(row))).values(lease_until=func.clock_timestamp() + _seconds(lease_seconds))
    async with database.transaction() as session:
        result = await session.execute(statement)
    return bool(result.rowcount)  # type: ignore[attr-defined]


async def release(session: AsyncSession, row: Claimable, *, due_in_seconds: float | None, **values: Any) -> bool:
    """Record a claim's result (`values` are columns) and let go of the row, due again in so many seconds (None: never).

    False: the lease ran out and somebody else may have taken the row. Nothing was written; drop the result.
    """
    clock = func.clock_timestamp()
    statement = _of(row, update(type(row))).values(
        due_at=None if due_in_seconds is None else clock + _seconds(due_in_seconds),
        lease_until=None,
        lease_token=None,
        **values,
    )
    result = await session.execute(statement)
    return bool(result.rowcount)  # type: ignore[attr-defined]


def _of(row: Claimable, statement: Update) -> Update:
    """The statement for this row alone, while its claim stands."""
    table = type(row)
    mapper = table.__mapper__  # type: ignore[attr-defined]
    for column in mapper.primary_key:
        key = mapper.get_property_by_column(column).key
        statement = statement.where(getattr(table, key) == getattr(row, key))
    return statement.where(table.lease_token == row.lease_token).execution_options(synchronize_session=False)
