"""`/v1/events`: every fact about the tenant as a CloudEvent, live and resumable (server-sent events)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.gateway.api.auth import Caller
from services.gateway.api.world import ID_PATTERN, Here
from services.gateway.hub import TooManyWaitersError
from services.gateway.store import Store
from sskai import contract
from sskai.http import Problem

router = APIRouter(prefix="/v1/events", tags=["events"])

EVENTS_AT_ONCE = 200
RETRY_MILLISECONDS = 1_000
PACKAGE = "sskai.events.v1."


def _types(types: Annotated[str | None, Query(max_length=2_000)] = None) -> list[str]:
    """`JobSubmitted,JobFailed`, short or in full."""
    names = [name.strip() for name in (types or "").split(",") if name.strip()]
    full = [name if name.startswith(PACKAGE) else PACKAGE + name for name in names]
    for name in full:
        if name not in contract.MESSAGES:
            raise Problem(
                422, "No such event", f"types: {name!r} is not in the catalogue: see /asyncapi.yaml", field="types"
            )
    return full


Position = Annotated[int, Query(ge=0, lt=2**63)]
Types = Annotated[list[str], Depends(_types)]


def _after(
    after: Position | None = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=30)] = None,
) -> int | None:
    """Where to go on; None: with what comes from now on. The header is what a browser sends when it comes back."""
    if last_event_id is None:
        return after
    if not last_event_id.isdecimal() or int(last_event_id) >= 2**63:
        raise Problem(422, "No such position", "Last-Event-ID: send the `id` of an event of this stream")
    return int(last_event_id)


async def _place(here: Here, caller: Caller) -> AsyncIterator[None]:
    """One of the tenant's places, for as long as the stream lasts."""
    with ExitStack() as stack:
        try:
            stack.enter_context(here.hub.stream_of(caller.tenant_id, here.settings.max_event_streams_per_tenant))
        except TooManyWaitersError as error:
            limit = here.settings.max_event_streams_per_tenant
            detail = f"{limit} event streams are open, which is the limit: close one"
            raise Problem(429, "Too many streams", detail, headers={"Retry-After": "5"}) from error
        yield


@router.get("", response_class=EventSourceResponse, dependencies=[Depends(_place)])
async def stream_events(
    here: Here,
    caller: Caller,
    types: Types,
    after: Annotated[int | None, Depends(_after)],
    subject: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
) -> AsyncIterable[ServerSentEvent]:
    """CloudEvents 1.0 in JSON, oldest first; `id` is the position to resume from.

    `after=0` begins with the oldest that is kept; without `after` and `Last-Event-ID` the stream begins now.
    """
    with here.hub.waiting(caller.tenant_id) as woken:
        async with here.database.transaction() as session:
            oldest, newest = await Store(session).event_bounds(caller.tenant_id)
        position = newest if after is None else after
        yield ServerSentEvent(comment="connected", id=str(position), retry=RETRY_MILLISECONDS)
        if 0 < position < oldest - 1:
            yield ServerSentEvent(comment=f"older events are no longer kept; the oldest is {oldest}")
        while not here.hub.closing.is_set():
            woken.clear()
            async with here.database.transaction() as session:
                store = Store(session)
                _, newest = await store.event_bounds(caller.tenant_id)
                rows = await store.events_after(caller.tenant_id, position, types, subject, EVENTS_AT_ONCE)
            for row in rows:
                position = row.id
                yield ServerSentEvent(
                    id=str(row.id),
                    event=row.type.removeprefix(PACKAGE),
                    raw_data=json.dumps(row.event, separators=(",", ":")),
                )
            if len(rows) < EVENTS_AT_ONCE:
                position = max(position, newest)  # what the filters left out is not looked at again
                await here.hub.pause(woken, here.settings.heartbeat_seconds)
                if not woken.is_set():
                    yield ServerSentEvent(comment="still here", id=str(position))
