"""Claims: how a loop takes due rows so that nobody else works on them, and notices when it lost them.

A claim is a lease (by the database's clock, so that no machine's clock decides) and a token. Act on the world after the
claim's transaction is closed; then record the result with `release`, which writes only if the token still stands. Zero
rows means that the lease ran out and somebody else has the row: drop the result. `held` renews it during long work.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from typing import Any, TypeVar

import structlog
from sqlalchemy import ColumnElement, DateTime, Interval, Text, Update, bindparam, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from sskai.database import Database
from sskai.statements import Statement

log = structlog.get_logger()


class Claimable:
    """Columns of a row that loops work on. `due_at` None: nothing to do."""

    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), index=True, server_default=func.now())
    lease_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    lease_token: Mapped[str | None] = mapped_column(Text)


Row = TypeVar("Row", bound=Claimable)


def at_once() -> Any:
    """A `due_at` that is over, by the clock that claims are decided by: a service's own may be minutes ahead of it."""
    return func.clock_timestamp()


def later(seconds: float) -> Any:
    """A `due_at` so long from now, by the same clock."""
    return func.clock_timestamp() + _seconds(seconds)


def _seconds(amount: float) -> ColumnElement[Any]:
    # A parameter: statements that differ would each be compiled anew.
    return literal(timedelta(seconds=float(amount)), Interval())


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


@asynccontextmanager
async def held(database: Database, row: Claimable, lease_seconds: float) -> AsyncIterator[asyncio.Event]:
    """The claim stands as long as this lasts; the event is set when it was lost.

    So a lease is short, and what a killed process had is soon taken by the next one, however long the work may take.
    """
    lost, done = asyncio.Event(), asyncio.Event()

    async def keep() -> None:
        while not done.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), lease_seconds / 4)
            try:
                if not done.is_set() and not await renew(database, row, lease_seconds):
                    lost.set()
                    return
            except Exception as error:  # the database is away: the lease has some time left
                log.warning("a claim was not renewed", error=repr(error)[:500])

    keeping = asyncio.create_task(keep())
    try:
        yield lost
    finally:
        done.set()
        await asyncio.wait([keeping])


async def release(session: AsyncSession, row: Claimable, *, due_in_seconds: float | None, **values: Any) -> bool:
    """Record a claim's result (`values` are columns) and let go of the row, due again in so many seconds (None: never).

    False: the lease ran out and somebody else may have taken the row. Nothing was written; drop the result.
    """
    kind: Any = type(row)
    asked = {"token": row.lease_token, "due_in": None if due_in_seconds is None else timedelta(seconds=due_in_seconds)}
    mine = {f"of_{name}": getattr(row, name) for name in _keys(kind)}
    written = {f"to_{name}": value for name, value in values.items()}
    return bool(await _let_go(kind, tuple(values)).all(session, {**asked, **mine, **written}))


@cache
def _let_go(row_class: Any, columns: tuple[str, ...]) -> Statement:
    """Each claim ends with it. `columns`: what is recorded."""
    table = row_class.__table__
    values = {name: bindparam(f"to_{name}", type_=table.c[name].type) for name in columns}
    statement = update(table).where(table.c.lease_token == bindparam("token"))
    for name in _keys(row_class):
        statement = statement.where(table.c[name] == bindparam(f"of_{name}"))
    due_at = func.clock_timestamp() + bindparam("due_in", type_=Interval())
    released = statement.values(**values, due_at=due_at, lease_until=None, lease_token=None)
    return Statement(released.returning(*(table.c[name] for name in _keys(row_class))))


@cache
def _keys(row_class: Any) -> tuple[str, ...]:
    mapper = row_class.__mapper__
    return tuple(mapper.get_property_by_column(column).key for column in mapper.primary_key)


def _of(row: Claimable, statement: Update) -> Update:
    """The statement for this row alone, while its claim stands."""
    table: Any = type(row)
    for key in _keys(table):
        statement = statement.where(getattr(table, key) == getattr(row, key))
    return statement.where(table.lease_token == row.lease_token).execution_options(synchronize_session=False)
