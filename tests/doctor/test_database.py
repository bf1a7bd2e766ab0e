"""The database as the doctor sees it: a real one, sound and broken on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from sskai.database import SERVICES, Database, migrate, plain_url
from sskai.doctor import Finding, database
from sskai.doctor.settings import Settings
from sskai.local.processes import free_ports
from tests.doctor.found import states

RETRY = "python -m sskai.database migrate"


def now() -> datetime:
    return datetime.now(UTC)


async def look(url: str, clock: Callable[[], datetime] = now) -> dict[str, Finding]:
    found = await database.look(Settings(database_url=url), clock)
    states(found)
    return {one.check: one for one in found}


@pytest.fixture
async def gateway(database_of: Callable[[str], AbstractAsyncContextManager[Database]]) -> AsyncIterator[Database]:
    async with database_of("gateway") as one:
        yield one


async def change(one: Database, *statements: str) -> None:
    async with one.transaction() as session:
        for statement in statements:
            await session.execute(text(statement))


async def test_a_database_at_head_is_sound(gateway: Database) -> None:
    for service in SERVICES:
        migrate(gateway.url, service)
    found = await look(gateway.url)
    assert {check: one.says for check, one in found.items() if one.state != "ok"} == {}
    assert found["migrations of gateway"].says == f"at {database.revisions('gateway')[0]}"
    assert "by a role that owns nothing" in found["row-level security"].says


async def test_a_schema_that_is_missing_behind_or_newer_is_told_apart(gateway: Database) -> None:
    older = database.revisions("scheduler")[1][-2]
    migrate(gateway.url, "scheduler", older)
    migrate(gateway.url, "optimizer")
    await change(gateway, "UPDATE optimizer.alembic_version SET version_num = '9999'")
    found = await look(gateway.url)
    assert found["migrations of gateway"].state == "ok"
    assert (found["migrations of scheduler"].state, found["migrations of scheduler"].mend) == (
        "fail", f"Run `{RETRY} scheduler`.",
    )  # fmt: skip
    assert found["migrations of trainer"].says == "the schema is not there"
    newer = found["migrations of optimizer"]
    assert newer.state == "warn"
    assert newer.says.startswith("at 9999, newer")


async def test_a_role_that_may_not_become_the_requests_role_is_said(gateway: Database) -> None:
    role = "sskai_gateway_requests"
    await change(gateway, f"REVOKE USAGE ON SCHEMA gateway FROM {role}")
    found = (await look(gateway.url))["row-level security"]
    assert found.state == "warn"
    assert "requests run as the owner" in found.says


async def test_a_role_without_rights_is_said(gateway: Database) -> None:
    name = f"nobody_{make_url(gateway.url).database}"
    await change(gateway, f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'x'", f'GRANT USAGE ON SCHEMA gateway TO "{name}"')
    try:
        await change(gateway, f'GRANT SELECT ON ALL TABLES IN SCHEMA gateway TO "{name}"')
        url = make_url(gateway.url).set(username=name, password="x").render_as_string(hide_password=False)
        found = await look(url)
        assert found["rights"].state == "fail"
        assert "does not own the schemas gateway" in found["rights"].says
    finally:
        await change(gateway, f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


async def test_a_wrong_password_and_a_server_that_is_away_are_one_finding(gateway: Database) -> None:
    (nobody,) = free_ports(1)
    wrong = make_url(gateway.url).set(password="wrong")
    for url in (wrong, wrong.set(port=nobody)):
        found = await look(url.render_as_string(hide_password=False))
        assert [one.state for one in found.values()] == ["fail"]
        assert "wrong" not in found["reachable"].says


async def test_an_outbox_that_nobody_publishes_is_said(gateway: Database) -> None:
    await change(
        gateway,
        "INSERT INTO gateway.outbox (event_id, type, value, told_at) "
        "VALUES ('evt_1', 'x', '', now() - interval '5 minutes')",
    )
    found = (await look(gateway.url))["outbox of gateway"]
    assert found.state == "fail"
    assert found.says.startswith("1 events wait, the oldest for 30")


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (-4, "ok"), (10, "warn"), (-10, "warn"), (3600, "fail")])
async def test_a_clock_that_is_wrong_is_measured(gateway: Database, seconds: float, state: str) -> None:
    found = (await look(gateway.url, lambda: now() + timedelta(seconds=seconds)))["clock"]
    assert found.state == state


async def test_connections_that_are_idle_in_a_transaction_are_counted(
    gateway: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 0)
    url = plain_url(gateway.url)
    async with await psycopg.AsyncConnection.connect(url) as idle:
        await idle.execute("SELECT 1")
        found = (await look(gateway.url))["dead connections"]
        assert (found.state, found.says) == ("warn", "1 idle in a transaction for over a minute")


async def test_too_few_connections_for_one_replica_of_each_are_said(
    gateway: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PER_PROCESS", 200)
    found = (await look(gateway.url))["connections"]
    assert found.state == "warn"
    assert "Raise max_connections to 1210" in found.mend
