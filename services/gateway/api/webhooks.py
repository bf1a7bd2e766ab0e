"""`/v1/webhooks`: events by HTTP to a user's address, signed by Standard Webhooks, tried again for three days."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from services.gateway import webhooks
from services.gateway.api.auth import Caller
from services.gateway.api.events import full_types
from services.gateway.api.world import Here, Id, not_found
from services.gateway.jobfile import Form
from services.gateway.plain import iso
from services.gateway.ring import PACKAGE
from services.gateway.tables import DeliveryRow, WebhookRow
from services.gateway.webhook_store import Webhooks
from services.gateway.webhooks import MAX_URL_CHARACTERS, TEST
from sskai.contract import new_id
from sskai.http import Problem

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

MAX_WEBHOOKS = 20
MAX_DELIVERIES_SHOWN = 50
EventType = Annotated[str, Field(min_length=1, max_length=100)]


class WebhookForm(Form):
    url: Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]
    # ObjectiveBreached, DriftDetected, BudgetThresholdReached, JobFailed, ...; none: every event.
    types: Annotated[list[EventType], Field(max_length=100, default_factory=list)]


@router.post("", status_code=201)
async def create_webhook(form: WebhookForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Events from now on are sent there. `secret` is in this answer and nowhere else."""
    if problem := webhooks.url_problem(form.url, here.settings.webhook_allowed):
        raise Problem(422, "Nothing can be sent there", f"url: {problem}", field="url")
    row = WebhookRow(
        webhook_id=new_id("webhook"),
        tenant_id=caller.tenant_id,
        url=form.url,
        types=sorted(set(full_types(form.types))),
        secret=webhooks.new_secret(),
        created_at=here.now(),
    )
    async with here.database.transaction() as session:
        if len(await Webhooks(session).of_tenant(caller.tenant_id)) >= MAX_WEBHOOKS:
            raise Problem(409, "Too many webhooks", f"A tenant has at most {MAX_WEBHOOKS}: delete one")
        session.add(row)
    return {**shown(row), "secret": row.secret}


@router.get("")
async def list_webhooks(here: Here, caller: Caller) -> dict[str, Any]:
    """The tenant's, newest first."""
    async with here.database.transaction() as session:
        rows = await Webhooks(session).of_tenant(caller.tenant_id)
    return {"object": "list", "data": [shown(row) for row in rows], "has_more": False, "next": None}


@router.get("/{webhook_id}")
async def get_webhook(webhook_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One, and what became of the newest events for it."""
    async with here.database.transaction() as session:
        row = await Webhooks(session).get(caller.tenant_id, webhook_id)
        if row is None:
            raise not_found("webhook", webhook_id)
        deliveries = await Webhooks(session).deliveries(webhook_id, MAX_DELIVERIES_SHOWN)
    return {**shown(row), "deliveries": [_delivery(one) for one in deliveries]}


@router.post("/{webhook_id}/test", status_code=202)
async def test_webhook(webhook_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Send it an event of no meaning; GET /v1/webhooks/ID shows what became of it."""
    now = here.now()
    async with here.database.transaction() as session:
        kept = Webhooks(session)
        if await kept.get(caller.tenant_id, webhook_id) is None:
            raise not_found("webhook", webhook_id)
        event = {"specversion": "1.0", "id": new_id("evt"), "source": "gateway", "type": TEST, "time": iso(now)}
        return {"delivery_id": kept.add(webhook_id, caller.tenant_id, TEST, event, now)}


@router.delete("/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: Id, here: Here, caller: Caller) -> None:
    """Nothing more is sent there, also nothing that waits."""
    async with here.database.transaction() as session:
        if not await Webhooks(session).remove(caller.tenant_id, webhook_id):
            raise not_found("webhook", webhook_id)


def shown(row: WebhookRow) -> dict[str, Any]:
    return {
        "id": row.webhook_id,
        "object": "webhook",
        "url": row.url,
        "types": [name.removeprefix(PACKAGE) for name in row.types],
        "created_at": iso(row.created_at),
        "disabled_at": iso(row.disabled_at) if row.disabled_at else None,
    }


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "id": row.delivery_id,
        "type": row.type.removeprefix(PACKAGE),
        "event_id": row.event.get("id"),
        "tries": row.tries,
        "told_at": iso(row.told_at),
        "delivered_at": iso(row.delivered_at) if row.delivered_at else None,
        "next_try_at": iso(row.due_at) if row.due_at else None,
        "last_status": row.last_status,
        "last_problem": row.last_problem or None,
    }
