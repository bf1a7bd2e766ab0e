"""`/v1/overview`: the first page in one answer: what was saved, what runs, what needs a decision, what happened."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter

from services.gateway import overview
from services.gateway.api import budgets, jobs, monitor
from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, World
from services.gateway.budgets import Budgets
from services.gateway.domain import JobView
from services.gateway.endpoints import EndpointView
from services.gateway.keys import Principal
from services.gateway.overview_store import OverviewStore
from services.gateway.plain import iso
from sskai.http import Problem

router = APIRouter(prefix="/v1/overview", tags=["overview"])

DAYS = 30
YEAR_DAYS = 365
MAX_JOBS = 20
MAX_ACTIVITY = 30


@router.get("")
async def get_overview(here: Here, caller: Caller) -> dict[str, Any]:
    """`month` to date (UTC), the last 30 and 365 days, cost per day, the tenant's monthly budget, jobs in progress,
    endpoints by state, decisions that wait, and the newest activity. What the monitor tells is null while it is away.
    """
    now = here.now()
    tenant_id = caller.tenant_id
    (month, days, year), all_budgets, told = await asyncio.gather(
        _money(here, caller, now), _budgets(here, caller), _told(here, tenant_id, now)
    )
    monthly = (one for one in all_budgets if one["scope"] == "tenant" and one["period"] == "month")
    return {
        "object": "overview",
        "month": _sums(month),
        "last_30_days": _sums(days),
        "last_365_days": _sums(year),
        "cost_per_day": [_day(one) for one in days["groups"]] if days else None,
        "budget": next(monthly, None),
        **told,
        "decisions": [*told["decisions"], *overview.of_budgets(all_budgets)],
    }


async def _told(here: World, tenant_id: str, now: datetime) -> dict[str, Any]:
    async with here.database.transaction() as session:
        store = OverviewStore(session)
        in_progress = await store.jobs_in_progress(tenant_id, MAX_JOBS)
        held = await store.held_jobs(tenant_id)
        failed = await store.failed_endpoints(tenant_id)
        off = await store.webhooks_off(tenant_id)
        retrains = await store.retrains(tenant_id, now)
        activity = await store.activity(tenant_id, MAX_ACTIVITY)
        subjects = [getattr(message, message.DESCRIPTOR.fields[0].name) for _, _, message in activity]
        names = await store.names(tenant_id, [*subjects, *(message.endpoint_id for message in retrains)])  # type: ignore[attr-defined]
        job_counts, endpoint_counts = await store.job_counts(tenant_id), await store.endpoint_counts(tenant_id)
    holds = [(row, hold) for row in held if (hold := JobView.model_validate(row.view).hold) is not None]
    broken = [(row, EndpointView.model_validate(row.view)) for row in failed]
    return {
        "jobs": [jobs.summary(row) for row in in_progress],
        "job_counts": job_counts,
        "endpoint_counts": endpoint_counts,
        "decisions": [
            *overview.of_retrains(retrains, names, now),
            *(
                overview.of_job(row.job_id, row.name, hold.detail or hold.rule, hold.since or hold.at)
                for row, hold in holds
            ),
            *(
                overview.of_endpoint(row.endpoint_id, row.name, view.reason, view.failed_at or row.created_at)
                for row, view in broken
            ),
            *(overview.of_webhook(row.webhook_id, row.url, row.disabled_at) for row in off if row.disabled_at),
        ],
        "activity": [overview.activity(position, at, message, names) for position, at, message in activity],
    }


async def _money(here: World, caller: Principal, now: datetime) -> tuple[dict[str, Any] | None, ...]:
    """The ledger's answers for this month, the last 30 days by the day, and the last 365 days."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    spans = [
        {"group_by": ""},
        {"group_by": "day", "since": iso(midnight - timedelta(days=DAYS - 1))},
        {"group_by": "", "since": iso(midnight - timedelta(days=YEAR_DAYS - 1))},
    ]
    return tuple(await asyncio.gather(*(_costs(here, caller, span) for span in spans)))


async def _costs(here: World, caller: Principal, span: dict[str, str]) -> dict[str, Any] | None:
    try:
        answer = await monitor.ask(here, caller, "/v1/costs", span)
    except Problem as problem:
        if problem.status < 500:
            raise
        return None
    told: dict[str, Any] = json.loads(bytes(answer.body))
    return told


async def _budgets(here: World, caller: Principal) -> list[dict[str, Any]]:
    async with here.database.transaction() as session:
        rows = await Budgets(session).of_tenant(caller.tenant_id)
    return await budgets.with_accounts(here, caller, rows)


def _sums(told: dict[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    total = told["total"]
    return {
        "since": told["since"],
        "until": told["until"],
        "paid_usd": total["spent_usd"],
        "on_demand_usd": total["on_demand_usd"],
        "saved_usd": total["saving_usd"],
        "saved_fraction": total["saving_fraction"],
        "time_saved_seconds": told["time_saved_seconds"],
    }


def _day(group: dict[str, Any]) -> dict[str, Any]:
    return {"day": group["day"], "paid_usd": group["spent_usd"], "on_demand_usd": group["on_demand_usd"]}
