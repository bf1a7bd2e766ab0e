"""A response whose body goes on until its client leaves, at the cost of two waiting tasks beside the request's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.api.world import World
from services.gateway.feeds import Stream
from services.gateway.hub import TooManyWaitersError
from services.gateway.keys import Principal
from sskai.http import Problem

MEDIA_TYPE = "text/event-stream"
RECHECK_SECONDS = 3.0  # with what is remembered of keys, a revoked one ends its streams within 5 s
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies must not hold back what is said


@contextmanager
def place_for_stream(here: World, caller: Principal) -> Iterator[None]:
    """One of the tenant's places for streams, for as long as the block lasts. Raises Problem if there is none."""
    limit = here.settings.max_event_streams_per_tenant
    with ExitStack() as stack:
        try:
            stack.enter_context(here.hub.stream_of(caller.tenant_id, limit))
        except TooManyWaitersError as error:
            detail = f"{limit} streams are open, which is the limit: close one"
            raise Problem(429, "Too many streams", detail, headers={"Retry-After": "5"}) from error
        yield


class EventStreamResponse(Response):
    """Sends a stream's pieces as they come. A send waits while the client does not read.

    `still_may`: asked now and then; once it says no, the stream ends.
    """

    media_type = MEDIA_TYPE

    def __init__(self, stream: Stream, still_may: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._stream = stream
        self._still_may = still_may

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        watching = asyncio.create_task(self._watch(receive))
        try:
            async with aclosing(self._stream.pieces()) as pieces:
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        hearing = asyncio.ensure_future(receive())
        try:
            while True:
                heard, _ = await asyncio.wait({hearing}, timeout=RECHECK_SECONDS)
                if heard:
                    if hearing.result()["type"] == "http.disconnect":
                        break
                    hearing = asyncio.ensure_future(receive())
                elif not await self._still_may():
                    break
        finally:
            hearing.cancel()
            self._stream.leave()
