"""`python -m sskai.local.supervisor HOME infrastructure|all`: starts the stack's parts and keeps them running.

It writes `state.json` at each change, so that whoever comes after it, also after a `kill -9`, finds every child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

from sskai.local import parts
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.market import Market
from sskai.local.layout import SOURCE_FOLDER, Layout, external_parts
from sskai.local.parts import ProgramMaker
from sskai.local.processes import Child, ProcessIdentity, StartError, wait_until
from sskai.local.state import PartState, StackState, write_state

Scope = Literal["infrastructure", "all"]
FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 5.0
HEALTHY_AFTER_SECONDS = 30.0
SERVICES_START_LIMIT_SECONDS = 120.0
PREPARATION_LIMIT_SECONDS = 120.0
PODS_DRAIN_LIMIT_SECONDS = 10.0
LIVENESS_SECONDS = 2.0
LOG_LIMIT_BYTES = 20 * 1024 * 1024
LOG_CHECK_SECONDS = 10.0


class Keeper:
    """Keeps one part running, in a thread of its own: start, wait for its end, start again. What ends soon again
    is started after a pause, which grows. What serves but is no longer live is ended."""

    def __init__(self, name: str, port: int, make: ProgramMaker, changed: Callable[[], None]) -> None:
        self.name = name
        self.state = PartState("starting", port)
        self._make = make
        self._changed = changed
        self._child: Child | None = None
        self._stopping = threading.Event()
        # Held while a child is spawned: a stop sees either no child or one that it can stop.
        self._spawning = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self, limit_seconds: float) -> None:
        """Start the part and wait until it serves. Raises StartError when it does not; afterwards it is kept alive."""
        child = self._spawn()
        if child is not None:
            child.wait_ready(limit_seconds, given_up=self._stopping.is_set)
            self._show("running")
            self._thread.start()

    def give_up(self) -> None:
        """Start it no more, and wait no longer for it to serve."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop the part for good, within its own limits."""
        self.give_up()
        with self._spawning:
            child = self._child
        if child is not None:
            child.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._show("stopped")

    def _keep(self) -> None:
        pause_seconds = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._wait_for_end()
            if time.monotonic() - began > HEALTHY_AFTER_SECONDS:
                pause_seconds = 0.0
            if self._stopping.is_set():
                return
            self.state.restarts += 1
            self._show("restarting")
            self._stopping.wait(pause_seconds)
            pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * pause_seconds), LAST_PAUSE_SECONDS)
            try:
                self._spawn()
            except StartError as error:
                print(error, flush=True)

    def _wait_for_end(self) -> None:
        child = self._child
        asked = time.monotonic()
        while child is not None and child.exit_code() is None:
            if self.state.state != "running" and child.is_ready():
                self._show("running")
            if self.state.state == "running" and time.monotonic() - asked > LIVENESS_SECONDS:
                asked = time.monotonic()
                if not child.program.live():
                    print(f"{self.name}: runs but cannot go on; ended, to be started anew", flush=True)
                    child.kill()
            self._stopping.wait(0.1)

    def _spawn(self) -> Child | None:
        self._child = None
        program = self._make()
        with self._spawning:
            if not self._stopping.is_set():
                self._child = Child.spawn(program)
                self.state.process = self._child.identity
        self._show("starting")
        return self._child

    def _show(self, state: Literal["starting", "running", "restarting", "stopped"]) -> None:
        self.state.state = state
        if state == "stopped":
            self.state.process = None
        self._changed()


