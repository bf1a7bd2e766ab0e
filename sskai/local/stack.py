"""The embedded stack from outside: `up`, `down`, `status`, `logs`. All of it is safe to repeat."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from sskai.local import objectstore, parts, postgres
from sskai.local.layout import SERVICES, SOURCE_FOLDER, Layout
from sskai.local.paths import home_folder
from sskai.local.processes import StartError, tail, wait_until
from sskai.local.state import PartState, StackState, read_state, state_file
from sskai.local.supervisor import end_pods

UP_LIMIT_SECONDS = 900.0  # a first start downloads the broker
DOWN_LIMIT_SECONDS = 90.0
ORPHAN_LIMIT_SECONDS = 10.0
# What a user may name relative to where `sskai up` is typed.
PATHS = ("SSKAI_MARKET_TRACE", "SSKAI_CLOUD_CATALOGUE")
# Users of a part before the part.
STOP_ORDER = (*SERVICES, "cloud", "kafka", "objects", "postgres")


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One line of `sskai status`. A dead part that nobody restarts is `dead`."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: float | None
    restarts: int
    port: int | None
    rss_bytes: int | None


def up(home: Path | None = None, *, services: bool = True, say: Callable[[str], None] = print) -> StackState:
    """Start the stack and return once every part serves; says so when it runs already. Raises StartError."""
    folder = home or home_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # Others may pass (the database runs as a system user of its own), but not look around.
    folder.chmod(0o711)
    with _only_one(folder):
        state = read_state(folder)
        if state is not None and state.supervised():
            say(f"SSKAI is {state.phase} already: {state.gateway_url}")
        else:
            if state is not None and state.phase == "running":
                say("The supervisor died; stopping what it left behind. Pods go on.")
            _stop_orphans(folder, state)
            _start_supervisor(folder, "all" if services else "infrastructure")
        return _wait_until_running(folder, say)


def down(home: Path | None = None, *, purge: bool = False, say: Callable[[str], None] = print) -> None:
    """Stop everything, pods included, and leave nothing running; `purge` also deletes all data of the home folder."""
    folder = home or home_folder()
    if not folder.exists():
        say("SSKAI is down.")
        return
    with _only_one(folder):
        state = read_state(folder)
        if state is not None and state.supervised():
            state.supervisor.stop(signal.SIGTERM, DOWN_LIMIT_SECONDS)
        # Whatever the supervisor could not do, or never did because it was killed.
        _stop_orphans(folder, read_state(folder))
        end_pods(folder)
        state_file(folder).unlink(missing_ok=True)
    if purge:
        shutil.rmtree(folder)
    say("SSKAI is down." if not purge else f"SSKAI is down, and {folder} is deleted.")


def status(home: Path | None = None) -> list[PartStatus]:
    """Every part as it is now, in the order of starting; empty when the stack is down."""
    state = read_state(home or home_folder())
    if state is None:
        return []
    supervisor = _row(
        "supervisor", state.phase if state.supervised() else "dead", PartState("running", None, state.supervisor)
    )
    return [supervisor, *(_row(name, _phase(part), part) for name, part in state.parts.items())]


def logs(name: str, home: Path | None = None, *, lines: int = 100, follow: bool = False) -> Iterator[str]:
    """The part's last lines, and with `follow` every line that comes, until the caller stops. Raises StartError."""
    log = parts.log(home or home_folder(), name)
    if not log.exists():
        known = sorted(file.stem for file in log.parent.glob("*.log"))
        raise StartError(f"there is no log of {name}; there are: {', '.join(known) or 'none'}")
    size = log.stat().st_size
    yield from tail(log, lines, end=size, window_bytes=4 * 1024 * 1024).splitlines()
    if follow:
        yield from _lines_after(log, size)


def _lines_after(log: Path, position: int) -> Iterator[str]:
    while True:
        size = log.stat().st_size
        if size < position:
            position = 0  # the supervisor shortened it
        with log.open("rb") as file:
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # its rest is still to come
                position += len(line)
                yield line.decode(errors="replace").rstrip("\n")
        time.sleep(0.2)


def _start_supervisor(folder: Path, scope: str) -> None:
    log = parts.log(folder, "supervisor")
    log.parent.mkdir(mode=0o700, exist_ok=True)
    state_file(folder).unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sskai.local.supervisor", str(folder), scope],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=SOURCE_FOLDER,
            env={**with_whole_paths(os.environ), "SSKAI_HOME": str(folder)},
            start_new_session=True,
        )
    if not wait_until(lambda: read_state(folder) is not None or process.poll() is not None, limit_seconds=30):
        raise StartError(f"the supervisor says nothing; see {log}")
    if process.poll() is not None and read_state(folder) is None:
        raise StartError(f"the supervisor ended:\n{tail(log)}")


def with_whole_paths(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with paths as seen from here: the stack's parts have a working folder of their own."""
    return {
        name: str(Path(value).absolute()) if value and name in PATHS else value for name, value in environment.items()
    }


def _wait_until_running(folder: Path, say: Callable[[str], None]) -> StackState:
    told: set[str] = set()
    deadline = time.monotonic() + UP_LIMIT_SECONDS
    while time.monotonic() < deadline:
        state = read_state(folder)
        if state is None:
            break
        for name, part in state.parts.items():
            if part.state in ("running", "external") and name not in told:
                told.add(name)
                say(f"{name}: {part.state}" + (f" on port {part.port}" if part.port else ""))
        if state.phase == "running":
            return state
        if not state.supervised():
            raise StartError(state.error or f"the supervisor ended:\n{tail(parts.log(folder, 'supervisor'))}")
        time.sleep(0.05)
    raise StartError(f"the stack is not up within {UP_LIMIT_SECONDS:g} s; see {parts.log(folder, 'supervisor')}")


def _stop_orphans(folder: Path, state: StackState | None) -> None:
    """Stop the recorded children of a dead supervisor; a pid that now belongs to somebody else is left alone."""
    if state is None:
        return
    for name in STOP_ORDER:
        part = state.parts.get(name)
        if part is not None and part.process is not None:
            number = postgres.STOP_SIGNAL if name == "postgres" else signal.SIGTERM
            part.process.stop(number, ORPHAN_LIMIT_SECONDS)
    for socket in objectstore.sockets(Layout.read(folder).objectstore_ports()):
        socket.unlink(missing_ok=True)


def _phase(part: PartState) -> str:
    """What the supervisor wrote, unless it is no longer true."""
    gone = part.state in ("starting", "running") and (part.process is None or not part.process.alive())
    return "dead" if gone else part.state


def _row(name: str, phase: str, part: PartState) -> PartStatus:
    process = part.process.process() if part.process is not None else None
    if part.process is None or process is None:
        return PartStatus(name, phase, None, None, part.restarts, part.port, None)
    uptime_seconds = time.time() - part.process.started_at
    return PartStatus(name, phase, process.pid, uptime_seconds, part.restarts, part.port, _rss_bytes(name, process))


def _rss_bytes(name: str, process: psutil.Process) -> int | None:
    # The supervisor's children are the other rows, the cloud's are its pods: neither counts as its own memory.
    try:
        helpers = [] if name in ("supervisor", "cloud") else process.children(recursive=True)
        return sum(one.memory_info().rss for one in (process, *helpers))
    except psutil.Error:
        return None


def _only_one(folder: Path) -> FileLock:
    """One `up` or `down` at a time; the second one waits for the first."""
    return FileLock(folder / "lock", timeout=UP_LIMIT_SECONDS)
