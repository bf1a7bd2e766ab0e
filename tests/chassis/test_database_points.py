"""The database's door while it does not open: the relay waits, readiness says so."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx2
import pytest

from sskai import delivery
from sskai.database import Database
from sskai.events import v1 as events
from sskai.failpoints import Action
from sskai.testing import wait_for
from tests.chassis.test_delivery import Listener
from tests.chassis.test_service import serving
from tests.reliability.matrix import Crash
from tests.reliability.strikes import ENDS, SAYS_NO, each, struck

SERVICE = "scheduler"  # any service's schema will do
NO_BROKER = "127.0.0.1:9"  # nothing is told and nothing heard here


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS))
async def test_a_relay_that_gets_no_connection_waits_and_loses_nothing(database: Database, action: Action) -> None:
    listener, stopping = Listener(), asyncio.Event()

    async def tell(number: int) -> None:
        async with database.transaction() as session:
            await delivery.tell(session, events.JobRequeued(job_id="j", attempt=number))

    async def relay() -> None:
        with suppress(Crash):
            await delivery.Relay(database, listener).run(stopping)
        if not stopping.is_set():
            await delivery.Relay(database, listener).run(stopping)  # the process that is started next

    await tell(1)
    with struck("database.own_connection", action) as fault:
        task = asyncio.create_task(relay())
        await wait_for(lambda: fault.crossings)
        await tell(2)
        await wait_for(lambda: len(listener.heard) == 2)
        stopping.set()
        await asyncio.wait_for(task, 10)
    assert [one.message.attempt for one in listener.heard] == [1, 2]


@pytest.mark.parametrize("action", SAYS_NO)
async def test_a_database_that_does_not_answer_is_told_by_readiness(database: Database, action: Action) -> None:
    """Also one that is silent: the probe has its answer before it gives up."""
    async with serving(NO_BROKER, database, {}) as url, httpx2.AsyncClient(base_url=url, timeout=10) as http:
        with struck("database.ping", action, seconds=60):
            away = await http.get("/readyz")
            assert (await http.get("/healthz")).status_code == 200, "it lives: a restart would mend nothing"
        assert (away.status_code, away.json()["schema"]) == (503, "ok")
        assert away.json()["database"].startswith("away: ")
        assert (await http.get("/readyz")).status_code == 200
