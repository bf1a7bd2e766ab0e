"""`/v1/webhooks`: events by HTTP to a user's address, signed by Standard Webhooks, tried again for three days."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BeforeValidator, Field
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import webhooks
from services.gateway.api.auth import Caller
from services.gateway.api.events import full_types
from services.gateway.api.world import After, Here, Id, Limit, World, not_found, page
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from services.gateway.plain import in_utc, iso
from services.gateway.ring import PACKAGE
from services.gateway.tables import DeliveryRow, WebhookRow
from services.gateway.webhook_store import DeliveryState, Webhooks, state_of
from services.gateway.webhooks import BOTH_SECRETS_FOR, MAX_URL_CHARACTERS, TEST
from sskai.contract import new_id
from sskai.http import Problem

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

MAX_WEBHOOKS = 20
MAX_DELIVERIES_SHOWN = 50


def _moment(value: object) -> datetime:
    at = datetime.fromisoformat(value) if isinstance(value, str) else None
    if at is None or at.tzinfo is None:
        raise ValueError("send a position, or a time with its offset: 2026-11-29T12:00:00Z")
    return in_utc(at)


Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]
# ObjectiveBreached, DriftDetected, BudgetThresholdReached, JobFailed, ...; none: every event.
Types = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=100)]
Position = Annotated[int, Field(ge=0, lt=2**63)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class WebhookForm(Form):
    url: Url
    types: Types = Field(default_factory=list)


class ChangeForm(Form):
    url: Url | None = None
    types: Types | None = None
    enabled: bool | None = None


class SecretForm(Form):
    revoke_previous: bool = False  # it may be in wrong hands: it does not sign any more


class ReplayForm(Form):
    after: Position | Moment


@router.post("", status_code=201)
async def create_webhook(form: WebhookForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Events from now on are sent there. `secret` is in this answer and nowhere else."""
    row = WebhookRow(
        webhook_id=new_id("webhook"),
        tenant_id=caller.tenant_id,
        url=_allowed(form.url, here),
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
        row = await _find(session, caller, webhook_id)
        deliveries = await Webhooks(session).deliveries(webhook_id, MAX_DELIVERIES_SHOWN)
    return {**shown(row), "deliveries": [_delivery(one) for one in deliveries]}


@router.patch("/{webhook_id}")
async def change_webhook(webhook_id: Id, form: ChangeForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Another address, other types, on or off; what is not named stays. What waits goes to the new address."""
    now = here.now()
    async with here.database.transaction() as session:
        row = await _find(session, caller, webhook_id)
        if form.url is not None:
            row.url = _allowed(form.url, here)
        if form.types is not None:
            row.types = sorted(set(full_types(form.types)))
        if form.enabled is False and row.disabled_at is None:
            await Webhooks(session).disable(webhook_id, now)
            row.disabled_at = now
        elif form.enabled:
            row.disabled_at = None
        return shown(row)


@router.post("/{webhook_id}/secret")
async def change_secret(webhook_id: Id, here: Here, caller: Caller, form: SecretForm | None = None) -> dict[str, Any]:
    """A new `secret`, in this answer and nowhere else. For 24 hours the one before signs beside it."""
    async with here.database.transaction() as session:
        row = await _find(session, caller, webhook_id)
        keep = form is None or not form.revoke_previous
        row.previous_secret = row.secret if keep else None
        row.previous_secret_until = here.now() + BOTH_SECRETS_FOR if keep else None
        row.secret = webhooks.new_secret()
        return {**shown(row), "secret": row.secret}


@router.post("/{webhook_id}/test", status_code=202)
async def test_webhook(webhook_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Send it an event of no meaning; GET /v1/webhooks/ID shows what became of it."""
    now = here.now()
    async with here.database.transaction() as session:
        await _find(session, caller, webhook_id, enabled=True)
        event = {"specversion": "1.0", "id": new_id("evt"), "source": "gateway", "type": TEST, "time": iso(now)}
        return {"delivery_id": Webhooks(session).add(webhook_id, caller.tenant_id, TEST, event, now)}


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: Id,
    here: Here,
    caller: Caller,
    *,
    state: DeliveryState | None = None,
    after: After = None,
    limit: Limit = 20,
) -> dict[str, Any]:
    """What was and is to be sent, newest first. `failed` are dead letters: given up, or switched off."""
    async with here.database.transaction() as session:
        await _find(session, caller, webhook_id)
        rows = await Webhooks(session).deliveries(webhook_id, limit + 1, state=state, after=after)
    return page([_delivery(row) for row in rows], limit)


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202)
async def replay_delivery(webhook_id: Id, delivery_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Send it now, whatever became of it, under the same id and with all its tries before it."""
    async with here.database.transaction() as session:
        await _find(session, caller, webhook_id, enabled=True)
        row = await Webhooks(session).again(webhook_id, delivery_id)
        if row is None:
            raise not_found("delivery", delivery_id)
        return _delivery(row)


@router.post("/{webhook_id}/replay", status_code=202)
async def replay_events(webhook_id: Id, form: ReplayForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Send what the log holds after a position (`id` of /v1/events) or a time, oldest first, at most 1,000 events.

    `next` is the position to go on from if there are more. These are new deliveries of the same events.
    """
    async with here.database.transaction() as session:
        row = await _find(session, caller, webhook_id, enabled=True)
        count, following = await Webhooks(session).replay(row, form.after, here.now())
    return {"object": "webhook.replay", "deliveries": count, "has_more": following is not None, "next": following}


@router.delete("/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: Id, here: Here, caller: Caller) -> None:
    """Nothing more is sent there, also nothing that waits."""
    async with here.database.transaction() as session:
        if not await Webhooks(session).remove(caller.tenant_id, webhook_id):
            raise not_found("webhook", webhook_id)


async def _find(session: AsyncSession, caller: Principal, webhook_id: str, *, enabled: bool = False) -> WebhookRow:
    row = await Webhooks(session).get(caller.tenant_id, webhook_id)
    if row is None:
        raise not_found("webhook", webhook_id)
    if enabled and row.disabled_at is not None:
        raise Problem(409, "The webhook is switched off", 'Switch it on first: PATCH with {"enabled": true}')
    return row


def _allowed(url: str, here: World) -> str:
    if problem := webhooks.url_problem(url, here.settings.webhook_allowed):
        raise Problem(422, "Nothing can be sent there", f"url: {problem}", field="url")
    return url


def shown(row: WebhookRow) -> dict[str, Any]:
    return {
        "id": row.webhook_id,
        "object": "webhook",
        "url": row.url,
        "types": [name.removeprefix(PACKAGE) for name in row.types],
        "enabled": row.disabled_at is None,
        "created_at": iso(row.created_at),
        "disabled_at": iso(row.disabled_at) if row.disabled_at else None,
        "previous_secret_until": iso(row.previous_secret_until) if row.previous_secret_until else None,
    }


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "id": row.delivery_id,
        "object": "webhook.delivery",
        "state": state_of(row),
        "type": row.type.removeprefix(PACKAGE),
        "event_id": row.event.get("id"),
        "tries": row.tries,
        "told_at": iso(row.told_at),
        "delivered_at": iso(row.delivered_at) if row.delivered_at else None,
        "next_try_at": iso(row.due_at) if row.due_at else None,
        "last_status": row.last_status,
        "last_problem": row.last_problem or None,
    }
