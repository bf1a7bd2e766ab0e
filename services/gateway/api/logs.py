"""`/v1/jobs/{job_id}/logs`: what a job's pods print. The scheduler asks the cluster; lines stay nowhere here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import httpx2
import structlog
from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, Id, World, not_found
from services.gateway.hub import TooManyWaitersError
from services.gateway.keys import Principal
from services.gateway.store import Store
from sskai.http import PROBLEM_JSON, Problem

log = structlog.get_logger()

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

SCHEDULER_SECONDS = 30
MAX_LINES = 10_000
# A follower asks at most so often while lines come, and more rarely while they do not.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.3, 2.0
POSITION = r"^\d{1,9}:[\x21-\x7e]{0,200}$"

Attempt = Annotated[int | None, Query(ge=1, description="By default the newest; a stream goes on with the next")]
Tail = Annotated[int, Query(ge=1, le=MAX_LINES, description="So many of the last lines")]
_JSON_OR_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The lines; with `follow=true` as server-sent events `line` and, when the job has ended, `end`",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a job's logs somebody is. `after`: in the cluster's words; empty: before the last `tail` lines."""

    attempt: int | None
    after: str = ""

    @property
    def id(self) -> str:
        return f"{self.attempt}:{self.after}"


@router.get("/{job_id}/logs", response_class=Response, responses=_JSON_OR_EVENTS)
async def get_job_logs(  # noqa: PLR0917 - filters of one question
    job_id: Id,
    here: Here,
    caller: Caller,
    attempt: Attempt = None,
    tail: Tail = 100,
    follow: bool = False,
    after: Annotated[str | None, Query(pattern=POSITION, description="The `id` of a stream's event")] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", pattern=POSITION)] = None,
) -> Response:
    """The last lines that an attempt's pod printed; `truncated`: there were more before them.

    With `follow=true` a stream: the last lines, then those that come, of this attempt and the next ones, until the job
    has ended (of a named attempt, until that has). An attempt whose log is no longer kept is 404 with the reason.
    """
    async with here.database.transaction() as session:
        if await Store(session).job(caller.tenant_id, job_id) is None:
            raise not_found("job", job_id)
    if not follow:
        told = await _ask(here, caller, job_id, Place(attempt), tail)
        if told["missing"]:
            raise _no_log(told)
        lines = {name: told[name] for name in ("job_id", "attempt", "lines", "truncated")}
        return Response(_json({"object": "job.logs", **lines}), media_type="application/json")
    place = _place(last_event_id or after) or Place(attempt)
    pages = _pages(here, caller, job_id, place, tail, only=attempt is not None)
    first = await anext(pages)  # what is refused is refused before the stream begins
    with ExitStack() as stack:
        try:
            stack.enter_context(here.hub.stream_of(caller.tenant_id, here.settings.max_event_streams_per_tenant))
        except TooManyWaitersError as error:
            limit = here.settings.max_event_streams_per_tenant
            detail = f"{limit} streams are open, which is the limit: close one"
            raise Problem(429, "Too many streams", detail, headers={"Retry-After": "5"}) from error
        held = stack.pop_all()
    events = _events(here, first, pages, held)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _events(
    here: World, first: dict[str, Any], pages: AsyncIterator[dict[str, Any]], held: ExitStack
) -> AsyncIterator[bytes]:
    """Pages as server-sent events, and a sign of life where there is nothing to tell."""
    with held:
        yield _event(first)
        quiet_since = asyncio.get_running_loop().time()
        async for page in pages:
            now = asyncio.get_running_loop().time()
            if page["lines"] or page.get("end"):
                quiet_since = now
                yield _event(page)
            elif now - quiet_since >= here.settings.heartbeat_seconds:
                quiet_since = now
                yield format_sse_event(comment="still here")


def _event(page: dict[str, Any]) -> bytes:
    lines, place = page["lines"], page["place"]
    # Only a page's last line moves the position: what breaks off before it comes again.
    events = [
        format_sse_event(
            event="line",
            data_str=_json({"attempt": page["attempt"], **line}),
            id=place.id if number == len(lines) and place.attempt else None,
        )
        for number, line in enumerate(lines, start=1)
    ]
    if page.get("end"):
        events.append(format_sse_event(event="end", data_str=_json({"job_id": page["job_id"]})))
    return b"".join(events) or format_sse_event(comment="connected")


async def _pages(
    here: World, caller: Principal, job_id: str, place: Place, tail: int, *, only: bool
) -> AsyncIterator[dict[str, Any]]:
    """What comes, a page at a time, empty ones too, to the last. The first raises Problem; later whoever follows waits
    for a scheduler that is away."""
    told = await _ask(here, caller, job_id, place, tail)
    if told["missing"] and told["ended"] and (only or told["job_ended"]):
        raise _no_log(told)
    pause = FIRST_PAUSE_SECONDS
    while True:
        place = Place(told["attempt"] or None, told["after"])
        over = told["ended"] and not told["lines"]
        following = [] if only else [number for number in told["attempts"] if number > told["attempt"]]
        end = (over and not following and (only or told["job_ended"])) or (told["job_ended"] and not told["attempts"])
        yield {**told, "place": place, "end": end}
        if end or here.hub.closing.is_set():
            return
        if over and following:
            place, tail, pause = Place(following[0]), MAX_LINES, FIRST_PAUSE_SECONDS
        else:
            pause = FIRST_PAUSE_SECONDS if told["lines"] else min(2 * pause, LAST_PAUSE_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(here.hub.closing.wait(), pause)
        try:
            told = await _ask(here, caller, job_id, place, tail)
        except Problem as problem:
            log.info("a log cannot be followed for the moment", job=job_id, error=str(problem))
            told = {**told, "lines": [], "ended": False, "job_ended": False}


async def _ask(here: World, caller: Principal, job_id: str, place: Place, tail: int) -> dict[str, Any]:
    """A page of the scheduler's. Raises Problem."""
    params = {"attempt": place.attempt, "tail": tail, "after": place.after or None}
    try:
        answer = await here.http.get(
            f"{here.settings.scheduler_url.rstrip('/')}/v1/jobs/{job_id}/logs",
            params={name: value for name, value in params.items() if value is not None},
            headers=here.internal_headers(caller.tenant_id),
            timeout=SCHEDULER_SECONDS,
        )
    except httpx2.HTTPError as error:
        raise Problem(
            503, "The scheduler is away", "Try again in a few seconds", headers={"Retry-After": "2"}
        ) from error
    if answer.status_code == 200:
        return dict(answer.json())
    if answer.status_code in (404, 503) and answer.headers.get("content-type", "").startswith(PROBLEM_JSON):
        body = answer.json()
        more = {"field": body["field"]} if body.get("field") else {}
        raise Problem(answer.status_code, str(body.get("title", "")), str(body.get("detail", "")), **more)
    raise Problem(502, "The scheduler failed", f"It answered {answer.status_code}: try again")


def _no_log(told: dict[str, Any]) -> Problem:
    return Problem(404, "No log", f"attempt {told['attempt']}: {told['missing']}")


def _place(text: str | None) -> Place | None:
    """Of a position that a stream told."""
    if not text:
        return None
    attempt, _, after = text.partition(":")
    return Place(int(attempt), after)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
