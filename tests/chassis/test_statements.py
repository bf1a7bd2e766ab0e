"""Statements that the driver executes itself: in the session's transaction, with the session's errors."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import bindparam, func, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from sskai import database as chassis
from sskai.database import Database
from sskai.delivery import _tables
from sskai.statements import Statement
from tests.chassis.test_database import kill

SERVICE = "scheduler"  # any service's schema will do
INBOX = _tables(SERVICE)["inbox"]
ADD = Statement(insert(INBOX), ("source", "event_id"))
FIND = Statement(select(INBOX).where(INBOX.c.source == "test", INBOX.c.event_id == bindparam("id")))
WHO = Statement(select(func.pg_backend_pid()))


async def add_and_fail(database: Database) -> None:
    async with database.transaction() as session:
        await ADD.all(session, {"source": "test", "event_id": "evt_1"})
        assert await session.scalar(text("SELECT count(*) FROM scheduler.inbox")) == 1
        raise ZeroDivisionError


async def test_a_statement_is_of_the_session_s_transaction(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        await add_and_fail(database)
    async with database.transaction() as session:
        assert await FIND.first(session, {"id": "evt_1"}) is None, "it was rolled back with the rest"


async def test_rows_have_the_names_of_their_columns_and_a_statement_its_own_values(database: Database) -> None:
    async with database.transaction() as session:
        assert list(await ADD.all(session, {"source": "test", "event_id": "evt_1"})) == []
        await ADD.all(session, {"source": "other", "event_id": "evt_1"})
        (row,) = await FIND.all(session, {"id": "evt_1"})
    assert (row.source, row.event_id) == ("test", "evt_1")
    assert row.handled_at.tzinfo is not None


async def test_its_errors_are_those_of_a_session(database: Database) -> None:
    async with database.transaction() as session:
        await ADD.all(session, {"source": "test", "event_id": "evt_1"})
    with pytest.raises(IntegrityError, match="inbox"):
        async with database.transaction() as session:
            await ADD.all(session, {"source": "test", "event_id": "evt_1"})


async def test_when_one_connection_breaks_those_that_lay_idle_are_tried(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that went away took all of them, and only the first user may notice."""
    monkeypatch.setattr(chassis, "TRUSTED_SECONDS", 3600)
    together = asyncio.Barrier(2)

    async def who() -> int:
        async with database.transaction() as session:
            ((found,),) = await WHO.all(session, {})
            await together.wait()
            return int(found)

    backends = await asyncio.gather(who(), who())
    assert len(set(backends)) == 2
    for each in backends:
        await kill(database, each)
    with pytest.raises(OperationalError):
        async with database.transaction() as session:
            await WHO.all(session, {})
    assert not {*await asyncio.gather(who(), who())} & {*backends}


async def test_whoever_is_cancelled_gives_its_connection_back(database: Database) -> None:
    begun = asyncio.Event()

    async def waits() -> None:
        async with database.transaction() as session:
            await ADD.all(session, {"source": "test", "event_id": "evt_1"})
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert database.connections() == 0
    async with database.transaction() as session:
        assert await FIND.first(session, {"id": "evt_1"}) is None
