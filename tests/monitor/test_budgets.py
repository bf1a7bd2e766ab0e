"""Budgets: spent and reserved together never pass the amount, every threshold is told once, and no order changes it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from services.monitor import budgets, spend_loops
from services.monitor.budget_store import BudgetStore
from services.monitor.budgets import Account, Ask, Budget, Owner, decide, reached
from services.monitor.handlers import HANDLERS
from services.monitor.store import Store
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle
from tests.monitor.test_life_of_a_job import told_by

SERVICE = "monitor"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENANT = Budget("budget_t", "A", "tenant", "A", 100, action="stop")
PROJECT = Budget("budget_p", "A", "project", "chat", 50, action="stop")


@pytest.mark.parametrize(
    ("ask", "granted", "spent", "accounts", "limit", "short"),
    [
        (Ask(10, 30), 0, 0, [], 30, None),
        (Ask(10, 30), 0, 0, [Account(TENANT, 0, 0)], 30, None),
        (Ask(10, 30), 0, 0, [Account(TENANT, 80, 0)], 20, None),  # less than wanted, and enough
        (Ask(10, 30), 0, 0, [Account(TENANT, 60, 35)], 0, "budget_t"),
        (Ask(10, 30), 0, 0, [Account(TENANT, 0, 0), Account(PROJECT, 45, 0)], 0, "budget_p"),
        (Ask(10, 30), 0, 0, [Account(replace(TENANT, action="warn"), 100, 50)], 30, None),
        # 20 of the 80 are its own: with a limit of 40 it takes 20 more.
        (Ask(30, 50), 20, 20, [Account(TENANT, 80, 0)], 40, None),
        (Ask(50, 50), 20, 20, [Account(TENANT, 80, 0)], 20, "budget_t"),
        (Ask(5, 10), 20, 0, [Account(TENANT, 0, 0)], 20, None),  # what was granted stays
    ],
)
def test_what_is_reserved(
    ask: Ask, granted: int, spent: int, accounts: list[Account], limit: int, short: str | None
) -> None:
    answer = decide(ask, granted, spent, accounts)
    assert answer.limit == limit
    assert (answer.short.budget.budget_id if answer.short else None) == short


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["ask", "spend", "late", "end"]), st.integers(0, 60)),
        max_size=60,
    ),
    st.integers(1, 200),
)
@example([(0, "ask", 60), (1, "ask", 60), (0, "spend", 60), (1, "spend", 60)], 100)
def test_whoever_spends_within_its_limit_the_amount_is_never_passed(
    steps: list[tuple[int, str, int]], amount: int
) -> None:
    """Four owners ask, spend up to their limits, are metered late, and end; the account knows only what was metered."""
    budget = replace(TENANT, amount_nano_usd=amount)
    limit, spent, metered = [0] * 4, [0] * 4, [0] * 4
    for owner, what, size in steps:
        if what == "ask":
            others = budgets.outstanding([(limit[i], metered[i]) for i in range(4) if i != owner])
            account = Account(budget, sum(metered), others)
            ask = Ask(limit[owner] + 1, limit[owner] + size)
            limit[owner] = decide(ask, limit[owner], metered[owner], [account]).limit
        elif what == "spend":
            spent[owner] = min(limit[owner], spent[owner] + size)
        elif what == "late":
            metered[owner] = min(spent[owner], metered[owner] + size)
        else:
            metered[owner] = limit[owner] = spent[owner]
        assert sum(spent) <= amount


@given(st.permutations(range(8)), st.integers(1, 100))
def test_thresholds_are_told_once_in_whatever_steps_money_is_spent(order: list[int], amount: int) -> None:
    budget = replace(TENANT, amount_nano_usd=amount, thresholds=(0.8, 0.5, 1.0))
    told, spent, every = 0.0, 0, []
    for part in order:
        spent += part
        if found := reached(Account(budget, spent, 0), told):
            told = found[-1]
            every += found
    assert every == [part for part in (0.5, 0.8, 1.0) if spent >= part * amount]


@pytest.mark.parametrize(
    ("budget", "owner", "covers"),
    [
        (TENANT, Owner("A", job_id="job_1"), True),
        (TENANT, Owner("B", job_id="job_1"), False),
        (PROJECT, Owner("A", job_id="job_1", project="chat"), True),
        (PROJECT, Owner("A", job_id="job_1"), False),
        (replace(PROJECT, scope="endpoint", target="e1"), Owner("A", endpoint_id="e1"), True),
        (replace(PROJECT, scope="job", target="job_1"), Owner("A", job_id="job_1"), True),
        (replace(PROJECT, scope="job", target="job_1"), Owner("A", endpoint_id="e1"), False),
    ],
)
def test_whose_spend_a_budget_counts(budget: Budget, owner: Owner, covers: bool) -> None:
    assert budget.covers(owner) is covers


# On a real database


def budget_set(amount: int, scope: str = "tenant", target: str = "A", **changes: Any) -> events.BudgetSet:
    values = {"period": "month", "action": "stop", "set_at": timestamp(NOW), **changes}
    return events.BudgetSet(
        budget_id=f"budget_{scope}", tenant_id="A", scope=scope, target=target, amount_nano_usd=amount, **values
    )


def submitted(job_id: str, project: str = "", **spec: Any) -> events.JobSubmitted:
    return events.JobSubmitted(
        job_id=job_id, tenant_id="A", spec=events.JobSpec(project=project, **spec), submitted_at=timestamp(NOW)
    )


def spend(job_id: str, interval: int, nano_usd: int, *, at: datetime = NOW, **more: Any) -> events.SpendRecorded:
    times = {"started_at": timestamp(at), "ended_at": timestamp(at + timedelta(seconds=60))}
    return events.SpendRecorded(
        job_id=job_id, tenant_id="A", interval=interval, amount_nano_usd=nano_usd, attempt=1, **times, **more
    )


def ask(job_id: str, number: int, wanted: int, minimum: int | None = None, **more: Any) -> events.SpendReserveRequested:
    return events.SpendReserveRequested(
        job_id=job_id,
        tenant_id="A",
        number=number,
        wanted_nano_usd=wanted,
        minimum_nano_usd=wanted if minimum is None else minimum,
        requested_at=timestamp(NOW),
        **more,
    )


async def tell(database: Database, *messages: Message, now: datetime = NOW) -> list[Any]:
    return [told for one in messages for told in await handle(HANDLERS, database, Store, one, now)]


def limits(told: list[Any]) -> list[tuple[str, int]]:
    return [(one.job_id, one.limit_nano_usd) for one in told if isinstance(one, events.SpendReserved)]


async def test_jobs_reserve_side_by_side_and_never_more_than_there_is(database: Database) -> None:
    await tell(database, budget_set(100))
    told = await asyncio.gather(*(tell(database, ask(f"job_{n}", 1, 30)) for n in range(6)))
    assert sum(limit for one in told for _, limit in limits(one)) == 90
    declined = [one for some in told for one in some if isinstance(one, events.SpendReserveDeclined)]
    assert len(declined) == 3
    assert declined[0].budget_id == "budget_tenant"
    assert "the tenant's budget" in declined[0].detail


async def test_what_an_ended_job_did_not_spend_goes_to_who_waits_longest(database: Database) -> None:
    await tell(database, budget_set(100), submitted("job_1"))
    assert limits(await tell(database, ask("job_1", 1, 80))) == [("job_1", 80)]
    assert not limits(await tell(database, ask("job_2", 1, 40), ask("job_3", 1, 40)))
    await tell(database, spend("job_1", 1, 30))
    await told_by(database)
    await spend_loops.answer_waiting(database, NOW)
    assert not limits(await told_by(database)), "50 of it may still be spent"
    ended = events.JobCancelled(job_id="job_1", tenant_id="A", metered_intervals=1, ended_at=timestamp(NOW))
    await tell(database, ended)
    async with database.transaction() as session:
        await BudgetStore(session).release("job_1", NOW)  # as the loop does that issues its receipt
    await spend_loops.answer_waiting(database, NOW)
    assert limits(await told_by(database)) == [("job_2", 40)]
    await tell(database, budget_set(200, set_at=timestamp(NOW + timedelta(hours=1))))
    await spend_loops.answer_waiting(database, NOW)
    assert limits(await told_by(database)) == [("job_3", 40)]


async def test_of_a_project_only_its_own_jobs_and_endpoints_reserve(database: Database) -> None:
    await tell(database, budget_set(50, "project", "chat"))
    assert limits(await tell(database, ask("job_1", 1, 40, project="chat"))) == [("job_1", 40)]
    assert limits(await tell(database, ask("job_2", 1, 1000, project="other"))) == [("job_2", 1000)]
    asked = ask("endpoint_1", 1, 20, project="chat", endpoint_id="endpoint_1")
    [declined] = await tell(database, asked)
    assert "project chat" in declined.detail


async def test_an_old_or_repeated_request_and_another_tenants_change_nothing(database: Database) -> None:
    await tell(database, budget_set(100), ask("job_1", 2, 30))
    assert await tell(database, ask("job_1", 2, 60), ask("job_1", 1, 90)) == []
    stranger = ask("job_1", 3, 90)
    stranger.tenant_id = "B"
    assert await tell(database, stranger) == []


async def test_a_new_month_has_the_whole_amount_again_less_what_is_still_reserved(database: Database) -> None:
    await tell(database, budget_set(100), ask("job_1", 1, 60), spend("job_1", 1, 50))
    assert not limits(await tell(database, ask("job_2", 1, 60)))
    december = NOW + timedelta(days=30)
    told = await tell(database, ask("job_3", 1, 80), now=december)
    assert limits(told) == [("job_3", 80)], "10 of job_1's are still reserved"


@pytest.mark.parametrize("seed", range(3))
async def test_budgets_tell_each_threshold_once_a_month_in_any_order(database: Database, seed: int) -> None:
    """The project of a job and of an endpoint may be heard of after they have spent."""
    facts: list[Message] = [
        budget_set(100),
        budget_set(60, "project", "chat", period="total"),
        budget_set(40, "endpoint", "endpoint_1"),
        submitted("job_1", "chat"),
        events.EndpointRequested(endpoint_id="endpoint_1", tenant_id="A", name="bot", project="chat"),
        *(spend("job_1", n, 10) for n in range(1, 5)),
        *(spend("endpoint_1", n, 10, endpoint_id="endpoint_1") for n in range(1, 3)),
        spend("job_2", 1, 45),
        spend("dataset_1@1", 1, 5, kind="storage"),
    ]
    last = spend("job_1", 5, 0)
    deliveries = [*facts, *facts[3:]]
    random.Random(seed).shuffle(deliveries)
    told = await tell(database, *deliveries, last)
    found = sorted(
        (one.scope, one.fraction, one.period) for one in told if isinstance(one, events.BudgetThresholdReached)
    )
    assert found == [
        ("endpoint", 0.5, "2026-11"),
        *(("project", part, "") for part in (0.5, 0.8, 1.0)),
        *(("tenant", part, "2026-11") for part in (0.5, 0.8, 1.0)),
    ]
    in_december = await tell(database, spend("job_1", 6, 60, at=NOW + timedelta(days=30)))
    assert [(one.scope, one.fraction, one.period) for one in in_december] == [("tenant", 0.5, "2026-12")]


async def test_a_job_that_spends_beside_another_misses_no_threshold(database: Database) -> None:
    await tell(database, budget_set(100))
    told = await asyncio.gather(*(tell(database, spend(f"job_{n}", 1, 10)) for n in range(10)))
    found = sorted(one.fraction for some in told for one in some)
    assert found == [0.5, 0.8, 1.0]


async def test_a_removed_budget_is_silent_and_an_older_word_does_not_bring_it_back(database: Database) -> None:
    later = timestamp(NOW + timedelta(minutes=1))
    await tell(
        database, budget_set(10), events.BudgetRemoved(budget_id="budget_tenant", tenant_id="A", removed_at=later)
    )
    assert await tell(database, budget_set(10), spend("job_1", 1, 100)) == []
    told = await tell(database, budget_set(100, set_at=timestamp(NOW + timedelta(hours=1))))
    assert [one.fraction for one in told] == [0.5, 0.8, 1.0]
