"""What the policy is measured against: on-demand only, greedy, and Uniform Progress of "Can't Be Late" (NSDI'24)."""

from __future__ import annotations

import math

from services.scheduler.policy import Action, Decision, Situation, past_the_point_of_no_return

SETTLED_SECONDS = 1e-3


def on_demand_only(_: Situation) -> Decision:
    """Never spot."""
    return Decision(Action.ON_DEMAND, "on-demand only")


def greedy(s: Situation) -> Decision:
    """Spot where there is some, else wait; on-demand to the end once only one launch more would fit."""
    if s.running_on is Action.SPOT and s.restart_left_seconds < SETTLED_SECONDS:
        return _spot(s)
    if _ticks_needed(s, 1 if s.running_on is Action.SPOT else 2) >= _ticks_left(s):
        return Decision(Action.ON_DEMAND, "point of no return")
    return _spot(s) if s.has_spot else Decision(Action.WAIT, "waiting-for-spot")


def uniform_progress(s: Situation) -> Decision:
    """Keep progress on the straight line to the deadline by on-demand; prefer spot when idle, and leave on-demand only
    when two restarts ahead of the line."""
    assert s.deadline_seconds is not None
    rate, done = s.work_seconds / s.deadline_seconds, s.work_seconds - s.work_left_seconds
    if s.running_on is Action.SPOT:
        late = _ticks_needed(s, 1) >= _ticks_left(s) and s.restart_left_seconds >= SETTLED_SECONDS
        return Decision(Action.ON_DEMAND, "point of no return") if late else _spot(s)
    if _ticks_needed(s, 2) >= _ticks_left(s):
        return Decision(Action.ON_DEMAND, "point of no return")
    if s.running_on is Action.ON_DEMAND:
        ahead = done > (s.elapsed_seconds + 2 * s.restart_seconds) * rate
        return _spot(s) if s.has_spot and ahead else Decision(Action.ON_DEMAND, "not far enough ahead")
    if s.has_spot:
        return _spot(s)
    behind = done < s.elapsed_seconds * rate
    return Decision(Action.ON_DEMAND, "behind") if behind else Decision(Action.WAIT, "waiting-for-spot")


def _spot(s: Situation) -> Decision:
    """Stay where it runs, else the first zone that has some; past the point of no return only staying is left."""
    stays = next((zone for zone in s.zones if zone.name == s.running_zone and zone.available), None)
    if s.running_on is Action.SPOT and stays is not None:
        if past_the_point_of_no_return(s) and s.restart_left_seconds >= SETTLED_SECONDS:
            return Decision(Action.ON_DEMAND, "point of no return")
        return Decision(Action.SPOT, "spot", stays.name)
    if past_the_point_of_no_return(s):
        return Decision(Action.ON_DEMAND, "point of no return")
    return Decision(Action.SPOT, "spot", next(zone.name for zone in s.zones if zone.available))


def _ticks_left(s: Situation) -> int:
    assert s.deadline_seconds is not None
    return math.floor((s.deadline_seconds - s.elapsed_seconds) / s.tick_seconds)


def _ticks_needed(s: Situation, launches: int) -> int:
    return math.ceil((s.work_left_seconds + launches * s.restart_seconds) / s.tick_seconds)
