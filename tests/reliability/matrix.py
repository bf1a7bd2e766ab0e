"""A crash matrix: every crossing of one life, times everything that can go wrong there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from sskai import failpoints
from sskai.failpoints import Action
from sskai.faults import Armed, Fault, Point
from tests.reliability.stage import Stage

# A late answer tests nothing that a hanging one does not.
ACTIONS = tuple(one for one in Action if one is not Action.DELAY)
HANG_SECONDS = 2.0
# A broker that loses what all of its copies acknowledged is beyond what an outbox can mend: it begins with acks=all.
NOT_OURS = {("broker.publish_all", Action.SKIP)}
# With something that hangs a busy machine may kill once more, and then other events are handled together than in the
# oracle.
TRIES = 3
# After so long without an answer a process is killed, and started again. Where nothing hangs on purpose a busy machine
# is waited for: a step that it holds up is not one more fault.
HANG_LIMIT_SECONDS, LIMIT_SECONDS = 1.0, 30.0

# On a stage, with faults: the end state. It arms them itself, and raises AssertionError if an invariant broke.
Life: TypeAlias = Callable[[Stage, Armed], Coroutine[Any, Any, dict[str, Any]]]


class Crash(BaseException):
    """The process is no more."""


def die() -> None:
    raise Crash


def limit_seconds(plan: Armed) -> float:
    """How long a step of a life with these faults may take."""
    hangs = any(fault.action is Action.HANG for fault in plan.faults.values())
    return HANG_LIMIT_SECONDS if hangs else LIMIT_SECONDS


@dataclass(frozen=True)
class Cell:
    """One fault, at the first crossing of one place."""

    place: str  # caller>point
    action: Action

    def __str__(self) -> str:
        return f"{self.place}={self.action}"


@dataclass
class Matrix:
    """One life, and where it is lived."""

    stage: Stage
    life: Life

    def oracle(self) -> tuple[dict[str, Any], list[str]]:
        """The end state when nothing goes wrong, and every place that is crossed on the way, in order."""
        places: dict[str, None] = {}

        def crossed(point: Point) -> None:
            places.setdefault(str(point))

        state = self._live(Armed(crossed=crossed))
        return state, list(places)

    def run(self, cell: Cell) -> dict[str, Any]:
        """The end state with that fault. Raises AssertionError: an invariant is broken, or it does not end."""
        for _ in range(TRIES):
            fault = Fault(cell.action, seconds=HANG_SECONDS)
            state = self._live(Armed({cell.place: fault}, die=die))
            if fault.crossings:
                return state
        raise AssertionError(f"{cell} was never crossed")

    def wrong(self, wanted: Callable[[Cell], bool] = lambda _cell: True) -> list[str]:
        """What each wanted cell that does not end as the oracle does is like."""
        oracle, places = self.oracle()
        found = []
        for cell in filter(wanted, cells(places)):
            try:
                state = self.run(cell)
            except AssertionError as error:
                found.append(f"{cell}: {error}")
            else:
                if state != oracle:
                    found.append(f"{cell}: { {name: state[name] for name in state if state[name] != oracle[name]} }")
        return found

    def _live(self, plan: Armed) -> dict[str, Any]:
        return self.stage.live(self.life(self.stage, plan))


def cells(places: list[str]) -> Iterator[Cell]:
    """What makes sense at each place."""
    possible = failpoints.points()
    for place in places:
        point = place.partition(">")[2]
        for action in ACTIONS:
            if action in possible[point] and (point, action) not in NOT_OURS:
                yield Cell(place, action)
