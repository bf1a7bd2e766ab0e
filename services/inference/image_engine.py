"""The thread of one text-to-image pipeline: draws one picture after the other, whatever adapters they want.

Pictures come in the order in which they were asked for. A picture takes the whole machine, so two at once would only
both be later.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog

from services.inference.drawings import Canvas, Drawing
from services.inference.engine import (
    EngineError,
    EngineFailedError,
    Generation,
    NotLoadedError,
    OverloadedError,
    Piece,
    Work,
)
from services.inference.pipelines import LeftError, Pipeline

log = structlog.get_logger()

LONGEST_RETRY_SECONDS = 60
STOPPING = "the service is stopping; try again"


@dataclass(frozen=True, slots=True)
class _Order:
    """One picture. `adapter`: by its name in the pipeline."""

    drawing: Drawing
    adapter: str | None
    generation: Generation
    asked_at: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True)
class _Chore:
    """Something else that only the pipeline's thread may do."""

    do: Callable[[], str | None]
    done: Future[str | None] = field(default_factory=Future)

    def perform(self) -> None:
        try:
            self.done.set_result(self.do())
        except Exception as error:
            self.done.set_exception(error)


class Studio:
    """Owns its pipeline; all methods may be called from any thread. `waiting`: pictures that may wait beside the one
    that is drawn."""

    def __init__(self, name: str, folder: Path, device: str, waiting: int) -> None:
        self._pipeline = Pipeline(folder, device)
        self._canvas = self._pipeline.canvas
        self._waiting = waiting
        self._wake = threading.Condition()
        self._work: deque[_Order | _Chore] = deque()
        self._drawing: _Order | None = None
        self._closing: str | None = None  # "drain" | "now"
        self._adapters: dict[str, str] = {}  # by the names of whoever loads them
        self._picture_seconds = 1.0  # of the last one
        self._thread = threading.Thread(target=self._run, name=f"studio {name}", daemon=True)
        self._thread.start()

    @property
    def canvas(self) -> Canvas:
        return self._canvas

    def count_tokens(self, text: str) -> int:
        return self._pipeline.count_tokens(text)

    def attach(self, adapter: str, folder: Path) -> None:
        """Blocks until the picture under way is drawn. Raises UnusableWeightsError, NotLoadedError."""
        if adapter in self._adapters:
            return
        chore = _Chore(lambda: self._pipeline.attach(folder))
        with self._wake:
            if self._closing:
                raise NotLoadedError("this pipeline is being unloaded")
            self._work.appendleft(chore)
            self._wake.notify()
        name = chore.done.result()
        if name is not None:
            self._adapters[adapter] = name

    def keep(self, adapters: AbstractSet[str]) -> None:
        """The others accept nothing more, and go when what was asked of them before is drawn."""
        with self._wake:
            for adapter in [one for one in self._adapters if one not in adapters]:
                self._work.append(_Chore(partial(self._pipeline.detach, self._adapters.pop(adapter))))
            self._wake.notify()

    def draw(self, adapter: str | None, drawing: Drawing, copies: int) -> list[Generation]:
        """Put pictures into the queue, all or none; their seeds count upwards. Each one's only piece holds it.
        Raises OverloadedError, NotLoadedError."""
        with self._wake:
            if self._closing:
                raise NotLoadedError("this pipeline is being unloaded")
            name = self._adapters.get(adapter) if adapter is not None else None
            if adapter is not None and name is None:
                raise NotLoadedError(f"the adapter {adapter} is not loaded")
            self._drop_cancelled()
            under_way = len(self._orders()) + (self._drawing is not None)
            if under_way + copies > 1 + self._waiting:
                raise OverloadedError(under_way, self._retry_seconds())
            seeds = range(drawing.seed, drawing.seed + copies)
            orders = [_Order(replace(drawing, seed=seed), name, Generation()) for seed in seeds]
            self._work.extend(orders)
            self._wake.notify()
        return [order.generation for order in orders]

    def occupancy(self) -> tuple[int, int]:
        """Pictures under way, and waiting."""
        with self._wake:
            self._drop_cancelled()
            return int(self._drawing is not None), len(self._orders())

    def stop(self, *, drain: bool) -> None:
        """End the thread: when everything under way is drawn (`drain`), or after this step. Returns at once."""
        with self._wake:
            self._closing = "drain" if drain else "now"
            self._wake.notify()

    def join(self, limit_seconds: float) -> None:
        self._thread.join(limit_seconds)

    def _orders(self) -> list[_Order]:
        return [one for one in self._work if isinstance(one, _Order)]

    def _drop_cancelled(self) -> None:
        """Those that wait; the one under way sees it after its step."""
        self._work = deque(one for one in self._work if isinstance(one, _Chore) or not one.generation.cancelled)

    def _retry_seconds(self) -> int:
        """When there will be a place, if the next picture takes as long as the last one."""
        return max(1, min(LONGEST_RETRY_SECONDS, math.ceil(self._picture_seconds)))

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, _Chore):
                work.perform()
            else:
                self._draw(work)
        self._fail_all()

    def _next(self) -> _Order | _Chore | None:
        """Wait for work; None: the thread's end."""
        with self._wake:
            while True:
                self._drop_cancelled()
                if self._closing == "now" or (self._closing and not self._work):
                    return None
                if self._work:
                    work = self._work.popleft()
                    self._drawing = work if isinstance(work, _Order) else None
                    return work
                self._wake.wait()

    def _draw(self, order: _Order) -> None:
        told = self._drawn(order, time.perf_counter() - order.asked_at)
        with self._wake:  # who has the picture may ask for the next one, and finds the place free
            self._drawing = None
        order.generation.feed(told)

    def _drawn(self, order: _Order, queue_seconds: float) -> Piece | EngineError:
        def left() -> bool:
            return order.generation.cancelled or self._closing == "now"

        try:
            picture = self._pipeline.draw(order.adapter, order.drawing, left)
        except LeftError:
            return EngineFailedError(STOPPING)
        except EngineError as error:
            return error
        except Exception as error:
            log.exception("a picture failed")
            return EngineFailedError(f"the engine failed: {type(error).__name__}")
        self._picture_seconds = picture.seconds
        return Piece("", 0, "stop", picture=picture, work=Work(queue_seconds, batch_size=1.0))

    def _fail_all(self) -> None:
        with self._wake:
            left, self._work = list(self._work), deque()
        for work in left:
            if isinstance(work, _Chore):
                work.done.set_exception(NotLoadedError(STOPPING))
            else:
                work.generation.feed(EngineFailedError(STOPPING))
