"""Faults at failpoints (`sskai/failpoints.py`): what strikes where, in a test's block or in a whole process.

SSKAI_FAILPOINTS="cluster.launch=kill-after,objects.put_bytes=delay@2:3" python -m services scheduler
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sskai.failpoints import BOUNDARIES, Action, Boundary, is_context

VARIABLE = "SSKAI_FAILPOINTS"
DELAY_SECONDS = 2.0
HANG_SECONDS = 3600.0


class FailpointError(ValueError):
    """A fault that was asked for makes no sense."""


@dataclass(frozen=True, slots=True)
class Point:
    """`name` is `boundary.method`; `caller` the function of ours that crosses it there, after what it is `within`."""

    name: str
    caller: str

    def __str__(self) -> str:
        return f"{self.caller}>{self.name}"


@dataclass(slots=True)
class Fault:
    """`nth`: at which crossing, from 1 on, it strikes; once."""

    action: Action
    nth: int = 1
    seconds: float | None = None  # of a delay, or of what hangs
    crossings: int = field(default=0, init=False)

    def strikes(self) -> bool:
        self.crossings += 1
        return self.crossings == self.nth


class Armed:
    """Faults that wait for their crossing. `crossed` is told of every crossing; `die` is what a kill does."""

    def __init__(
        self,
        faults: Mapping[str, Fault] | None = None,
        *,
        crossed: Callable[[Point], None] = lambda _point: None,
        die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL),
    ) -> None:
        self.faults = dict(faults or {})  # by the point's name, or by `caller>name`
        self.crossed = crossed
        self.die = die

    def meet(self, name: str) -> Fault | None:
        if _SUSPENDED.get():
            return None
        point = Point(name, _WITHIN.get() + _caller())
        self.crossed(point)
        for key in (str(point), name):
            fault = self.faults.get(key)
            if fault is not None and fault.strikes():
                return fault
        return None


def parse(text: str) -> dict[str, Fault]:
    """`point=action[@nth][:seconds]`, with commas. Raises FailpointError."""
    faults = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        point, _, rest = item.partition("=")
        rest, _, seconds = rest.partition(":")
        action, _, nth = rest.partition("@")
        try:
            faults[point] = Fault(Action(action), int(nth or 1), float(seconds) if seconds else None)
        except ValueError as error:
            raise FailpointError(
                f"{VARIABLE}: {item!r} is not point=action[@nth][:seconds], action one of {', '.join(Action)}"
            ) from error
    return faults


def arm_from_environment() -> None:
    """In a process that was started with faults. Raises FailpointError."""
    text = os.environ.get(VARIABLE)
    if text:
        _wrap_all(Armed(parse(text)))


@contextmanager
def armed(plan: Armed) -> Iterator[Armed]:
    """The block runs with these faults. One at a time in a process."""
    _wrap_all(plan)
    try:
        yield plan
    finally:
        for one in BOUNDARIES:
            for method, function in one.methods.items():
                setattr(one.adapter, method, function)


_SUSPENDED: ContextVar[bool] = ContextVar("failpoints_suspended", default=False)
_WITHIN: ContextVar[str] = ContextVar("failpoints_within", default="")


@contextmanager
def within(label: str) -> Iterator[None]:
    """What the block crosses is told apart by the label: which service, at which event."""
    token = _WITHIN.set(f"{label}/")
    try:
        yield
    finally:
        _WITHIN.reset(token)


@contextmanager
def suspended() -> Iterator[None]:
    """What the block crosses is the test's own business: it is not seen."""
    token = _SUSPENDED.set(True)
    try:
        yield
    finally:
        _SUSPENDED.reset(token)


def _wrap_all(plan: Armed) -> None:
    for one in BOUNDARIES:
        for method, function in one.methods.items():
            setattr(one.adapter, method, _wrapped(one, method, function, plan))


def _wrapped(one: Boundary, method: str, function: Callable[..., Any], plan: Armed) -> Callable[..., Any]:
    name = f"{one.name}.{method}"
    if is_context(function):
        return _wrapped_context(one, name, function, plan)
    if inspect.isgeneratorfunction(function):
        return _wrapped_generator(one, name, function, plan)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def crossing(*arguments: Any, **options: Any) -> Any:
            fault = plan.meet(name)
            if fault is None:
                return await function(*arguments, **options)
            return await _faulty(one, name, fault, plan, lambda: function(*arguments, **options))

        return crossing

    @functools.wraps(function)
    def crossing_in_thread(*arguments: Any, **options: Any) -> Any:
        fault = plan.meet(name)
        if fault is None:
            return function(*arguments, **options)
        return _faulty_in_thread(one, name, fault, plan, lambda: function(*arguments, **options))

    return crossing_in_thread


