"""Spot, on-demand or wait? Pure: the clock, the market and the job's progress are arguments.

The rules are those of Uniform Progress ("Can't Be Late: Optimizing Spot Instance Savings under Deadlines", NSDI 2024):
use spot whenever there is some; without spot, wait as long as progress is ahead of the straight line from start to
deadline, else take on-demand; once on-demand, stay until progress is ahead by two restart overheads; and past the point
of no return take on-demand and keep it, so that a deadline which was feasible is met even if spot never comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"
    WAIT = "wait"


class Mode(StrEnum):
    AUTO = "auto"
    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known at a tick. Seconds; `deadline_seconds` counts from the submission, as `elapsed_seconds` does."""

    elapsed_seconds: float
    deadline_seconds: float | None
    work_seconds: float  # of the whole job, on the planned machine
    work_left_seconds: float
    restart_seconds: float  # start-up and restore after any launch
    running_on: Action | None  # SPOT or ON_DEMAND while an attempt runs
    spot_available: bool
    mode: Mode = Mode.AUTO
    waited_seconds: float = 0.0
    patience_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Decision:
    action: Action
    rule: str  # what decided, for JobHeld and for the reader of a log


def point_of_no_return_seconds(situation: Situation) -> float:
    """The last moment at which a fresh on-demand machine still meets the deadline (one spare restart included)."""
    assert situation.deadline_seconds is not None
    return situation.deadline_seconds - situation.work_left_seconds - 2 * situation.restart_seconds


def decide(situation: Situation) -> Decision:
    """What the job should run on from now on."""
    s = situation
    if s.mode is Mode.ON_DEMAND:
        return Decision(Action.ON_DEMAND, "spot_policy is on-demand")
    if s.mode is Mode.SPOT:
        available = s.spot_available or s.running_on is Action.SPOT
        return Decision(Action.SPOT, "spot_policy is spot") if available else Decision(Action.WAIT, "waiting-for-spot")
    if s.deadline_seconds is None:
        return _without_deadline(s)
    if s.elapsed_seconds >= point_of_no_return_seconds(s):
        return Decision(Action.ON_DEMAND, "past the point of no return")
    if s.running_on is Action.ON_DEMAND and _progress(s) < _line(s, s.elapsed_seconds + 2 * s.restart_seconds):
        return Decision(Action.ON_DEMAND, "not yet far enough ahead to risk another restart")
    if s.spot_available or s.running_on is Action.SPOT:
        return Decision(Action.SPOT, "spot is available")
    if _progress(s) >= _line(s, s.elapsed_seconds):
        return Decision(Action.WAIT, "waiting-for-spot")
    return Decision(Action.ON_DEMAND, "behind uniform progress")


def _without_deadline(s: Situation) -> Decision:
    if s.running_on is not None:
        return Decision(s.running_on, "running")
    if s.spot_available:
        return Decision(Action.SPOT, "spot is available")
    if s.waited_seconds < s.patience_seconds:
        return Decision(Action.WAIT, "waiting-for-spot")
    return Decision(Action.ON_DEMAND, "waited long enough for spot")


def _progress(s: Situation) -> float:
    return s.work_seconds - s.work_left_seconds


def _line(s: Situation, at_seconds: float) -> float:
    """Progress that uniform progress asks for at a moment, in seconds of work."""
    assert s.deadline_seconds is not None
    return s.work_seconds * min(1.0, at_seconds / max(s.deadline_seconds, 1e-9))
