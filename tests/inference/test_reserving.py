"""Money is reserved before replicas spend it: no launch without it, and they drain before it is spent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.replica_set import Reason, ReplicaState
from services.inference.reserving import Purse, Terms, Verdict, look
from services.inference.tables import ReplicaSetRow
from sskai.cluster.metering import interval_nano_usd
from sskai.database import Database
from sskai.events import v1 as events
from tests.inference.replicating import START
from tests.inference.test_loops import deletion, told
from tests.inference.test_replicating import Stage

SERVICE = "inference"
TERMS = Terms(metering_seconds=60, drain_seconds=120)  # a stretch is 300 s
SECOND = 100_000  # nano-USD, at 0.36 USD an hour
PRICE = 0.36


@pytest.mark.parametrize(
    ("purse", "running", "new", "verdict"),
    [
        (Purse(None, 0), 0.0, 0.0, Verdict()),
        (Purse(None, 0), 0.0, PRICE, Verdict(may_launch=False, ask=(420 * SECOND, 3900 * SECOND))),
        (Purse(None, 0, asking=True), PRICE, 0.0, Verdict(may_launch=False)),
        (Purse(3900 * SECOND, 0), 0.0, PRICE, Verdict()),
        (Purse(3900 * SECOND, 3400 * SECOND), PRICE, 0.0, Verdict()),
        (Purse(3900 * SECOND, 3500 * SECOND), PRICE, 0.0, Verdict(ask=(3920 * SECOND, 7400 * SECOND))),
        (Purse(3900 * SECOND, 3500 * SECOND), PRICE, PRICE, Verdict(False, ask=(4340 * SECOND, 11300 * SECOND))),
        (Purse(3900 * SECOND, 3660 * SECOND, asking=True), PRICE, 0.0, Verdict(may_launch=False, must_stop=True)),
    ],
)  # fmt: skip
def test_what_a_purse_bears(purse: Purse, running: float, new: float, verdict: Verdict) -> None:
    assert look(purse, running, new, TERMS) == verdict


@given(
    grants=st.lists(st.floats(0, 3), min_size=1, max_size=6),
    price=st.floats(0.01, 20),
    wishes=st.lists(st.integers(0, 4), min_size=1, max_size=200),
)
def test_replicas_never_spend_more_than_was_granted(grants: list[float], price: float, wishes: list[int]) -> None:
    """A turn every 10 s, a row every 60 s, answers late or never, and a drain that takes all of its time."""
    limit: int | None = None
    told = spent = running = 0
    asking, waiting, draining = False, list(grants), 0
    for turn, wanted in enumerate(wishes):
        spent += running * interval_nano_usd(price, 10)
        if turn % 6 == 0:
            told = spent
        if draining:
            draining -= 10
            if draining <= 0:
                running = draining = 0
            continue
        if asking and waiting and turn % 5 == 0:
            limit = max(limit or 0, told + round(waiting.pop() * 1e9))
            asking = False
        new = max(0, wanted - running)
        verdict = look(Purse(limit, told, asking), running * price, new * price, TERMS)
        asking = asking or verdict.ask is not None
        if verdict.must_stop:
            draining = 120
        elif verdict.may_launch:
            running += new
        assert running == 0 or spent <= (limit or 0)


# On a real database


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def budget(scope: str = "endpoint", target: str = "end_support", **changes: Any) -> events.BudgetSet:
    values = {"amount_nano_usd": 10**9, "period": "month", "action": "stop", "set_at": START, **changes}
    return events.BudgetSet(budget_id="budget_1", tenant_id="tenant_a", scope=scope, target=target, **values)


def granted(row: ReplicaSetRow, limit: int) -> events.SpendReserved:
    ids = {"job_id": row.endpoint_id, "tenant_id": row.tenant_id}
    return events.SpendReserved(**ids, number=row.ask_number, limit_nano_usd=limit)


async def replica_set(stage: Stage) -> ReplicaSetRow:
    async with stage.database.transaction() as session:
        row = await session.get(ReplicaSetRow, "end_support")
        assert row is not None
        return row


async def start(stage: Stage, **changes: Any) -> None:
    """Ask for the endpoint, under a budget of its tenant."""
    await stage.ask(**changes)
    row = await replica_set(stage)
    word = budget()
    word.tenant_id = row.tenant_id
    await stage.handle(word)


async def test_nothing_is_launched_before_money_is_reserved(stage: Stage) -> None:
    await start(stage)
    await stage.turn()
    await stage.turn()
    assert not await stage.rows()
    row = await replica_set(stage)
    assert (row.asking, row.ask_number) == (True, 1)
    [request] = [one for one in await told(stage.database) if isinstance(one, events.SpendReserveRequested)]
    assert (request.job_id, request.endpoint_id, request.spent_nano_usd) == ("end_support", "end_support", 0)
    await stage.handle(granted(row, 10**9))
    await stage.turn()
    assert len(await stage.rows()) == 1


async def test_replicas_drain_before_what_is_reserved_is_spent_and_come_back_with_more(stage: Stage) -> None:
    await start(stage)
    await stage.turn()
    limit = interval_nano_usd(0.4, 1200)
    await stage.handle(granted(await replica_set(stage), limit))
    for _ in range(25):
        await stage.turn(60)
        for one in await stage.rows(ReplicaState.LAUNCHING):
            await stage.says(one)
    row = await replica_set(stage)
    [gone] = await stage.rows()
    assert (gone.state, gone.reason) == (ReplicaState.ENDED, Reason.BUDGET)
    assert 0.5 * limit < row.spent_nano_usd <= limit
    await stage.handle(granted(row, 10**9))
    await stage.turn()
    assert len(await stage.rows()) == 2


async def test_without_such_a_budget_nothing_is_asked(stage: Stage) -> None:
    await stage.ask()
    for word in (budget(action="warn"), budget(target="end_2"), budget("project", "chat")):
        word.tenant_id = (await replica_set(stage)).tenant_id
        await stage.handle(word)
    await stage.turn()
    assert len(await stage.rows()) == 1
    assert (await replica_set(stage)).ask_number == 0


async def test_a_deleted_endpoint_gives_back_what_it_did_not_spend(stage: Stage) -> None:
    await start(stage)
    await stage.turn()
    await stage.handle(granted(await replica_set(stage), 10**9))
    await stage.turn()
    await stage.handle(deletion())
    for _ in range(5):
        await stage.turn(120)
    row = await replica_set(stage)
    assert (row.ask_number, row.limit_nano_usd) == (2, None)
