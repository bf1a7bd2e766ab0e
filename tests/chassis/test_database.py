"""Connections of the pool: those that died are replaced, whether they lay idle or broke in use."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from sskai import database as chassis
from sskai.database import Database

SERVICE = "scheduler"  # any service's schema will do


async def backend(database: Database) -> int:
    async with database.transaction() as session:
        return int(await session.scalar(text("SELECT pg_backend_pid()")))


async def kill(database: Database, process_id: int) -> None:
    async with await database.own_connection() as connection:
        await connection.execute("SELECT pg_terminate_backend(%s, 5000)", (process_id,))


async def forget_and_fail(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM scheduler.inbox"))
        raise ZeroDivisionError


async def test_a_connection_that_died_while_it_lay_idle_is_not_handed_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chassis, "TRUSTED_SECONDS", 0)
    before = await backend(database)
    await kill(database, before)
    assert await backend(database) != before


async def test_one_that_was_in_use_just_now_fails_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chassis, "TRUSTED_SECONDS", 3600)
    before = await backend(database)
    assert await backend(database) == before
    await kill(database, before)
    with pytest.raises(OperationalError):
        await backend(database)
    assert await backend(database) != before


async def test_statements_of_a_pooled_connection_commit_by_themselves(database: Database) -> None:
    async with database.pooled_connection() as connection:
        await connection.execute("INSERT INTO scheduler.inbox (source, event_id) VALUES ('test', 'evt_1')")
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT count(*) FROM scheduler.inbox")) == 1
    with pytest.raises(ZeroDivisionError):
        await forget_and_fail(database)
    async with database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM scheduler.inbox")) == 1, (
            "transactions stay what they were"
        )
