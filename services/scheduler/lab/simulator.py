"""One job on one market, tick by tick, by a policy: what it cost, and whether it ended in time.

The cost model is that of the public simulator of "Can't Be Late" (NSDI'24): at the start of a tick the policy sees
where there is spot for the whole of it; a machine whose zone has none is gone, the work until then is kept; any launch
costs the restart overhead, which is billed and does no work, and a new launch replaces what is pending; a started tick
is billed in full, waiting is free; on-demand is always there. A decision holds for a tick.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from services.scheduler.availability import Model, Vector
from services.scheduler.lab.traces import Trace
from services.scheduler.policy import Action, Decision, Situation, Zone

Policy: TypeAlias = Callable[[Situation], Decision]

EPSILON_SECONDS = 1e-3
# p3.2xlarge in us-west-2 in 2023, as the public simulator has it. Only their proportion matters to a cost relative to
# on-demand.
ON_DEMAND_USD_PER_HOUR = 3.06
SPOT_USD_PER_HOUR = 0.9731


@dataclass(frozen=True, slots=True)
class Work:
    """The job. Hours, USD per hour."""

    work_hours: float = 48.0
    deadline_hours: float = 52.0
    restart_hours: float = 0.2
    on_demand_price: float = ON_DEMAND_USD_PER_HOUR
    spot_price: float = SPOT_USD_PER_HOUR  # where a record has no prices

    @property
    def on_demand_usd(self) -> float:
        """What the work costs on demand without any restart: what costs are compared with."""
        return self.work_hours * self.on_demand_price


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. `usd` over the on-demand cost is `ratio`."""

    usd: float
    ratio: float
    hours: float
    missed: bool
    launches: int
    interruptions: int
    on_demand_hours: float
    actions: tuple[tuple[Action | None, int], ...] = ()


def simulate(
    policy: Policy, zones: Sequence[Trace], work: Work, model: Model | None = None, *, log: bool = False
) -> Outcome:
    """Run to the end of the work, or of the records (a miss). `model`: what beliefs are kept by, if any."""
    gap = zones[0].gap_seconds
    ticks = min(len(zone) for zone in zones)
    seen = _Seen(zones, work, model)
    total, restart = work.work_hours * 3600, work.restart_hours * 3600
    running: Action | None = None
    where, pending, done, usd = 0, 0.0, 0.0, 0.0
    launches = interruptions = on_demand_ticks = tick = 0
    actions: list[tuple[Action | None, int]] = []
    while total - done > 1e-8 and tick < ticks:
        market = seen.at(tick)
        if running is Action.SPOT and not market[where].available:
            running = None
            interruptions += 1
        decision = policy(
            Situation(
                elapsed_seconds=tick * gap,
                deadline_seconds=work.deadline_hours * 3600,
                work_seconds=total,
                work_left_seconds=total - done,
                restart_seconds=restart,
                running_on=running,
                running_zone=market[where].name if running is Action.SPOT else "",
                restart_left_seconds=pending if running is not None else 0.0,
                zones=market,
                on_demand_price=work.on_demand_price,
                tick_seconds=gap,
            )
        )
        to, place = decision.action, where
        if to is Action.SPOT:
            place = next(number for number, zone in enumerate(market) if zone.name == decision.zone)
            if not market[place].available:
                raise ValueError(f"{decision.zone} has no spot at tick {tick}, and the policy chose it")
        if to is Action.WAIT:
            running = None
        else:
            if running is not to or (to is Action.SPOT and place != where):
                pending = restart
                launches += 1
            running, where = to, place
            useful = max(gap - pending, 0.0)
            pending -= gap - useful
            if pending < EPSILON_SECONDS:
                pending = 0.0
            done += min(useful, total - done)
            usd += (work.on_demand_price if to is Action.ON_DEMAND else market[where].price) * gap / 3600
            on_demand_ticks += to is Action.ON_DEMAND
        if log:
            actions.append((running, where if running is Action.SPOT else -1))
        tick += 1
    hours = tick * gap / 3600
    return Outcome(
        usd=usd,
        ratio=usd / work.on_demand_usd,
        hours=hours,
        missed=total - done > 1e-8 or hours > work.deadline_hours + 1e-9,
        launches=launches,
        interruptions=interruptions,
        on_demand_hours=on_demand_ticks * gap / 3600,
        actions=tuple(actions),
    )


class _Seen:
    """What a policy knows of the market: all zones so far, nothing of what comes."""

    def __init__(self, zones: Sequence[Trace], work: Work, model: Model | None) -> None:
        self._available = [zone.available.tolist() for zone in zones]
        self._prices = [None if zone.prices is None else zone.prices.tolist() for zone in zones]
        self._names = [zone.name for zone in zones]
        self._gap = zones[0].gap_seconds
        self._work = work
        self._model = model
        self._beliefs: list[Vector] = [] if model is None else [model.stationary for _ in zones]

    def at(self, tick: int) -> tuple[Zone, ...]:
        market = []
        for number, name in enumerate(self._names):
            available = self._available[number][tick]
            prices = self._prices[number]
            belief: Vector | None = None
            if self._model is not None:
                moved = self._model.moved(self._beliefs[number], self._gap if tick else 0.0)
                belief = self._beliefs[number] = self._model.seen(moved, available)
            market.append(Zone(name, available, self._work.spot_price if prices is None else prices[tick], belief))
        return tuple(market)
