"""`/v1/limits`: what bounds the project, and how much of it is used."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.api import budgets
from services.gateway.api.auth import Caller
from services.gateway.api.members import MAX_MEMBERS
from services.gateway.api.webhooks import MAX_WEBHOOKS
from services.gateway.api.world import Here
from services.gateway.base import Base
from services.gateway.budgets import Budgets
from services.gateway.store import Store
from services.gateway.tables import BudgetRow, MemberRow, WebhookRow
from services.gateway.uploads import Uploads
from sskai.money import NANO_PER_USD

router = APIRouter(prefix="/v1/limits", tags=["accounts"])


@router.get("")
async def get_limits(here: Here, caller: Caller) -> dict[str, Any]:
    """`limit` null: none is set. `used` null: it bounds each request, upload or job, or is not known just now.

    Limits of requests and streams count in the process that answers, and the former by key.
    """
    settings, tenant_id = here.settings, caller.tenant_id
    async with here.database.transaction() as session:
        members, hooks = [await _count(session, row, tenant_id) for row in (MemberRow, WebhookRow)]
        active = await Store(session).active_jobs(tenant_id)
        uploads, upload_bytes = await Uploads(session).open(tenant_id)
        rows = await Budgets(session).of_tenant(tenant_id)
    accounts = await budgets.accounts(here, caller) if rows else {}
    concurrent = here.admission.under_way_of(caller.key_id)
    limits = [
        ("jobs.active", settings.max_active_jobs_per_tenant, active, "jobs"),
        ("job.accelerators", settings.max_accelerators_per_job, None, "accelerators"),
        ("job.usd_per_hour", settings.max_usd_per_hour_per_job, None, "USD"),
        ("job.epochs", settings.max_epochs_per_job, None, "epochs"),
        ("uploads.open", settings.max_open_uploads_per_tenant, uploads, "uploads"),
        ("uploads.open_bytes", settings.max_open_upload_bytes_per_tenant, upload_bytes, "bytes"),
        ("upload.bytes", settings.max_upload_bytes, None, "bytes"),
        ("members", MAX_MEMBERS, members, "members"),
        ("webhooks", MAX_WEBHOOKS, hooks, "webhooks"),
        ("events.streams", settings.max_event_streams_per_tenant, here.hub.streams_of(tenant_id), "streams"),
        ("api.per_second", settings.api_requests_per_second, None, "requests/s"),
        ("api.burst", settings.api_request_burst, None, "requests"),
        ("requests.concurrent", settings.max_concurrent_requests_per_key, concurrent, "requests"),
        ("requests.per_second", settings.requests_per_second_per_key, None, "requests/s"),
        ("requests.burst", settings.request_burst_per_key, None, "requests"),
        ("body.bytes", settings.max_body_bytes, None, "bytes"),
        ("dataset.bytes", settings.max_dataset_bytes, None, "bytes"),
        ("model.bytes", settings.max_model_bytes, None, "bytes"),
        *(_budget(row, accounts.get(row.budget_id)) for row in rows),
    ]
    data = [dict(zip(("name", "limit", "used", "unit"), limit, strict=True)) for limit in limits]
    return {"object": "limits", "data": data}


async def _count(session: AsyncSession, row: type[Base], tenant_id: str) -> int:
    query = select(func.count()).select_from(row).where(row.__table__.c.tenant_id == tenant_id)
    return await session.scalar(query) or 0


def _budget(row: BudgetRow, account: dict[str, Any] | None) -> tuple[str, float, float | None, str]:
    name = ".".join(part for part in ("budget", row.scope, row.target, row.period) if part)
    spent = account["spent_nano_usd"] / NANO_PER_USD if account else None
    return name, row.amount_nano_usd / NANO_PER_USD, spent, "USD"
