"""The first page in one answer: money from a double of the monitor, the rest from what events told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request

from services.gateway import overview
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import House, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

NANO = 10**9


def totals(paid: float, on_demand: float) -> dict[str, Any]:
    saving = {"saving_usd": on_demand - paid, "saving_fraction": 1 - paid / on_demand}
    return {"spent_usd": paid, "on_demand_usd": on_demand, **saving}


@pytest_asyncio.fixture(loop_scope="session")
async def monitor(house: House) -> AsyncIterator[list[dict[str, Any]]]:
    """It answers each span with another sum, and knows the accounts that a test puts there."""
    app = FastAPI()

    @app.get("/v1/costs")
    async def costs(request: Request) -> dict[str, Any]:
        by_day, since = request.query_params["group_by"] == "day", request.query_params.get("since", "month")
        paid = 3.0 if by_day else 2.0 if since == "month" else 9.0
        groups = [{"day": "2026-11-02", **totals(1, 4)}, {"day": "2026-11-03", **totals(2, 8)}] if by_day else []
        total = totals(paid, 4 * paid)
        return {"since": since, "until": "now", "groups": groups, "total": total, "time_saved_seconds": paid * 60}

    @app.get("/v1/budgets")
    async def budgets() -> dict[str, Any]:
        return {"budgets": accounts}

    accounts: list[dict[str, Any]] = []
    async with serving(app) as url:
        house.world.settings.otlp_url = url
        yield accounts


async def tenant(house: House) -> str:
    return str((await house.ann.get("/v1/keys")).json()["data"][0]["tenant_id"])


async def test_money_is_told_for_the_month_the_last_days_and_the_year(
    house: House, monitor: list[dict[str, Any]]
) -> None:
    budget = (await house.ann.put("/v1/budgets", json={"scope": "tenant", "amount_usd": 10})).json()
    account = {"period_name": "2026-11", "spent_nano_usd": 9 * NANO, "reserved_nano_usd": 0, "left_nano_usd": NANO}
    monitor.append({"budget_id": budget["id"], **account})
    told = (await house.ann.get("/v1/overview")).json()
    assert [told[span]["paid_usd"] for span in ("month", "last_30_days", "last_365_days")] == [2, 3, 9]
    assert told["month"]["saved_usd"] == 6
    assert told["month"]["saved_fraction"] == 0.75
    assert told["month"]["time_saved_seconds"] == 120
    assert [day["day"] for day in told["cost_per_day"]] == ["2026-11-02", "2026-11-03"]
    assert told["budget"]["spent_usd"] == 9
    nearly = [one for one in told["decisions"] if one["kind"] == "budget"]
    assert [one["detail"] for one in nearly] == ["9.00 of 10.00 USD are spent or reserved"]


async def test_without_the_monitor_the_rest_is_told(house: House) -> None:
    house.world.settings.otlp_url = "http://127.0.0.1:9"
    job = await house.job(house.ann)
    told = (await house.ann.get("/v1/overview")).json()
    assert told["month"] is None
    assert told["cost_per_day"] is None
    assert [one["id"] for one in told["jobs"]] == [job["id"]]
    assert told["job_counts"] == {"submitted": 1}


async def test_what_needs_somebody_is_told_and_what_does_not_is_not(house: House) -> None:
    job, tenant_id, now = await house.job(house.ann), await tenant(house), house.world.now()
    held = events.JobHeld(
        job_id=job["id"], tenant_id=tenant_id, rule="budget", detail="The budget is spent", held_at=timestamp(now)
    )
    await house.bus.publish(held)
    endpoint = (await house.ann.post("/v1/endpoints", json={"name": "help", "model": "tiny-llama"})).json()
    failed = events.EndpointFailed(
        endpoint_id=endpoint["id"], tenant_id=tenant_id, reason="no weights", failed_at=timestamp(now)
    )
    until = timestamp(now + timedelta(hours=1))
    waits = events.RetrainSuggested(
        retrain_id="retrain_1", endpoint_id=endpoint["id"], tenant_id=tenant_id, detail="The topics changed",
        suggested_at=timestamp(now), expires_at=until,
    )  # fmt: skip
    decided = events.RetrainSuggested(
        retrain_id="retrain_2",
        endpoint_id=endpoint["id"],
        tenant_id=tenant_id,
        suggested_at=timestamp(now),
        expires_at=until,
    )
    declined = events.RetrainDecided(
        retrain_id="retrain_2", endpoint_id=endpoint["id"], tenant_id=tenant_id, decided_at=timestamp(now)
    )
    for event in (failed, waits, decided, declined):
        await house.bus.publish(event)
    await house.bus.settle()
    told = (await house.ann.get("/v1/overview")).json()
    assert [(one["kind"], one["id"], one["title"], one["detail"]) for one in told["decisions"]] == [
        ("retrain", "retrain_1", "help", "The topics changed"),
        ("held-job", job["id"], "bot", "The budget is spent"),
        ("failed-endpoint", endpoint["id"], "help", "no weights"),
    ]
    assert told["endpoint_counts"] == {"failed": 1}
    assert (await house.bob.get("/v1/overview")).json()["decisions"] == []


async def test_activity_is_the_newest_of_what_is_worth_a_line(house: House) -> None:
    job, tenant_id = await house.job(house.ann), await tenant(house)
    for step in range(40):
        beat = events.AttemptProgressed(job_id=job["id"], tenant_id=tenant_id, attempt=1, step=step)
        await house.bus.publish(beat)
    await house.bus.settle()
    activity = (await house.ann.get("/v1/overview")).json()["activity"]
    assert [one["type"] for one in activity] == ["JobSubmitted", "DatasetValidated"]
    assert activity[0]["name"] == "bot"
    assert activity[1]["fields"] == {"name": "support", "version": 1, "rows": 9}


async def test_every_field_that_activity_shows_is_one_of_its_event() -> None:
    for kind, fields in overview.ACTIVITY.items():
        known = {field.name for field in kind.DESCRIPTOR.fields}
        assert set(fields) <= known, kind.DESCRIPTOR.name
