"""A service: consumer, relay, loops and a small HTTP server in one process, with one clean stop.

>>> service = Service("scheduler", settings, HANDLERS, Store, loops=[every(5, launch_queued_jobs)])
>>> service.run()
"""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI, Response
from google.protobuf.message import Message
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from sskai import contract, delivery, telemetry
from sskai.bus import Consumer, Incoming, Publisher, UnavailableError, backoff_seconds
from sskai.database import Database, migrate
from sskai.metrics import HANDLER_SECONDS, LOOP_ERRORS, LOOP_SECONDS
from sskai.settings import Settings

log = structlog.get_logger()

LoopBody: TypeAlias = Callable[[], Awaitable[Any]]
RawHandler: TypeAlias = Callable[[bytes, Any, datetime], Awaitable[None]]

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
        self.loops = [*loops, every(3600, self._forget_old_events, name="forget_old_events")]
        self.api = api or FastAPI(title=f"SSKAI {name}", openapi_url=None)
        self._store = store
        self._raw_topics = raw_topics or {}
        self._after_event = after_event
        self._stopping = asyncio.Event()
        self._migrated = False
        self._publisher = Publisher(settings.kafka_bootstrap, name)
        topics = {contract.topic_of(message) for message in handlers} | set(self._raw_topics)
        self._consumer = Consumer(
            settings.kafka_bootstrap, name, topics, self._take, self._publisher, instance=settings.instance
        )
        self._has_topics = bool(topics)
        self._relay = delivery.Relay(self.database, self._publisher)
        self._add_routes()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        # What was imported and built lives as long as the process. Each full collection would look at all of it again,
        # and nothing else is done for these 50 to 150 ms.
        gc.collect()
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
            tasks.append(asyncio.create_task(self._relay.run(self._stopping), name="relay"))
            if self._has_topics:
                tasks.append(asyncio.create_task(self._consumer.run(self._stopping), name="consumer"))
            tasks += [asyncio.create_task(self._turn(loop), name=loop.name) for loop in self.loops]
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
        try:
            if raw is not None:
                async with self.database.transaction() as session:
                    await raw(incoming.value or b"", self._store(session), datetime.now(UTC))
                return
            envelope = contract.decode(incoming.value, incoming.headers)
            kind = type(envelope.message)
            if kind not in self.handlers:
                return
            started = time.perf_counter()
            told = await delivery.handle(self.database, self.handlers, self._store, envelope, datetime.now(UTC))
            HANDLER_SECONDS.labels(type=envelope.type).observe(time.perf_counter() - started)
        except (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError) as error:
            raise UnavailableError(str(error)) from error
        if told is not None and self._after_event is not None:
            self._after_event(envelope.message, told)

    async def _turn(self, loop: Loop) -> None:
        """Run a loop's body for ever; what it raises is logged, counted and tried again later."""
        failures = 0
        while not self._stopping.is_set():
            loop.wake.clear()
            started = time.perf_counter()
            try:
                await loop.body()
                failures = 0
            except (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError) as error:
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

    async def _forget_old_events(self) -> None:
        await delivery.forget_old_events(self.database)

    def _add_routes(self) -> None:
        @self.api.get("/healthz", include_in_schema=False)
        async def healthz() -> dict[str, str]:
            return {"status": "ok", "service": self.name}

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


class _Server(uvicorn.Server):
    """Leaves signals to the service: one clean stop for all its parts."""

    @staticmethod
    def capture_signals() -> Any:
        return nullcontext()
