"""The least that anybody could have paid who knew the whole record: a dynamic programme over all schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.scheduler.lab.simulator import Work
from services.scheduler.lab.traces import Trace


def omniscient_usd(zones: Sequence[Trace], work: Work) -> float:
    """Minimum USD that meets the deadline, by the rules of `simulator`; inf where nothing does.

    Forward over ticks; per machine and steps of restart behind it an array over the time lost so far (elapsed less work
    done), in units that divide tick, restart and work, so that it is exact. Running past the restart loses nothing,
    waiting loses a tick, a launch loses its restart; all machines may be launched from any state.
    """
    gap, restart = round(zones[0].gap_seconds), round(work.restart_hours * 3600)
    total = round(work.work_hours * 3600)
    unit = math.gcd(math.gcd(gap, restart) if restart else gap, total)
    per_tick, needed = gap // unit, total // unit
    ticks = min(int(work.deadline_hours * 3600 // gap), *(len(zone) for zone in zones))
    most_lost = ticks * per_tick - needed
    if most_lost < 0:
        return math.inf
    phases = -(-restart // gap)
    lost = [per_tick - max(0, min(gap, (paid + 1) * gap - restart)) // unit for paid in range(phases)] + [0]
    machines = len(zones) + 1
    idle = np.full(most_lost + 1, np.inf)
    idle[0] = 0.0
    state = np.full((machines, phases + 1, most_lost + 1), np.inf)
    best = math.inf
    for tick in range(ticks):
        anything = np.minimum(idle, state.min(axis=(0, 1)))
        following = np.full_like(state, np.inf)
        for machine in range(machines):
            price = _price(zones, machine, tick, work)
            if price is None:
                continue
            usd = price * gap / 3600
            _lose(anything, lost[0], usd, following[machine, 0])
            for paid in range(phases):
                _lose(state[machine, paid], lost[paid + 1], usd, following[machine, paid + 1])
            _lose(state[machine, phases], 0, usd, following[machine, phases])
        idle = np.full(most_lost + 1, np.inf)
        _lose(anything, per_tick, 0.0, idle)
        state = following
        complete = (tick + 1) * per_tick - needed  # as much as may be lost with the work complete by now
        if complete >= 0:
            best = min(best, float(state[:, :, : complete + 1].min()))
            state[:, :, : complete + 1] = np.inf
            idle[: complete + 1] = np.inf
    return best


def _price(zones: Sequence[Trace], machine: int, tick: int, work: Work) -> float | None:
    """USD per hour of a machine at a tick; None: there is none. The last machine is on demand."""
    if machine == len(zones):
        return work.on_demand_price
    zone = zones[machine]
    if not zone.available[tick]:
        return None
    return work.spot_price if zone.prices is None else float(zone.prices[tick])


def _lose(source: NDArray[np.float64], units: int, usd: float, target: NDArray[np.float64]) -> None:
    """target[lost + units] = min(itself, source[lost] + usd)."""
    if units == 0:
        np.minimum(target, source + usd, out=target)
    elif units < len(source):
        np.minimum(target[units:], source[:-units] + usd, out=target[units:])
