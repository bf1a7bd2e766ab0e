"""The service's side of the profiling worker: one warm process, restarted when it dies, killed when it hangs."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any

MAX_ANSWER_BYTES = 64 * 1024


class ProfileError(Exception):
    """The model cannot be profiled; the text is for the user."""


class WorkerError(Exception):
    """The worker died or hung, which need not be the model's fault: try again."""


class Profiler:
    """`await profiler.profile(request)`; requests take turns. Close it at the end."""

    def __init__(self, *, start_limit_seconds: float = 90, limit_seconds: float = 60) -> None:
        self._start_limit_seconds = start_limit_seconds
        self._limit_seconds = limit_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Have a warm worker. Raises WorkerError if none comes up in time."""
        async with self._turn:
            await self._ensure_started()

    async def profile(self, request: dict[str, Any]) -> dict[str, Any]:
        """What `services.optimizer.profile.profile` counts. Raises ProfileError (the user's) or WorkerError (ours)."""
        async with self._turn:
            process = await self._ensure_started()
            answer = await self._ask(process, json.dumps(request), self._limit_seconds)
        if "error" in answer:
            raise ProfileError(answer["error"])
        return answer

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ensure_started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.optimizer.profile",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=MAX_ANSWER_BYTES,
            )
            await self._ask(self._process, None, self._start_limit_seconds)
        return self._process

    async def _ask(self, process: asyncio.subprocess.Process, line: str | None, limit_seconds: float) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(limit_seconds):
                if line is not None:
                    process.stdin.write(line.encode() + b"\n")
                    await process.stdin.drain()
                answer = await process.stdout.readline()
            return dict(json.loads(answer))
        except (TimeoutError, OSError, ValueError) as error:
            await self.close()
            raise WorkerError(f"no profile after {limit_seconds:g} s ({type(error).__name__})") from error
        except asyncio.CancelledError:
            # The answer to an abandoned question would be taken for the answer to the next one.
            await self.close()
            raise