class Supervisor:
    """One stack's life: everything up, kept up, everything down."""

    def __init__(self, layout: Layout, scope: Scope) -> None:
        self._layout = layout
        self._scope = scope
        self._writing = threading.Lock()
        self._infrastructure: list[Keeper] = []
        self._services: list[Keeper] = []
        self._state = StackState("starting", ProcessIdentity.of(os.getpid()), layout.environment())

    def run(self) -> int:
        """Serve until SIGTERM. Returns the exit code: 1 when a part did not come up, the reason in the state file."""
        signal.signal(signal.SIGTERM, self._leave)
        signal.signal(signal.SIGINT, self._leave)
        self._write()
        try:
            self._start()
            self._state.phase = "running"
            self._write()
            while True:
                time.sleep(LOG_CHECK_SECONDS)
                self._shorten_logs()
        except _Leave:
            return 0
        except Exception as error:
            traceback.print_exc()
            self._state.error = str(error) or repr(error)
            return 1
        finally:
            # The end is on its way already; asked again, it must not be cut short.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._stop()

    def _start(self) -> None:
        elsewhere = external_parts()
        self._state.parts = {name: PartState("external") for name in sorted(elsewhere)}
        wanted = {name: make for name, make in parts.infrastructure(self._layout).items() if name not in elsewhere}
        self._infrastructure = self._keepers(wanted)
        _in_parallel(lambda keeper: keeper.start(SERVICES_START_LIMIT_SECONDS), self._infrastructure)
        self._prepare()
        if self._scope == "all":
            self._services = self._keepers(parts.services(self._layout))
            _in_parallel(lambda keeper: keeper.start(SERVICES_START_LIMIT_SECONDS), self._services)

    def _stop(self) -> None:
        """Users of a part before the part: services, the cloud, the pods (which still save and report), the stores."""
        failed = self._state.error is not None
        self._state.phase = "failed" if failed else "stopping"
        self._write()
        stores = [keeper for keeper in self._infrastructure if keeper.name != "cloud"]
        clouds = [keeper for keeper in self._infrastructure if keeper.name == "cloud"]
        _in_parallel(Keeper.stop, self._services)
        _in_parallel(Keeper.stop, clouds)
        end_pods(self._layout.home)
        _in_parallel(Keeper.stop, stores)
        self._write()

    def _keepers(self, makers: dict[str, ProgramMaker]) -> list[Keeper]:
        keepers = [Keeper(name, parts.port(self._layout, name), make, self._write) for name, make in makers.items()]
        self._state.parts |= {keeper.name: keeper.state for keeper in keepers}
        return keepers

    def _prepare(self) -> None:
        steps = ("topics", "schemas") if self._scope == "all" else ("topics",)
        done = subprocess.run(
            [sys.executable, "-m", "sskai.local.prepare", *steps],
            cwd=SOURCE_FOLDER,
            env={**os.environ, **self._state.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=PREPARATION_LIMIT_SECONDS,
        )
        if done.returncode != 0:
            raise StartError(f"topics and schemas could not be made:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")

    def _shorten_logs(self) -> None:
        for name in self._state.parts:
            log = parts.log(self._layout.home, name)
            if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
                # The child keeps its open file (in append mode), so the old lines are copied and the file is emptied.
                log.with_name(log.name + ".1").write_bytes(log.read_bytes())
                os.truncate(log, 0)

    def _leave(self, _number: int, _frame: FrameType | None) -> NoReturn:
        for keeper in (*self._services, *self._infrastructure):
            keeper.give_up()
        raise _Leave

    def _write(self) -> None:
        with self._writing:
            write_state(self._layout.home, self._state)


class _Leave(BaseException):
    """SIGTERM arrived: not an Exception, so that no part's own error handling swallows it."""


def end_pods(home: Path) -> None:
    """Drain every pod of the (stopped) cloud, wait a moment for their last checkpoint, then take their machines."""
    folder = parts.cloud_folder(home)
    if not folder.exists():
        return
    cloud = Cloud(folder, Market(), time.time)
    standing = [machine.machine_id for machine in cloud.machines() if machine.state != "gone"]
    for machine_id in standing:
        cloud.drain(machine_id)
    wait_until(lambda: all(cloud.machine(one).pod.state == "exited" for one in standing), PODS_DRAIN_LIMIT_SECONDS)
    for machine_id in standing:
        cloud.terminate(machine_id)
    cloud.settle()


def _in_parallel(act: Callable[[Keeper], None], keepers: Iterable[Keeper]) -> None:
    """Do it to all at once; the first error is raised once all have ended."""
    several = list(keepers)
    with ThreadPoolExecutor(max_workers=max(1, len(several))) as pool:
        for done in [pool.submit(act, keeper) for keeper in several]:
            done.result()


def main() -> None:
    """The process that `stack.up` leaves behind."""
    # Logs, records and checkpoints are for this user only.
    os.umask(0o077)
    home, scope = Path(sys.argv[1]), sys.argv[2]
    sys.exit(Supervisor(Layout.of(home), "all" if scope == "all" else "infrastructure").run())


if __name__ == "__main__":
    main()
