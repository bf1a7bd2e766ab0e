"""`/v1/events`: every fact about the tenant as a CloudEvent, live and resumable (server-sent events), or in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from services.gateway.api.auth import Caller
from services.gateway.api.streaming import MEDIA_TYPE, EventStreamResponse, place_for_stream
from services.gateway.api.world import ID_PATTERN, Here, Limit, page
from services.gateway.feeds import Stream
from services.gateway.plain import iso
from services.gateway.ring import PACKAGE, Wanted
from services.gateway.store import Store
from services.gateway.tables import EventRow
from sskai import contract
from sskai.http import Problem

router = APIRouter(prefix="/v1/events", tags=["events"])

JSON = "application/json"
_STREAM_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/cloudevents+json"},
        "retry": {"type": "integer", "minimum": 0},
    },
}
_PAGE_SCHEMA = {
    "type": "object",
    "required": ["object", "data", "has_more", "next"],
    "properties": {
        "object": {"type": "string", "const": "list"},
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "object", "type", "subject", "at", "event"],
                "properties": {
                    "id": {"type": "integer"},
                    "object": {"type": "string", "const": "event"},
                    "type": {"type": "string"},
                    "subject": {"type": "string"},
                    "at": {"type": "string", "format": "date-time"},
                    "event": {"type": "object", "description": "The CloudEvent"},
                },
            },
        },
        "has_more": {"type": "boolean"},
        "next": {"type": ["integer", "null"]},
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A stream without end, or a page of the log",
        "content": {MEDIA_TYPE: {"schema": _STREAM_SCHEMA}, JSON: {"schema": _PAGE_SCHEMA}},
    }
}


def full_types(names: list[str]) -> list[str]:
    """`JobSubmitted`, short or in full, as the contract has them. Raises Problem."""
    full = [name if name.startswith(PACKAGE) else PACKAGE + name for name in names]
    for name in full:
        if name not in contract.MESSAGES:
            detail = f"types: {name.removeprefix(PACKAGE)!r} is not in the catalogue: see /asyncapi.yaml"
            raise Problem(422, "No such event", detail, field="types")
    return full


def _types(types: Annotated[str | None, Query(max_length=2_000)] = None) -> list[str]:
    """`JobSubmitted,JobFailed`."""
    return full_types([name.strip() for name in (types or "").split(",") if name.strip()])


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


async def _as_page(
    format: Annotated[
        Literal["json", "sse"] | None, Query(description="`json`: a page, as with Accept: application/json")
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> bool:
    return format == "json" or (format is None and JSON in accept and MEDIA_TYPE not in accept)


AsPage = Annotated[bool, Depends(_as_page)]


async def _place(here: Here, caller: Caller, as_page: AsPage) -> AsyncIterator[None]:
    """One of the tenant's places, for as long as the stream lasts."""
    with nullcontext() if as_page else place_for_stream(here, caller):
        yield


@router.get("", response_class=Response, responses=_RESPONSES, dependencies=[Depends(_place)])
async def stream_events(
    request: Request,
    here: Here,
    caller: Caller,
    *,
    as_page: AsPage,
    types: Types,
    after: Annotated[int | None, Depends(_after)],
    subject: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    limit: Limit = 20,
    order: Literal["asc", "desc"] = "asc",
) -> Response:
    """CloudEvents 1.0 in JSON, oldest first; `id` is the position to resume from.

    `after=0` begins with the oldest that is kept; without `after` and `Last-Event-ID` the stream begins now.
    With `format=json` or `Accept: application/json` it is a page of what is kept: `limit` events after `after`, or with
    `order=desc` the newest first, and before `after` if it is given.
    """
    if not as_page:
        wanted = Wanted(frozenset(types), subject)
        heartbeat = here.settings.heartbeat_seconds
        stream = Stream(here.feeds, caller.tenant_id, wanted, after, heartbeat_seconds=heartbeat)
        return EventStreamResponse(stream, request.state.still_may)
    async with here.database.transaction() as session:
        store = Store(session)
        if order == "desc":
            rows = await store.event_log.before(caller.tenant_id, after, types, subject, limit + 1)
        else:
            rows = await store.event_log.after(caller.tenant_id, after or 0, types, subject, limit + 1)
    return JSONResponse(page([_shown(row) for row in rows], limit))


def _shown(row: EventRow) -> dict[str, Any]:
    """`id` is the position in the log, `at` when it was logged."""
    return {
        "id": row.id,
        "object": "event",
        "type": row.type.removeprefix(PACKAGE),
        "subject": row.subject,
        "at": iso(row.at),
        "event": row.event,
    }