def _wrapped_generator(one: Boundary, name: str, function: Callable[..., Any], plan: Armed) -> Callable[..., Any]:
    """What is read piece by piece fails where it is read: at its first piece, or after its last one."""

    @functools.wraps(function)
    def crossing(*arguments: Any, **options: Any) -> Iterator[Any]:
        fault = plan.meet(name)
        pieces = function(*arguments, **options)
        return pieces if fault is None else _faulty_pieces(_Strike(one, name, fault, plan), pieces)

    return crossing


def _faulty_pieces(strike: _Strike, pieces: Iterator[Any]) -> Iterator[Any]:
    strike.before()
    time.sleep(strike.pause_seconds)
    strike.after_pause()
    yield from pieces
    strike.after()


def _wrapped_context(one: Boundary, name: str, function: Callable[..., Any], plan: Armed) -> Callable[..., Any]:
    @functools.wraps(function)
    @asynccontextmanager
    async def crossing(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        inner = function(*arguments, **options)
        fault = plan.meet(f"{name}.begin")
        if fault is None:
            entered = await inner.__aenter__()
        else:
            entered = await _faulty(one, f"{name}.begin", fault, plan, inner.__aenter__)
        try:
            yield entered
        except BaseException as error:
            if not await inner.__aexit__(type(error), error, error.__traceback__):
                raise
            return
        fault = plan.meet(f"{name}.commit")
        if fault is None:
            await inner.__aexit__(None, None, None)
            return
        try:
            await _faulty(one, f"{name}.commit", fault, plan, lambda: inner.__aexit__(None, None, None))
        except BaseException as error:
            if fault.action not in (Action.RAISE_AFTER, Action.KILL_AFTER):
                await inner.__aexit__(type(error), error, error.__traceback__)  # it was not committed: rolled back
            raise

    return crossing


async def _faulty(one: Boundary, name: str, fault: Fault, plan: Armed, act: Callable[[], Awaitable[Any]]) -> Any:
    strike = _Strike(one, name, fault, plan)
    strike.before()
    if fault.action is Action.SKIP:
        return None
    await asyncio.sleep(strike.pause_seconds)
    strike.after_pause()
    answer = await act()
    strike.after()
    return answer


def _faulty_in_thread(one: Boundary, name: str, fault: Fault, plan: Armed, act: Callable[[], Any]) -> Any:
    strike = _Strike(one, name, fault, plan)
    strike.before()
    if fault.action is Action.SKIP:
        return None
    time.sleep(strike.pause_seconds)
    strike.after_pause()
    answer = act()
    strike.after()
    return answer


@dataclass(frozen=True, slots=True)
class _Strike:
    """One fault as it happens, around whatever is done."""

    boundary: Boundary
    name: str
    fault: Fault
    plan: Armed

    def before(self) -> None:
        if self.fault.action is Action.KILL:
            self.plan.die()
        if self.fault.action is Action.RAISE:
            raise self.boundary.error(f"{self.name}: it was not done")

    @property
    def pause_seconds(self) -> float:
        usual = {Action.HANG: HANG_SECONDS, Action.DELAY: DELAY_SECONDS}.get(self.fault.action)
        return 0.0 if usual is None else self.fault.seconds or usual

    def after_pause(self) -> None:
        if self.fault.action is Action.HANG:
            raise self.boundary.error(f"{self.name}: no answer")

    def after(self) -> None:
        if self.fault.action is Action.KILL_AFTER:
            self.plan.die()
        if self.fault.action is Action.RAISE_AFTER:
            raise self.boundary.error(f"{self.name}: it was done, and this says otherwise")


_ROOT = Path(__file__).parents[1]
_HERE = {__file__, inspect.getsourcefile(asynccontextmanager)}


def _caller() -> str:
    """The nearest function of a service, or of the chassis, on the way here; the adapter's own do not count."""
    chassis = "elsewhere"
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in _HERE and file.startswith(f"{_ROOT}/"):
            where = Path(file).relative_to(_ROOT).with_suffix("").parts
            label = ".".join([*where[1:], frame.f_code.co_qualname.replace(".<locals>", "")])
            if where[0] == "services":
                return label
            if where[0] == "sskai" and chassis == "elsewhere":
                chassis = label
        frame = frame.f_back
    return chassis
