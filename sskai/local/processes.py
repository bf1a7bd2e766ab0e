"""Child processes with a readiness check, a bounded stop and an identity that survives the reuse of process ids.

A process is named by its id *and* its start time: an id alone may belong to a stranger after a crash or a reboot.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import psutil

# Below the range that Linux and macOS hand to outgoing connections: a part that died finds its port free again.
PORT_RANGE = range(20_000, 32_000)
# Clock ticks and boot time are rounded, so one process may be seen with slightly different start times.
START_TIME_TOLERANCE_SECONDS = 2.0
START_LIMIT_SECONDS = 120.0


class StartError(RuntimeError):
    """A part of the stack did not come up; the message says which one, why, and where its log is."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for ever: `started_at` is in seconds since the epoch."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The identity of a process that runs now. Raises `psutil.NoSuchProcess`."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The live process, or None when it ended (a zombie has ended) or its id belongs to another one."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) > START_TIME_TOLERANCE_SECONDS:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.Error:
            return None

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return self.process() is not None

    def signal_group(self, number: int) -> bool:
        """Send a signal to the process group it leads; False when there is nobody left to hear it."""
        if not self.alive():
            return False
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def stop(self, number: int = signal.SIGTERM, limit_seconds: float = 10.0) -> None:
        """Ask it to stop, wait for at most `limit_seconds`, then kill its whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.alive():
                os.kill(self.pid, number)
        if not wait_until(lambda: not self.alive(), limit_seconds):
            self.signal_group(signal.SIGKILL)
            wait_until(lambda: not self.alive(), limit_seconds)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run and how to know that it serves. `ready` may raise OSError, which means "not yet".

    `live`: whether it can go on as it is, asked every few seconds while it serves; if not, only a new start helps.
    """

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    stop_limit_seconds: float = 10.0
    leftovers: Sequence[Path] = ()
    live: Callable[[], bool] = lambda: True


class Child:
    """A started program. It leads a session of its own, so no terminal's signal reaches it."""

    def __init__(self, program: Program, process: subprocess.Popen[bytes]) -> None:
        self.program = program
        self.identity = ProcessIdentity.of(process.pid)
        self._process = process

    @classmethod
    def spawn(cls, program: Program) -> Child:
        """Start it; its output is appended to the program's log. Raises StartError when it cannot be executed."""
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            try:
                process = subprocess.Popen(
                    list(program.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=program.folder,
                    env={**os.environ, **program.environment},
                    **run_as(program.user),
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(f"{program.name}: cannot run {program.command[0]}: {error}") from error
        return cls(program, process)

    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal, or None while it runs."""
        if self._process.returncode is None:
            self._sweep_if_ended()
        return self._process.poll()

    def is_ready(self) -> bool:
        """Whether it serves now."""
        try:
            return self.program.ready()
        except OSError:
            return False

    def wait_ready(self, limit_seconds: float = START_LIMIT_SECONDS, given_up: Callable[[], bool] = bool) -> None:
        """Return once it serves. Raises StartError with the log's last lines when it ended, or the limit passed."""
        wait_until(lambda: given_up() or self.exit_code() is not None or self.is_ready(), limit_seconds)
        code = self.exit_code()
        if code is None and self.is_ready():
            return
        reason = f"not ready within {limit_seconds:g} s" if code is None else f"ended with exit code {code}"
        raise StartError(f"{self.program.name}: {reason}; {self.program.log} ends with:\n{tail(self.program.log)}")

    def kill(self) -> None:
        """End it and its whole group at once, with nothing saved."""
        self.identity.signal_group(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it cleanly within the program's limit, else kill it; remove what it leaves in the file system."""
        self.identity.stop(self.program.stop_signal, self.program.stop_limit_seconds)
        self.exit_code()
        self._process.wait()
        remove_leftovers(self.program)

    def _sweep_if_ended(self) -> None:
        """Kill what a dead leader left in its group, while its number cannot yet be reused."""
        with contextlib.suppress(ChildProcessError, ProcessLookupError, PermissionError):
            if os.waitid(os.P_PID, self.identity.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                os.killpg(self.identity.pid, signal.SIGKILL)


class Server:
    """A ready child with a folder: what tests hold. `start_seconds`: from the request to the first answer."""

    def __init__(self, child: Child, folder: Path, *, folder_is_ours: bool, started: float) -> None:
        self.child = child
        self.folder = folder
        self._folder_is_ours = folder_is_ours
        self._leash = _leash(child, [folder] if folder_is_ours else [])
        try:
            child.wait_ready()
        except StartError:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started

    def stop(self) -> None:
        """Stop the process and remove its folder if `start` made it."""
        self.child.stop()
        self._leash.kill()
        self._leash.communicate()
        if self._folder_is_ours:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _leash(child: Child, folders: Sequence[Path]) -> subprocess.Popen[bytes]:
    """Kill the child and remove what it leaves when this process dies, however it dies.

    A shell waits on a pipe whose other end only this process holds: its end closes with us, also after kill -9. The
    kernel's parent-death signal would not do, because it fires when the *thread* ends that started the child.
    """
    script = 'read _; kill -KILL -"$0"; sleep 1; rm -rf "$@"'
    leftovers = [str(path) for path in (*folders, *child.program.leftovers)]
    command = ["/bin/sh", "-c", script, str(child.identity.pid), *leftovers]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_until(condition: Callable[[], bool], limit_seconds: float, pause_seconds: float = 0.02) -> bool:
    """Poll until the condition holds; False when the limit passed first."""
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_seconds)
    return True


class RunAs(TypedDict, total=False):
    """The arguments of `subprocess` that choose whom a child runs as."""

    user: str
    group: int
    extra_groups: list[int]


def run_as(user: str | None) -> RunAs:
    """Run a child as this system user, with its own group only; as ourselves for None."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def free_ports(count: int, *, taken: Collection[int] = ()) -> list[int]:
    """Distinct loopback TCP ports that nobody listens on nor has taken, outside the range of outgoing connections."""
    ports: list[int] = []
    for port in random.sample(PORT_RANGE, k=len(PORT_RANGE)):
        if len(ports) == count:
            break
        if port not in taken and port_is_free(port):
            ports.append(port)
    return ports


def port_is_free(port: int) -> bool:
    """Whether a listener could bind the loopback port now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def remove_leftovers(program: Program) -> None:
    """Remove the files (sockets, as a rule) that a killed program leaves outside its folder."""
    for path in program.leftovers:
        path.unlink(missing_ok=True)


def tail(path: Path, lines: int = 15, *, end: int | None = None, window_bytes: int = 65_536) -> str:
    """The last lines of a text file (of its first `end` bytes), read from the back; empty when there is no file."""
    try:
        with path.open("rb") as file:
            stop = file.seek(0, os.SEEK_END) if end is None else end
            start = file.seek(max(0, stop - window_bytes))
            text = file.read(stop - start).decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
