"""Budgets by HTTP; costs and their export are passed on from a double of the monitor on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from services.gateway.jobfile import JobFile
from sskai.client import Client, SskaiError
from sskai.contract import timestamp
from sskai.events import v1 as events
from sskai.http import PROBLEM_JSON
from tests.gateway.conftest import House, job_file, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

NANO = 10**9


class Monitor:
    """What it would say, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], str]] = []
        self.accounts: list[dict[str, Any]] = []

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/{path:path}")
        async def answer(path: str, request: Request) -> Response:
            self.asked.append((path, dict(request.query_params), request.headers["x-sskai-tenant"]))
            if path == "costs/export":
                headers = {"content-disposition": 'attachment; filename="costs.csv"'}
                return StreamingResponse(iter([b"BilledCost\n", b"1\n"]), media_type="text/csv", headers=headers)
            if path == "budgets":
                return JSONResponse({"budgets": self.accounts})
            if request.query_params.get("group_by") == "colour":
                body = {"title": "Invalid request", "detail": "group_by: knows day", "field": "group_by"}
                return JSONResponse(body, 422, media_type=PROBLEM_JSON)
            return JSONResponse({"object": path})

        return app


@pytest_asyncio.fixture(loop_scope="session")
async def monitor(house: House) -> AsyncIterator[Monitor]:
    double = Monitor()
    before = house.world.settings.otlp_url
    async with serving(double.app()) as url:
        house.world.settings.otlp_url = url
        yield double
    house.world.settings.otlp_url = before


async def put(house: House, **fields: Any) -> Any:
    return await house.ann.put("/v1/budgets", json=fields)


async def test_a_budget_is_set_told_changed_shown_and_removed(house: House, monitor: Monitor) -> None:
    first = (await put(house, scope="project", target="chat", amount_usd=150, action="stop")).json()
    again = (await put(house, scope="project", target="chat", amount_usd=200, action="stop")).json()
    other = (await put(house, scope="project", target="chat", amount_usd=900, period="total")).json()
    assert first["id"] == again["id"] != other["id"]
    told = [one for one in await house.told(events.BudgetSet) if one.target == "chat"]
    assert [(one.amount_nano_usd, one.period, one.action) for one in told] == [
        (150 * NANO, "month", "stop"),
        (200 * NANO, "month", "stop"),
        (900 * NANO, "total", "warn"),
    ]
    assert list(told[0].thresholds) == [0.5, 0.8, 1.0]
    account = {"budget_id": first["id"], "period_name": "2026-11", "spent_nano_usd": 50 * NANO}
    monitor.accounts = [{**account, "reserved_nano_usd": 20 * NANO, "left_nano_usd": 130 * NANO}]
    shown = (await house.ann.get(f"/v1/budgets/{first['id']}")).json()
    assert (shown["amount_usd"], shown["spent_usd"], shown["reserved_usd"], shown["left_usd"]) == (200, 50, 20, 130)
    listed = (await house.ann.get("/v1/budgets")).json()["data"]
    assert {one["id"]: one["spent_usd"] for one in listed} == {first["id"]: 50, other["id"]: None}
    assert (await house.bob.get(f"/v1/budgets/{first['id']}")).status_code == 404
    assert (await house.bob.delete(f"/v1/budgets/{first['id']}")).status_code == 404
    for one in (first, other):
        assert (await house.ann.delete(f"/v1/budgets/{one['id']}")).status_code == 204
    assert {one.budget_id for one in await house.told(events.BudgetRemoved)} == {first["id"], other["id"]}
    assert (await house.ann.get("/v1/budgets")).json()["data"] == []


@pytest.mark.parametrize(
    ("fields", "status", "named"),
    [
        ({"scope": "tenant", "amount_usd": 0}, 422, "amount_usd"),
        ({"scope": "planet", "amount_usd": 1}, 422, "scope"),
        ({"scope": "tenant", "target": "x", "amount_usd": 1}, 422, "target"),
        ({"scope": "project", "amount_usd": 1}, 422, "target"),
        ({"scope": "job", "target": "job_1", "amount_usd": 1}, 422, "period"),
        ({"scope": "job", "target": "job_1", "amount_usd": 1, "period": "total"}, 404, "job_1"),
        ({"scope": "endpoint", "target": "endpoint_1", "amount_usd": 1}, 404, "endpoint_1"),
        ({"scope": "tenant", "amount_usd": 1, "thresholds": [0]}, 422, "thresholds"),
        ({"scope": "tenant", "amount_usd": 1, "colour": "red"}, 422, "colour"),
    ],
)
async def test_a_budget_that_means_nothing_is_refused(
    house: House, fields: dict[str, Any], status: int, named: str
) -> None:
    answer = await put(house, **fields)
    assert answer.status_code == status
    assert named in answer.text


