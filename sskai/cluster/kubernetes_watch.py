"""What Kubernetes has, kept up to date: one list, then a watch from its version on, for one kind of object.

The client's own watch gives up on a cut connection and repeats a version that the server has forgotten (410); this one
goes on from the newest version that it saw, lists again when that is gone, and grows its pauses while the API is away.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import aiohttp
import structlog

from sskai.cluster import ClusterUnavailableError

log = structlog.get_logger()

Thing = dict[str, Any]

REQUEST_SECONDS = 10.0
WATCH_SECONDS = 30  # the server ends a watch after so long: a silence longer than that is an API that is away
PAGE = 500
MAX_EVENT_BYTES = 8 * 1024 * 1024
# A watch tells every change; should we ever have missed one, the next list mends it.
RELIST_SECONDS = 600.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 30.0
LONGEST_ASKED_PAUSE_SECONDS = 60.0
MAX_DEPARTED = 20_000

FORBIDDEN, GONE = 403, 410


class Ask(Protocol):
    """A list call of the official client, `..._without_preload_content`, bound to its namespace and labels."""

    def __call__(self, **parameters: Any) -> Awaitable[aiohttp.ClientResponse]: ...


class ApiError(Exception):
    """The API answered, with a refusal."""

    def __init__(self, status: int, text: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"Kubernetes answered {status}: {text[:500]}")
        self.status = status
        self.retry_after_seconds = retry_after_seconds


def _retry_after_seconds(headers: Any) -> float:
    """The pause that a 429 or 503 asks for, within a limit; 0: none. The API server sends whole seconds."""
    value = (headers or {}).get("Retry-After") or ""
    return min(float(value), LONGEST_ASKED_PAUSE_SECONDS) if value.isdigit() else 0.0


class Reflector:
    """The newest known objects of one kind, by name. `slim` keeps of each what is needed.

    `optional`: where we may not see this kind (403), it is taken as empty, and asked for again later.
    """

    def __init__(
        self, kind: str, ask: Ask, slim: Callable[[Thing], Thing], *, optional: bool = False, departing: bool = False
    ) -> None:
        self.kind = kind
        self.objects: dict[str, Thing] = {}
        # What was deleted, as it was last seen: a pod that was drained is gone before its exit code is asked for.
        self.departed: dict[str, Thing] = {}
        self._ask = ask
        self._slim = slim
        self.hidden = False  # we may not see this kind
        self._optional = optional
        self._departing = departing
        self._listed_at: float | None = None
        self._heard_at = 0.0  # an answer of any kind
        self._told_at = 0.0  # an event
        self._version: str | None = None
        self._written_at: dict[str, float] = {}
        self._error = ""
        self._turned = asyncio.Event()

    async def ready(self, silence_seconds: float) -> None:
        """Raises ClusterUnavailableError when nothing was listed yet, or nothing heard for longer than that."""
        try:
            async with asyncio.timeout(2 * REQUEST_SECONDS):
                await self._turned.wait()
        except TimeoutError as error:
            raise ClusterUnavailableError(f"Kubernetes did not list {self.kind} in time") from error
        if self.hidden:
            return
        if self._listed_at is None:
            raise ClusterUnavailableError(f"{self.kind}: {self._error}")
        silent = time.monotonic() - self._heard_at
        if silent > silence_seconds:
            raise ClusterUnavailableError(f"{self.kind}: nothing heard for {silent:.0f} s; {self._error}")

    def wrote(self, thing: Thing) -> None:
        """An object that we have just made: known from now on, whatever the watch has come to."""
        name = thing["metadata"]["name"]
        self.objects.setdefault(name, self._slim(thing))
        self._written_at[name] = time.monotonic()

    async def run(self) -> None:
        """List and watch for ever; cancel to stop."""
        failures = 0
        while True:
            asked_seconds = 0.0
            began = time.monotonic()
            try:
                if self._version is None or began - (self._listed_at or 0.0) > RELIST_SECONDS:
                    self._version = await self._list()
                began = time.monotonic()
                await self._watch(self._version)
                self._error = ""
            except ApiError as error:
                self._error = str(error)
                asked_seconds = error.retry_after_seconds
                if error.status == GONE:
                    self._version = None
                if error.status == FORBIDDEN and self._optional:
                    log.warning("not allowed to see these; going on without", kind=self.kind, error=self._error)
                    self.hidden = True
                    asked_seconds = RELIST_SECONDS
            except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
                self._error = f"Kubernetes did not answer: {error!r}"
            self._turned.set()
            # A list alone is no success: the watch after it may fail each time.
            if self._told_at > began or (not self._error and time.monotonic() - began > 1):
                failures = 0
            longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures, 16))
            failures += 1
            log.debug("watching again", kind=self.kind, why=self._error, failures=failures)
            await asyncio.sleep(max(asked_seconds, random.uniform(0.5, 1.0) * longest))

    def _heard(self) -> None:
        self._heard_at = time.monotonic()

    async def _list(self) -> str:
        began = time.monotonic()
        found: dict[str, Thing] = {}
        token: str | None = None
        while True:
            pages = {"_continue": token} if token else {}
            response = await self._ask(limit=PAGE, _request_timeout=REQUEST_SECONDS, **pages)
            async with response:
                await refuse(response)
                page = json.loads(await response.read())
            found |= {one["metadata"]["name"]: self._slim(one) for one in page.get("items") or []}
            token = page["metadata"].get("continue")
            if not token:
                break
        # What we made while the list was on its way may not be in it.
        self._written_at = {name: at for name, at in self._written_at.items() if at >= began}
        for name in set(self.objects) - set(found):
            if name in self._written_at:
                found[name] = self.objects[name]
            else:
                self._depart(self.objects[name])
        self.objects = found
        self.hidden = False
        self._heard()
        self._listed_at = time.monotonic()
        self._turned.set()
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> None:
        """Take changes until the server ends the watch."""
        response = await self._ask(
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=version,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=WATCH_SECONDS + REQUEST_SECONDS,
        )
        async with response:
            await refuse(response)
            self._heard()
            async for event in _lines(response):
                self._take(event)
        self._heard()

    def _take(self, event: Thing) -> None:
        kind, thing = event["type"], event["object"]
        if kind == "ERROR":
            raise ApiError(int(thing.get("code") or 500), str(thing.get("message")))
        self._heard()
        self._told_at = self._heard_at
        name = thing["metadata"].get("name", "")
        if kind in ("ADDED", "MODIFIED"):
            self.objects[name] = self._slim(thing)
        elif kind == "DELETED":
            self.objects.pop(name, None)
            self._written_at.pop(name, None)
            self._depart(self._slim(thing))
        self._version = str(thing["metadata"]["resourceVersion"])  # all that a bookmark has

    def _depart(self, thing: Thing) -> None:
        if self._departing:
            self.departed[thing["metadata"]["name"]] = thing
            while len(self.departed) > MAX_DEPARTED:
                self.departed.pop(next(iter(self.departed)))


async def refuse(response: aiohttp.ClientResponse) -> None:
    """Raises ApiError for an answer that is one."""
    if response.status >= 400:
        text = (await response.read()).decode(errors="replace")
        raise ApiError(response.status, text, _retry_after_seconds(response.headers))


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[Thing]:
    """One JSON object a line; a line may come in any number of pieces."""
    waiting = bytearray()
    async for piece in response.content.iter_any():
        waiting += piece
        *whole, rest = waiting.split(b"\n")
        for line in whole:
            if line.strip():
                yield json.loads(line)
        waiting = bytearray(rest)
        if len(waiting) > MAX_EVENT_BYTES:
            raise ValueError(f"a watch event has more than {MAX_EVENT_BYTES} bytes")
