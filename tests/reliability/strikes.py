"""One fault at one point, for the tests that a point has of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sskai import faults
from sskai.failpoints import Action
from sskai.faults import Armed, Fault
from tests.reliability.matrix import die

SAYS_NO = (Action.RAISE, Action.RAISE_AFTER, Action.HANG)
ENDS = (Action.KILL, Action.KILL_AFTER)  # the process: `matrix.Crash` comes out of the block
QUICK = (Action.RAISE_AFTER, Action.KILL, Action.SKIP)  # they find most of what the others find
HANG_SECONDS = 0.2  # then whoever asked gives up


def each(*actions: Action, quick: Collection[Action] = QUICK) -> list[Any]:
    """As parameters of a test: the quick ones always, the others where there is time."""
    return [action if action in quick else pytest.param(action, marks=pytest.mark.heavy) for action in actions]


@contextmanager
def struck(point: str, action: Action, nth: int = 1, seconds: float = HANG_SECONDS) -> Iterator[Fault]:
    """The block runs with the fault, and has to come as far as to it."""
    fault = Fault(action, nth, seconds)
    with faults.armed(Armed({point: fault}, die=die)):
        yield fault
    assert fault.crossings >= nth, f"{point} was crossed {fault.crossings} times, not {nth}"
