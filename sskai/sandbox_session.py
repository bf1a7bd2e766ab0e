"""A program on untrusted files that stays: behind the walls of `sandbox.run`, and spoken to over its pipes.

    async with asyncio.timeout(60):
        session = await Session.start(program, folder, limits=limits)   # returns when the program has said a byte
        session.write(question); answer = await session.read_exactly(10)
    outcome = await session.end()

The program says something as soon as it is ready. What it writes to standard error is read and thrown away but for its
end; too much of it between two questions ends the program. It lives until `end`, until it ends by itself or goes over a
limit, and never longer than this process. Of the limits, `wall_seconds` and `cpu_seconds` are of its whole life: for
the time of an answer, the caller waits no longer and calls `end`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sskai import sandbox
from sskai.sandbox import STDERR_TAIL_BYTES, KilledFor, Limits, Outcome, Walls

READ_BYTES = 64 * 1024


class EndedError(Exception):
    """The program is no more; `outcome.stdout` is empty."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"the program ended with code {outcome.exit_code}{_reason(outcome)}")
        self.outcome = outcome


class Session:
    """A running program. One caller at a time writes and reads; `end` may be called at any time and again."""

    def __init__(self, process: asyncio.subprocess.Process, status: int, task: Mapping[str, Any]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._status = status
        self._walls: Walls = task["walls"]
        self._work = str(task["work"])
        self._limit_bytes = int(task["output_bytes"])
        self._errors = bytearray()
        self._errors_bytes = 0
        self._over = False
        self._first = b""
        self._draining = asyncio.create_task(self._drain())
        self._ending: asyncio.Task[tuple[dict[str, Any], Outcome]] | None = None

    @classmethod
    async def start(
        cls,
        program: Path,
        folder: Path,
        *,
        arguments: Sequence[str] = (),
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
        python: Path | None = None,
        walls: Sequence[Walls] = sandbox.CLOSED,
    ) -> Session:
        """As `sandbox.run`, until the program has said its first byte. Raises SandboxError, and EndedError if it ended
        before that. When cancelled it kills the program."""
        given: dict[str, Any] = {"arguments": arguments, "limits": limits or Limits(), "env": env, "python": python}
        reasons = []
        for wall in walls:
            work = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=sandbox.WORK_PREFIX))
            try:
                task = sandbox.task_of(program, folder, work, **given)
                found = sandbox.hidden(task, wall) or await cls._begun({**task, "walls": wall})
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
            if isinstance(found, Session):
                return found
            shutil.rmtree(work, ignore_errors=True)
            reasons.append(f"{wall}: {found}")
        raise sandbox.without_walls(reasons)

    @classmethod
    async def _begun(cls, task: Mapping[str, Any]) -> Session | str:
        """As text, why these walls cannot be had."""
        process, status = await sandbox.start_warden(task)
        session = cls(process, status, task)
        try:
            session._first = await session._stdout.read(1)
        except BaseException:
            await asyncio.shield(session.end())
            raise
        if session._first:
            return session
        await session.end(by_itself=True)
        assert session._ending is not None
        end, outcome = session._ending.result()
        if "unusable" in end:
            return str(end["unusable"])
        raise EndedError(outcome)

    @property
    def walls(self) -> Walls:
        return self._walls

    @property
    def alive(self) -> bool:
        return self._ending is None and self._process.returncode is None

    async def write(self, data: bytes) -> None:
        """Counts what it says to standard error anew. Raises EndedError."""
        self._errors_bytes = 0
        try:
            self._stdin.write(data)
            await self._stdin.drain()
        except OSError as error:
            raise EndedError(await self.end(by_itself=True)) from error

    async def read_exactly(self, count: int) -> bytes:
        """Raises EndedError when the program ends before it has said so much."""
        first, self._first = self._first[:count], self._first[count:]
        try:
            return first + await self._stdout.readexactly(count - len(first))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise EndedError(await self.end(by_itself=True)) from error

    async def end(self, *, by_itself: bool = False) -> Outcome:
        """Nothing of it lives when this returns. `by_itself`: it has ended, or closed its pipes; how, is told."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._finish(by_itself=by_itself))
        return (await asyncio.shield(self._ending))[1]

    async def _finish(self, *, by_itself: bool) -> tuple[dict[str, Any], Outcome]:
        """What the warden told, and what that means."""
        stopped = not by_itself
        if by_itself:
            try:
                async with asyncio.timeout(sandbox.GRACE_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                stopped = True
        await sandbox.end_warden(self._process)
        end = sandbox.end_told(self._status)
        os.close(self._status)
        self._stdin.close()
        with suppress(TimeoutError):  # an orphan of it may hold the pipe, if the warden had to be killed
            await asyncio.wait_for(self._draining, sandbox.GRACE_SECONDS)
        await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)
        word = end.get("killed_for", "" if stopped else "memory")
        killed_for: KilledFor = "output" if self._over else "" if word == "stopped" else word
        tail = bytes(self._errors).decode(errors="replace")
        return end, Outcome(b"", tail, int(end.get("exit_code", -9)), killed_for, self._walls)

    async def _drain(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(READ_BYTES):
            self._errors += piece
            del self._errors[:-STDERR_TAIL_BYTES]
            self._errors_bytes += len(piece)
            if self._errors_bytes > self._limit_bytes:
                self._over = True
                sandbox.terminate(self._process)


def _reason(outcome: Outcome) -> str:
    return f", killed for its {outcome.killed_for}" if outcome.killed_for else ""