async def test_a_job_has_a_project_and_may_get_a_budget(house: House, monitor: Monitor) -> None:
    job = await house.job(house.ann, project="chat")
    [submitted] = [one for one in await house.told(events.JobSubmitted) if one.job_id == job["id"]]
    assert submitted.spec.project == "chat"
    answer = await put(house, scope="job", target=job["id"], amount_usd=3, period="total", action="stop")
    assert answer.status_code == 200
    assert (await house.ann.delete(f"/v1/budgets/{answer.json()['id']}")).status_code == 204


async def test_a_project_is_a_name() -> None:
    with pytest.raises(ValueError, match="project"):
        JobFile.model_validate({"kind": "finetune", **job_file(project="no spaces")})


async def test_costs_are_asked_for_the_callers_tenant(house: House, monitor: Monitor) -> None:
    answer = await house.ann.get("/v1/costs", params={"group_by": "day,kind", "since": "2026-11-01T00:00:00Z"})
    assert answer.json() == {"object": "costs"}
    [(path, asked, tenant)] = monitor.asked
    assert (path, asked) == ("costs", {"group_by": "day,kind", "since": "2026-11-01T00:00:00Z"})
    await house.bob.get("/v1/costs")
    assert monitor.asked[1][2] != tenant
    refused = await house.ann.get("/v1/costs", params={"group_by": "colour"})
    assert (refused.status_code, refused.json()["field"]) == (422, "group_by")


async def test_the_export_comes_through_as_a_file(house: House, monitor: Monitor) -> None:
    answer = await house.ann.get("/v1/costs/export", params={"format": "csv"})
    assert answer.text == "BilledCost\n1\n"
    assert "costs.csv" in answer.headers["content-disposition"]
    assert (await house.ann.get("/v1/costs/export", params={"format": "xml"})).status_code == 422


async def test_the_client_sets_budgets_and_saves_the_export(house: House, monitor: Monitor, tmp_path: Path) -> None:
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")
    file = tmp_path / "costs.csv"

    def by_client() -> int:
        with Client(house.url, key) as sskai:
            budget = sskai.budgets.put("project", 5, target="chat", action="stop")
            assert [one["id"] for one in sskai.budgets.list()] == [budget["id"]]
            assert sskai.budgets.get(budget["id"])["amount_usd"] == 5
            sskai.budgets.delete(budget["id"])
            assert sskai.costs.totals(group_by="kind", project="chat") == {"object": "costs"}
            assert sskai.costs.endpoint("endpoint_1")["object"] == "receipts/endpoints/endpoint_1"
            with pytest.raises(SskaiError, match="format"):
                sskai.costs.export(tmp_path / "costs.xml")
            return sskai.costs.export(file, since="2026-11-01T00:00:00Z")

    assert await asyncio.to_thread(by_client) == len(file.read_bytes()) == 13


async def test_an_endpoints_month_is_asked_for(house: House, monitor: Monitor) -> None:
    await house.ann.get("/v1/receipts/endpoints/endpoint_1", params={"month": "2026-11"})
    assert monitor.asked[0][:2] == ("receipts/endpoints/endpoint_1", {"month": "2026-11"})
    assert (await house.ann.get("/v1/receipts/endpoints/endpoint_1?month=2026-13")).status_code == 422


async def test_without_the_monitor_costs_are_away_and_budgets_are_still_shown(house: House) -> None:
    await put(house, scope="tenant", amount_usd=10)
    house.world.settings.otlp_url = "http://127.0.0.1:9"
    answer = await house.ann.get("/v1/costs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    [shown] = (await house.ann.get("/v1/budgets")).json()["data"]
    assert (shown["amount_usd"], shown["spent_usd"]) == (10, None)
    await house.ann.delete(f"/v1/budgets/{shown['id']}")


async def test_storage_is_no_spend_of_a_job_and_a_budgets_threshold_no_fact_of_one(house: House) -> None:
    job = await house.job(house.ann)
    at = timestamp(house.world.now())
    ids = {"job_id": job["id"], "tenant_id": (await house.told(events.JobSubmitted))[-1].tenant_id}
    kept = events.SpendRecorded(**ids, interval=1, kind="storage", amount_nano_usd=NANO, started_at=at, ended_at=at)
    reached = events.BudgetThresholdReached(
        job_id="budget_1", tenant_id=ids["tenant_id"], budget_id="budget_1", scope="tenant", fraction=0.5, at=at
    )
    await house.bus.publish(kept, reached)
    await house.bus.settle()
    assert (await house.ann.get(f"/v1/jobs/{job['id']}")).json()["spent_usd"] == 0
    assert (await house.ann.get("/v1/jobs/budget_1")).status_code == 404
