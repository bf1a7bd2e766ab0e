"""Run a Python program on untrusted files: no network, no credentials, one folder to write in, and limits on all.

`outcome = await sandbox.run(program, folder)`. Two kinds of walls, the first that this computer permits is taken:

- `namespaces`: a network, process list, file tree and (unless root started it) user of its own. Only the interpreter,
  the program and the folder can be seen at all.
- `filters`: Landlock for files, signals and tracing, seccomp for sockets. Where containers may make no namespaces.

Both drop root for an unprivileged user, forbid system calls by seccomp, take away every inherited file and variable,
and bound time, memory, processes, files and output. A program that is asked again and again is a `Session`
(`sandbox_session.py`). Where neither can be had nothing is run, unless `walls` names
`limits`: then the user and the limits alone stand between the program and the computer. Linux only.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sskai import sandbox_walls

MIB = 1024**2
GIB = 1024**3
STDERR_TAIL_BYTES = 16 * 1024
GRACE_SECONDS = 10.0  # beyond the time limit, for the walls to rise and for the end to be told
# What an interpreter and its libraries read beside their own prefixes.
SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/sys/devices/system/cpu",
)
WORK_PREFIX = "sskai-sandbox-"
_WARDEN = "import sys; sys.path.append(sys.argv.pop(1)); from sskai import sandbox_warden; sandbox_warden.main()"

Walls = Literal["namespaces", "filters", "limits"]
KilledFor = Literal["", "time", "memory", "processes", "output"]
CLOSED: tuple[Walls, ...] = ("namespaces", "filters")


class SandboxError(RuntimeError):
    """The program was not run, and not by its fault: the walls cannot be had here. The text says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run. All but the address space, the file and the CPU seconds are of its processes together."""

    wall_seconds: float = 60.0
    cpu_seconds: int = 60
    memory_bytes: int = 2 * GIB
    address_space_bytes: int = 16 * GIB  # torch alone maps 3 GiB
    file_bytes: int = 64 * MIB
    folder_bytes: int = 256 * MIB
    processes: int = 64  # threads count
    open_files: int = 256
    output_bytes: int = 1 * MIB  # of each standard output and standard error


@dataclass(frozen=True, slots=True)
class Outcome:
    """`exit_code` is negative after a signal; `killed_for` empty if the program ended by itself."""

    stdout: bytes
    stderr_tail: str
    exit_code: int
    killed_for: KilledFor
    walls: Walls


async def run(
    program: Path,
    folder: Path,
    *,
    arguments: Sequence[str] = (),
    limits: Limits | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    python: Path | None = None,
    walls: Sequence[Walls] = CLOSED,
) -> Outcome:
    """Run `program FOLDER ARGUMENTS...` with this interpreter (or `python`) in an empty folder that is then deleted.

    `folder` can be read and not written; when root asks it must be readable for everybody. `env` is all that the
    environment holds beside a path, a locale and a home. Raises SandboxError. When cancelled it kills the program.
    """
    work = await asyncio.to_thread(tempfile.mkdtemp, prefix=WORK_PREFIX)
    reasons = []
    try:
        given: dict[str, Any] = {"arguments": arguments, "limits": limits or Limits(), "env": env, "python": python}
        task = task_of(program, folder, Path(work), **given)
        for wall in walls:
            outcome = hidden(task, wall) or await _launch({**task, "walls": wall}, stdin)
            if isinstance(outcome, Outcome):
                return outcome
            reasons.append(f"{wall}: {outcome}")
    finally:
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
    raise without_walls(reasons)


def task_of(
    program: Path,
    folder: Path,
    work: Path,
    *,
    arguments: Sequence[str],
    limits: Limits,
    env: Mapping[str, str] | None,
    python: Path | None,
) -> dict[str, Any]:
    """What the warden is told, but for `walls` and `status`. Raises SandboxError where nothing can be shut in."""
    if reason := sandbox_walls.supported():
        raise SandboxError(reason)
    interpreter = _unlinked(python or Path(sys.executable))
    prefixes = (sys.prefix, sys.base_prefix) if python is None else (str(interpreter.parent.parent),)
    program, folder = program.resolve(), folder.resolve()
    return {
        **asdict(limits),
        "parent": os.getpid(),
        "work": os.path.realpath(work),
        "readable": [path for path in (*SYSTEM, *prefixes, str(program), str(folder)) if os.path.exists(path)],
        "argv": [str(interpreter), "-I", "-B", str(program), str(folder), *arguments],
        "env": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "sandbox", "HOME": str(work), "TMPDIR": str(work)}
        | dict(env or {}),
    }


def without_walls(reasons: Sequence[str]) -> SandboxError:
    return SandboxError(f"untrusted code is not run here, for its walls cannot be had ({'; '.join(reasons)})")


def _unlinked(interpreter: Path) -> Path:
    """Its folder without links. The file may be one: by its place a virtual environment is known."""
    return interpreter.parent.resolve() / interpreter.name


def hidden(task: Mapping[str, Any], wall: Walls) -> str:
    """What another user could not read, and what to do; empty: nothing, or no other user is needed."""
    if os.getuid() != 0:
        return ""
    for path in (Path(os.path.realpath(each)) for each in task["readable"]):
        # In a namespace the folders above are new ones.
        above = () if wall == "namespaces" else path.parents
        for place in (path, *above):
            mode = place.stat().st_mode
            bits = (stat.S_IROTH if place == path else 0) | (stat.S_IXOTH if place.is_dir() else 0)
            if mode & bits != bits:
                return (
                    f"{place} is closed to other users (mode {stat.S_IMODE(mode):o}), but {path} must be readable "
                    f"without root's rights: open it (chmod o+rx), or put {path} elsewhere"
                )
    return ""


async def _launch(task: dict[str, Any], stdin: bytes) -> Outcome | str:
    """One attempt; as text, why these walls cannot be had."""
    limit = int(task["output_bytes"])
    process, status = await start_warden(task)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        output, errors = _Bounded(process, limit, limit), _Bounded(process, limit, STDERR_TAIL_BYTES)
        hung = False
        try:
            async with asyncio.timeout(task["wall_seconds"] + GRACE_SECONDS):
                await asyncio.gather(
                    _feed(process.stdin, stdin),
                    output.read(process.stdout),
                    errors.read(process.stderr),
                    process.wait(),
                )
        except TimeoutError:
            hung = True
        finally:
            await asyncio.shield(end_warden(process))
        end = end_told(status)
    finally:
        os.close(status)
    if "unusable" in end:
        return str(end["unusable"])
    killed_for: KilledFor = (
        "output" if output.over or errors.over else "time" if hung else end.get("killed_for", "memory")
    )
    tail = bytes(errors.kept[-STDERR_TAIL_BYTES:]).decode(errors="replace")
    return Outcome(bytes(output.kept[:limit]), tail, int(end.get("exit_code", -9)), killed_for, task["walls"])


async def start_warden(task: Mapping[str, Any]) -> tuple[asyncio.subprocess.Process, int]:
    """The warden with the program inside, and the open file where it will tell how that ended."""
    status, told = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-B", "-c", _WARDEN, str(Path(__file__).parents[1])),
            json.dumps({**task, "status": told}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            cwd="/",
            pass_fds=(told,),
            start_new_session=True,
        )
    except BaseException:
        os.close(status)
        raise
    finally:
        os.close(told)
    return process, status


def end_told(status: int) -> dict[str, Any]:
    """How it ended, by the warden's word; empty: it was killed before it said any."""
    os.set_blocking(status, False)
    end: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        end = json.loads(os.read(status, 64 * 1024))
    return end


class _Bounded:
    """Reads a stream to its end, keeps the last `keep_bytes` and stops the process over `limit_bytes`."""

    def __init__(self, process: asyncio.subprocess.Process, limit_bytes: int, keep_bytes: int) -> None:
        self._process = process
        self._limit_bytes = limit_bytes
        self._keep_bytes = keep_bytes
        self._seen_bytes = 0
        self.kept = bytearray()

    @property
    def over(self) -> bool:
        return self._seen_bytes > self._limit_bytes

    async def read(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(64 * 1024):
            self._seen_bytes += len(piece)
            self.kept += piece
            del self.kept[: -self._keep_bytes]
            if self.over:
                terminate(self._process)


async def _feed(pipe: asyncio.StreamWriter, data: bytes) -> None:
    """The program need not read it."""
    with suppress(OSError):
        pipe.write(data)
        await pipe.drain()
        pipe.close()


def terminate(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()


async def end_warden(process: asyncio.subprocess.Process) -> None:
    """By the warden, who knows all that runs inside; by force if it does not answer."""
    terminate(process)
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
