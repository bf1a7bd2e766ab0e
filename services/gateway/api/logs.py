"""`/v1/jobs/{job_id}/logs`: what a job's pods print. The scheduler asks the cluster; lines stay nowhere here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from services.gateway.api import inside
from services.gateway.api.auth import Caller
from services.gateway.api.streaming import HEADERS, MEDIA_TYPE, RECHECK_SECONDS, place_for_stream
from services.gateway.api.world import Here, Id, World, not_found
from services.gateway.keys import Principal
from services.gateway.store import Store
from sskai.http import Problem

log = structlog.get_logger()

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

WHO = "scheduler"
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


async def _place(here: Here, caller: Caller, follow: bool = False) -> AsyncIterator[None]:
    """One of the tenant's places, for as long as the stream lasts."""
    with place_for_stream(here, caller) if follow else nullcontext():
        yield


@router.get("/{job_id}/logs", response_class=Response, responses=_JSON_OR_EVENTS, dependencies=[Depends(_place)])
async def get_job_logs(  # noqa: PLR0917 - filters of one question
    job_id: Id,
    request: Request,
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
    place = _place_at(last_event_id or after) or Place(attempt)
    pages = _pages(here, caller, job_id, place, tail, only=attempt is not None)
    first = await anext(pages)  # what is refused is refused before the stream begins
    events = _events(here, first, pages, request.state.still_may)
    return StreamingResponse(events, media_type=MEDIA_TYPE, headers=HEADERS)


async def _events(
    here: World, first: dict[str, Any], pages: AsyncIterator[dict[str, Any]], still_may: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Pages as server-sent events, and a sign of life where there is nothing to tell, while the caller may read."""
    yield _event(first)
    clock = asyncio.get_running_loop().time
    quiet_since = checked_at = clock()
    async for page in pages:
        now = clock()
        if now - checked_at >= RECHECK_SECONDS:
            if not await still_may():
                return
            checked_at = now
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
    url = f"{here.settings.scheduler_url.rstrip('/')}/v1/jobs/{job_id}/logs"
    params = {"attempt": place.attempt, "tail": tail, "after": place.after or None}
    answer = await inside.send(here, caller, WHO, url, params)
    if answer.status_code != 200:
        raise inside.refusal(answer, WHO)
    return dict(answer.json())


def _no_log(told: dict[str, Any]) -> Problem:
    return Problem(404, "No log", f"attempt {told['attempt']}: {told['missing']}")


def _place_at(text: str | None) -> Place | None:
    """Of a position that a stream told."""
    if not text:
        return None
    attempt, _, after = text.partition(":")
    return Place(int(attempt), after)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
