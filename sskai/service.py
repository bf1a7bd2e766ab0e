"""A service: consumer, relay, loops and a small HTTP server in one process, with one clean stop.

>>> service = Service("scheduler", settings, HANDLERS, Store, loops=[every(5, launch_queued_jobs)])
>>> service.run()
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, TypeAlias

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI, Response
from google.protobuf.message import Message
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from sskai import contract, delivery, faults, telemetry
from sskai.broker import Broker
from sskai.bus import Consumer, Incoming, Publisher, UnavailableError, backoff_seconds
from sskai.database import Database, migrate
from sskai.metrics import (
    CLOCK_AHEAD_SECONDS,
    DATABASE_CONNECTIONS,
    DATABASE_CONNECTIONS_LIMIT,
    EVENTS_SKIPPED,
    HANDLER_SECONDS,
    LOOP_ERRORS,
    LOOP_SECONDS,
    OUTBOX_AGE_SECONDS,
    OUTBOX_EVENTS,
)
from sskai.settings import Settings

log = structlog.get_logger()

LoopBody: TypeAlias = Callable[[], Awaitable[Any]]
RawHandler: TypeAlias = Callable[[bytes, Any, datetime], Awaitable[None]]

MEASURE_SECONDS = 10
VERSION = version("sskai")
STOP_SECONDS = 10  # SIGTERM to the end, at most, whatever hangs


@dataclass(frozen=True)
class Loop:
    """Something done again and again. `wake` makes the next turn come at once."""

    seconds: float
    body: LoopBody
    name: str
    wake: asyncio.Event


def every(seconds: float, body: LoopBody, *, name: str | None = None, wake: asyncio.Event | None = None) -> Loop:
    """A loop that runs `body` every so many seconds (measured from end to start), or as soon as `wake` is set."""
    inner = getattr(body, "func", body)  # functools.partial
    return Loop(seconds, body, name or str(getattr(inner, "__name__", "loop")), wake or asyncio.Event())


class Service:
    """One of the six processes. `handlers` decide which topics it reads; its name is its group and its schema."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        handlers: Mapping[type[Message], delivery.Handler],
        store: Callable[[AsyncSession], Any],
        *,
        loops: Sequence[Loop] = (),
        api: FastAPI | None = None,
        raw_topics: Mapping[str, RawHandler] | None = None,
        after_event: Callable[[Message, list[Message]], None] | None = None,
        database: Database | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.handlers = handlers
        self.database = database or Database(settings.database_url.get_secret_value(), name)
        self.db = self.database
        self.loops = [
            *loops,
            every(3600, self._forget_old_events, name="forget_old_events"),
            every(MEASURE_SECONDS, self._measure, name="measure"),
        ]
        self.api = api or FastAPI(title=f"SSKAI {name}", openapi_url=None)
        self._store = store
        self._raw_topics = raw_topics or {}
        self._after_event = after_event
        self._stopping = asyncio.Event()
        self._migrated = False
        broker = Broker.from_settings(settings)
        self._publisher = Publisher(broker, name)
        topics = {contract.topic_of(message) for message in handlers} | set(self._raw_topics)
        self._consumer = Consumer(
            broker,
            name,
            topics,
            self._take,
            self._publisher,
            instance=settings.instance,
            handle_together=self._take_together,
        )
        self._has_topics = bool(topics)
        self._relay = delivery.Relay(self.database, self._publisher)
        self._add_routes()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        faults.arm_from_environment()
        # What was imported and built lives as long as the process. Each full collection would look at all of it again,
        # and nothing else is done for these 50 to 150 ms; to look once, now, would be as long.
        gc.freeze()
        uvloop.run(self.serve())

    def stop(self) -> None:
        """Begin the clean stop."""
        self._stopping.set()

    async def serve(self) -> None:
        """What `run` does, inside a running event loop."""
        settings = self.settings
        telemetry.setup(self.name, settings.otlp_url, settings.log_level)
        running = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, self.stop)
        server = _Server(
            uvicorn.Config(
                self.api,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
                timeout_keep_alive=30,
                h11_max_incomplete_event_size=64 * 1024,
            )
        )
        # Alive from the first moment, ready once the schema stands: a service that waits for its database is not dead.
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(server.serve(), name="http")]
        await self._migrate()
        if not self._stopping.is_set():
            tasks += [asyncio.create_task(part, name=name) for name, part in self.parts()]
            log.info("started", port=settings.port, events=len(self.handlers))
        stopped: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait(), name="stop")
        # A part that ends by itself is a bug or a lost port: stop the rest, and let the supervisor start it anew.
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        failed = [] if stopped in done else list(done)
        self._stopping.set()
        server.should_exit = True
        _, hanging = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in hanging:
            log.warning("did not stop in time", part=task.get_name())
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        await self._publisher.stop()
        await self.database.close()
        await asyncio.to_thread(telemetry.shutdown)
        log.info("stopped")
        for task in failed:
            if error := task.exception():
                raise error
            raise RuntimeError(f"{self.name}: {task.get_name()} ended by itself")

    def parts(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What goes on at the same time once the schema stands, by name; each ends when the stop has begun."""
        parts = [("relay", self._relay.run(self._stopping))]
        if self._has_topics:
            parts.append(("consumer", self._consumer.run(self._stopping)))
        return [*parts, *((loop.name, self._turn(loop)) for loop in self.loops)]

    async def _migrate(self) -> None:
        tries = 0
        while not self._stopping.is_set():
            try:
                await asyncio.to_thread(migrate, self.database.url, self.name)
                self._migrated = True
                break
            except OperationalError as error:
                tries += 1
                log.warning("waiting for the database", error=str(error.orig), tries=tries)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff_seconds(tries))

    async def _take(self, incoming: Incoming) -> None:
        raw = self._raw_topics.get(incoming.topic)
        with _away_is_waited_for():
            await self._set_clock()
            if raw is not None:
                async with self.database.transaction() as session:
                    await raw(incoming.value or b"", self._store(session), self.database.clock.now())
                return
            envelope = contract.decode(incoming.value, incoming.headers)
            if type(envelope.message) not in self.handlers:
                return
            started = time.perf_counter()
            now = self.database.clock.now()
            told = await delivery.handle(self.database, self.handlers, self._store, envelope, now)
            HANDLER_SECONDS.labels(type=envelope.type).observe(time.perf_counter() - started)
        if told is not None and self._after_event is not None:
            self._after_event(envelope.message, told)

    async def _take_together(self, records: Sequence[Incoming]) -> int:
        """How many of these records of one partition are done; at least one. Raises as `_take`, or TogetherError."""
        if records[0].topic in self._raw_topics:
            await self._take(records[0])
            return 1
        decoded = [_decode(place, record) for place, record in enumerate(records)]
        places = [place for place, one in enumerate(decoded) if one and type(one.message) in self.handlers]
        envelopes = [envelope for place in places if (envelope := decoded[place])]
        told: list[list[Message] | None] = []
        if envelopes:
            started = time.perf_counter()
            with _away_is_waited_for(), _in_places(places):
                await self._set_clock()
                now = self.database.clock.now()
                told = await delivery.handle_together(self.database, self.handlers, self._store, envelopes, now)
            seconds_each = (time.perf_counter() - started) / len(told)
        for envelope, answer in zip(envelopes, told, strict=False):
            HANDLER_SECONDS.labels(type=envelope.type).observe(seconds_each)
            if answer is not None and self._after_event is not None:
                self._after_event(envelope.message, answer)
        done = len(records) if len(told) == len(envelopes) else places[len(told)]
        EVENTS_SKIPPED.labels(topic=records[0].topic).inc(decoded[:done].count(None))
        return done

    async def _turn(self, loop: Loop) -> None:
        """Run a loop's body for ever; what it raises is logged, counted and tried again later."""
        failures = 0
        while not self._stopping.is_set():
            loop.wake.clear()
            started = time.perf_counter()
            try:
                await self._set_clock()
                await loop.body()
                failures = 0
            except delivery.AWAY as error:
                failures += 1
                LOOP_ERRORS.labels(loop=loop.name).inc()
                log.warning("loop waits for a part that is away", loop=loop.name, error=str(error)[:500])
            except Exception:
                failures += 1
                LOOP_ERRORS.labels(loop=loop.name).inc()
                log.exception("loop failed", loop=loop.name, failures=failures)
            LOOP_SECONDS.labels(loop=loop.name).observe(time.perf_counter() - started)
            pause = loop.seconds if not failures else max(loop.seconds, backoff_seconds(failures))
            await self._pause(pause, loop.wake)

    async def _pause(self, seconds: float, wake: asyncio.Event) -> None:
        waits = [asyncio.create_task(self._stopping.wait()), asyncio.create_task(wake.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _set_clock(self) -> None:
        """Before anything goes by it; afterwards it is set anew with each measurement."""
        if not self.database.clock.is_set:
            await self.database.read_clock()

    async def _forget_old_events(self) -> None:
        await delivery.forget_old_events(self.database)

    async def _measure(self) -> None:
        DATABASE_CONNECTIONS.set(self.database.connections())
        DATABASE_CONNECTIONS_LIMIT.set(self.database.max_connections)
        events, age_seconds = await delivery.outbox_backlog(self.database)
        OUTBOX_EVENTS.set(events)
        OUTBOX_AGE_SECONDS.set(age_seconds)
        await self.database.read_clock()
        CLOCK_AHEAD_SECONDS.set(self.database.clock.ahead_seconds())

    def _add_routes(self) -> None:
        @self.api.get("/healthz", include_in_schema=False)
        async def healthz() -> dict[str, str]:
            return {"status": "ok", "service": self.name, "version": VERSION}

        @self.api.get("/readyz", include_in_schema=False)
        async def readyz(response: Response) -> dict[str, str]:
            parts = {"database": "ok", "schema": "ok" if self._migrated else "not up to date yet", "consumer": "ok"}
            try:
                await asyncio.wait_for(self.database.ping(), 2)
            except Exception as error:
                parts["database"] = f"away: {type(error).__name__}"
            if self._has_topics and not self._consumer.ready.is_set():
                parts["consumer"] = "no partitions assigned yet"
            if any(state != "ok" for state in parts.values()):
                response.status_code = 503
            return parts

        @self.api.get("/metrics", include_in_schema=False)
        async def metrics() -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _decode(place: int, record: Incoming) -> contract.Envelope | None:
    """None: of a type that this version does not know. Raises TogetherError: no event of the contract."""
    try:
        return contract.decode(record.value, record.headers)
    except contract.UnknownTypeError:
        return None
    except contract.UndecodableError as error:
        raise contract.TogetherError(place) from error


@contextmanager
def _away_is_waited_for() -> Iterator[None]:
    try:
        yield
    except delivery.AWAY as error:
        raise UnavailableError(str(error)) from error


@contextmanager
def _in_places(places: Sequence[int]) -> Iterator[None]:
    """Events are some of the records: what is said of an event is said of its record."""
    try:
        yield
    except contract.TogetherError as error:
        raise contract.TogetherError(places[error.index]) from error.__cause__


class _Server(uvicorn.Server):
    """Leaves signals to the service: one clean stop for all its parts."""

    @staticmethod
    def capture_signals() -> Any:
        return nullcontext()
