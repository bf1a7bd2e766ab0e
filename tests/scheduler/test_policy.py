"""Uniform progress by tables, and the promise that a feasible deadline is met on any market."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.policy import Action, Mode, Situation, decide

HOUR = 3600.0
START = Situation(
    elapsed_seconds=0,
    deadline_seconds=10 * HOUR,
    work_seconds=5 * HOUR,
    work_left_seconds=5 * HOUR,
    restart_seconds=360,
    running_on=None,
    spot_available=True,
)


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({}, Action.SPOT),
        ({"spot_available": False}, Action.WAIT),
        ({"spot_available": False, "elapsed_seconds": HOUR}, Action.ON_DEMAND),
        ({"elapsed_seconds": 4.9 * HOUR}, Action.ON_DEMAND),
        ({"elapsed_seconds": HOUR, "work_left_seconds": 4 * HOUR, "spot_available": False}, Action.WAIT),
        ({"running_on": Action.ON_DEMAND, "elapsed_seconds": HOUR, "work_left_seconds": 4.5 * HOUR}, Action.ON_DEMAND),
        ({"running_on": Action.ON_DEMAND, "elapsed_seconds": HOUR, "work_left_seconds": 4 * HOUR}, Action.SPOT),
        ({"mode": Mode.ON_DEMAND}, Action.ON_DEMAND),
        ({"mode": Mode.SPOT, "spot_available": False}, Action.WAIT),
        ({"deadline_seconds": None}, Action.SPOT),
        ({"deadline_seconds": None, "spot_available": False}, Action.WAIT),
        ({"deadline_seconds": None, "spot_available": False, "waited_seconds": 601}, Action.ON_DEMAND),
        ({"deadline_seconds": None, "spot_available": False, "running_on": Action.SPOT}, Action.SPOT),
    ],
)
def test_rules(change: dict[str, object], action: Action) -> None:
    assert decide(replace(START, **change)).action is action  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(market=st.lists(st.booleans(), min_size=120, max_size=120), slack=st.floats(1.15, 3), restart=st.floats(0, 360))
def test_a_feasible_deadline_is_met_on_any_market(market: list[bool], slack: float, restart: float) -> None:
    """A simulated job in ticks of 5 minutes; a restart costs work time, spot vanishes at the start of a tick."""
    tick, work = 300.0, 5 * HOUR
    deadline = work * slack + 3 * tick
    done, paying, on = 0.0, 0.0, None
    for number in range(1000):
        elapsed = number * tick
        available = market[number % len(market)]
        if on is Action.SPOT and not available:
            on = None
        action = decide(
            replace(
                START,
                elapsed_seconds=elapsed + tick,  # decide as if a tick later: a decision holds for a whole tick
                deadline_seconds=deadline,
                work_seconds=work,
                work_left_seconds=work - done + paying,
                restart_seconds=restart,
                running_on=on,
                spot_available=available,
            )
        ).action
        if action is Action.WAIT:
            on = None
            continue
        if action is not on:
            on, paying = action, restart
        useful = max(0.0, tick - paying)
        paying = max(0.0, paying - tick)
        done += useful
        if done >= work:
            assert elapsed + tick - (done - work) <= deadline + 1e-6
            return
    raise AssertionError("never done")
