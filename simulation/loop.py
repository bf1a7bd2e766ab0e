"""An event loop whose time is simulated: a sleep costs nothing, and equal inputs give an equal order of everything.

Every callback belongs to an actor (a service's process, a pod, a client) by the context that it was made in. An actor
can stand still: what becomes due meanwhile waits, as in a process that is stopped or collects garbage.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet


class StuckError(Exception):
    """Nothing is left to run, and somebody still waits."""


class EventsError(Exception):
    """A run went on for longer than any should."""


@dataclass(eq=False)
class Actor:
    """Somebody with a clock and a memory of its own."""

    name: str
    skew_seconds: float = 0.0
    alive: bool = True
    paused: bool = False
    stash: list[asyncio.Handle] = field(default_factory=list)

    def __repr__(self) -> str:
        return self.name


ACTOR: ContextVar[Actor | None] = ContextVar("actor", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Callbacks in the order of (time, sequence)."""

    _ready: deque[asyncio.Handle]  # asyncio's own: what runs at this moment of time

    def __init__(self, max_callbacks: int) -> None:
        super().__init__()
        self.callbacks = 0
        self._max_callbacks = max_callbacks
        self._now = 0.0
        self._sequence = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self._now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """A thread's work as a greenlet: what it waits for is simulated, too."""
        return self.create_task(greenlet_spawn(func, *args))

    def resume(self, actor: Actor) -> None:
        """An actor that stood still goes on with all that became due."""
        actor.paused = False
        stash, actor.stash = actor.stash, []
        self._ready.extend(stash)

    def _run_once(self) -> None:
        ready = self._ready
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise StuckError("nothing is left to run")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle.cancelled():
                continue
            actor = handle._context.get(ACTOR)  # type: ignore[attr-defined]
            if actor is not None and actor.paused:
                actor.stash.append(handle)
                continue
            self.callbacks += 1
            handle._run()
        if self.callbacks > self._max_callbacks:
            raise EventsError(f"over {self._max_callbacks} callbacks: something turns in a circle")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is dropped when its time comes."""

    def _process_events(self, event_list: Any) -> None:
        """There is no input or output to wait for."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""


def pass_time(seconds: float) -> None:
    """Let simulated time pass inside of code that looks synchronous; outside of any greenlet it is instantaneous."""
    if seconds >= 0 and in_greenlet():
        await_only(asyncio.sleep(seconds))


def wait_here(awaitable: Any) -> Any:
    """Await inside of code that looks synchronous."""
    return await_only(awaitable)
