"""One endpoint's engine in a pod of its own: `python -m services.inference.replica`, told all by `SSKAI_*`.

It loads the weights, tells the service that it is ready, and answers until it is asked to stop. Needs neither database
nor broker. Its exit codes stand in `words.Exit`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import nullcontext, suppress
from typing import Any

# As in the service: OpenMP's threads sleep instead of spinning (docs/decisions/0006). Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import structlog
import uvicorn
import uvloop
from pydantic import ValidationError

from services.inference.artifacts import LoadError
from services.inference.replica import api
from services.inference.replica.home import Home, address_towards
from services.inference.replica.loaded import Loaded, load
from services.inference.replica.settings import ReplicaSettings
from services.inference.replica.words import EXIT_OF, Exit, ReplicaState, Report
from sskai import telemetry

log = structlog.get_logger()

REPORT_SECONDS = 2.0
CLOSE_SECONDS = 2  # for connections that nobody is answered on


class Replica:
    def __init__(self, settings: ReplicaSettings, listening: socket.socket) -> None:
        host = settings.replica_host or str(listening.getsockname()[0])
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        self._settings = settings
        self._listening = listening
        self._stopping = asyncio.Event()
        self._home = Home(settings.replica_home, settings.replica_id, settings.replica_token.get_secret_value())

    async def run(self) -> Exit:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        try:
            return await self._load_and_serve()
        finally:
            await self._home.close()

    async def _load_and_serve(self) -> Exit:
        started = time.perf_counter()
        loading = asyncio.get_running_loop().run_in_executor(None, load, self._settings)
        if not await self._before_stop(loading):
            await self._home.tell(Report(state=ReplicaState.DRAINING, url=self._url))
            return Exit.DRAINED
        try:
            loaded = loading.result()
        except LoadError as error:
            log.warning("cannot load", reason=error.reason, detail=error.detail)
            await self._home.tell_at_last(Report(state=ReplicaState.FAILED, reason=error.reason, detail=error.detail))
            return EXIT_OF[error.reason]
        try:
            return await self._serve(loaded, time.perf_counter() - started)
        finally:
            await asyncio.to_thread(loaded.close)

    async def _before_stop(self, work: asyncio.Future[Any]) -> bool:
        """Whether the work ended before somebody asked to stop."""
        stop = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        return work.done()

    async def _serve(self, loaded: Loaded, load_seconds: float) -> Exit:
        settings = self._settings
        about = {"sskai.replica": settings.replica_id, "sskai.endpoint": settings.replica_endpoint.endpoint_id}
        desk = api.Desk(loaded.engine, loaded.names, loaded.capacity, about)
        app = api.build(desk, settings.replica_token.get_secret_value())
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[self._listening]))

        def report() -> Report:
            occupancy = loaded.engine.occupancy()
            return Report(
                state=ReplicaState.DRAINING if desk.draining else ReplicaState.READY,
                url=self._url,
                load_seconds=load_seconds,
                active=occupancy.active,
                waiting=occupancy.waiting,
                tokens_per_second=desk.tokens_per_second(),
            )

        log.info("ready", url=self._url, load_seconds=round(load_seconds, 3))
        while not self._stopping.is_set():
            await self._home.tell(report())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), REPORT_SECONDS)
            if not self._home.wants_us:
                log.warning("nobody wants this replica any more")
                break
            if not loaded.alive() or serving.done():
                detail = "the engine's process has ended" if not loaded.alive() else "the HTTP server has ended"
                await self._home.tell_at_last(Report(state=ReplicaState.FAILED, reason="internal", detail=detail))
                return Exit.INTERNAL
        desk.draining = True
        log.info("draining", **report().model_dump(include={"active", "waiting"}))
        await self._home.tell(report())
        if not await desk.wait_until_idle(settings.replica_drain_seconds):
            log.warning("answers are left to other replicas", **report().model_dump(include={"active", "waiting"}))
            server.config.timeout_graceful_shutdown = 0
        server.should_exit = True
        await serving
        return Exit.DRAINED


class _Server(uvicorn.Server):
    """Leaves signals to the replica."""

    @staticmethod
    def capture_signals() -> Any:
        return nullcontext()


def main() -> int:
    try:
        settings = ReplicaSettings()
    except ValidationError as error:
        print(f"the environment is not a replica's: {error}", file=sys.stderr)
        return Exit.MISCONFIGURED
    telemetry.setup("replica", settings.otlp_url, settings.log_level)
    structlog.contextvars.bind_contextvars(
        replica_id=settings.replica_id, endpoint_id=settings.replica_endpoint.endpoint_id
    )
    try:
        host = address_towards(settings.replica_home)
        listening = socket.create_server((host, settings.replica_port), family=_family(host), backlog=2048)
    except OSError as error:
        log.warning("cannot listen", error=str(error))
        return Exit.MISCONFIGURED

    async def run() -> Exit:
        return await Replica(settings, listening).run()

    code = uvloop.run(run())
    log.info("ended", exit=code.name)
    telemetry.shutdown()
    return code


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a load that a stop overtook is still going on in its thread, and nothing waits for it.
    os._exit(status)
