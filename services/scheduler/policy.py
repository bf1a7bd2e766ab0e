"""Spot (and where), on-demand, or wait? Pure: clock, market and progress of the job are arguments.

With `auto` the answer is the cheapest by a look ahead (`lookahead`): what finishing costs after each thing that could
be done now, averaged over the belief about the market (`availability`). Whatever it says, past the point of no return a
job takes on-demand and keeps it, so that a deadline which was feasible is met even if spot never comes back.

A job without a deadline minimises cost with bounded delay: it is treated as if it had to end by the time that it would
take without any waiting, plus a share of that time, plus the patience of the settings. A budget is hard: where
on-demand to the end would pass it, the job goes on with spot or waits, and its newest checkpoint stays.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache

import numpy as np

from services.scheduler import availability
from services.scheduler.availability import Model, Vector, best_of
from services.scheduler.lookahead import NEVER, WAITING_SHARE, Mode, Table, Tables, Terms

# Without a deadline a job may take so much longer than without any waiting, as a share of its work.
DELAY_SHARE = 0.5
SHORTEST_STEP_SECONDS = 1.0
# A table has a limited number of layers, and of steps of restart: beyond it, its steps are longer. Finer tables decide
# no better (docs/decisions/0012).
STEPS_AT_MOST, RESTART_STEPS_AT_MOST = 128, 4
# A table serves all jobs whose terms round to the same. A zone's own price is put right where it matters most, in the
# step that is decided on.
STEP_ROUNDING, PRICE_ROUNDING, RESTART_ROUNDING = 2.0, 1.5, 1.2
ZONES_AT_MOST, LEAST_PRICE = 8, 0.02
# Slack is looked at as far as so many times the work: more changes no decision, and steps that reach so far
# would be longer than the work.
SLACK_OF_WORK_AT_MOST = 12.0
# What runs is only changed for a gain of more than this share of what a restart costs: beliefs are not that exact.
HYSTERESIS = 0.03
# So short a rest takes the spot machine that is there, however long its deadline would let it wait for one that lasts:
# a restart of it costs less than a cent, and somebody sits before the screen.
SHORT_WORK_SECONDS = 1800.0
LOOKS_AHEAD = 7
ZONES_LOOKED_AT = 2  # what runs and the most promising other, or the two most promising


class Action(StrEnum):
    SPOT = "spot"
    ON_DEMAND = "on-demand"
    WAIT = "wait"


class SpotPolicy(StrEnum):
    AUTO = "auto"
    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class Zone:
    """A place with spot machines for this job. `belief`: of its state, all that was seen until now counted in; None:
    nothing was seen yet."""

    name: str
    available: bool  # as far as is known; a launch may still be denied
    price: float  # USD per hour, of all machines of the job
    belief: Vector | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known at a tick. Seconds; `deadline_seconds` counts from the submission, as `elapsed_seconds` does."""

    elapsed_seconds: float
    deadline_seconds: float | None
    work_seconds: float  # of the whole job, on the planned machine
    work_left_seconds: float
    restart_seconds: float  # start-up and restore after any launch
    running_on: Action | None  # SPOT or ON_DEMAND while an attempt runs
    zones: tuple[Zone, ...] = ()
    on_demand_price: float = 1.0  # USD per hour, of all machines of the job
    running_zone: str = ""
    restart_left_seconds: float = 0.0  # of the running attempt's start-up
    spot_policy: SpotPolicy = SpotPolicy.AUTO
    patience_seconds: float = 600.0
    tick_seconds: float = 60.0  # until the next decision
    budget_left_usd: float | None = None  # less what the last checkpoint and the export need

    @property
    def has_spot(self) -> bool:
        return any(zone.available for zone in self.zones)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to run on from now on. `zone`: where, of a spot decision; `rule`: what decided, for people."""

    action: Action
    rule: str
    zone: str = ""


def end_seconds(s: Situation) -> float:
    """The moment by which the job should have ended, from the submission."""
    if s.deadline_seconds is not None:
        return s.deadline_seconds
    return s.work_seconds * (1 + DELAY_SHARE) + 2 * s.restart_seconds + s.patience_seconds


def decide(s: Situation, lookahead: Lookahead | None = None) -> Decision:
    """What the job should run on from now on, by the priors that are shipped or those of `lookahead`."""
    if s.spot_policy is SpotPolicy.ON_DEMAND:
        return Decision(Action.ON_DEMAND, "spot_policy is on-demand")
    if s.spot_policy is SpotPolicy.SPOT:
        return _spot_only(s, "spot_policy is spot", lookahead)
    if s.on_demand_price <= 0:
        return Decision(s.running_on or Action.ON_DEMAND, "on-demand costs nothing", s.running_zone)
    if _passes_budget(s):
        return _spot_only(s, "on-demand to the end would pass the budget", lookahead)
    if s.deadline_seconds is None and (decision := _without_deadline(s, lookahead)) is not None:
        return decision
    if past_the_point_of_no_return(s):
        rides = s.running_on is Action.SPOT and s.restart_left_seconds <= 0
        if rides:
            return Decision(Action.SPOT, "riding spot with one restart in hand", s.running_zone)
        return Decision(Action.ON_DEMAND, "past the point of no return")
    if s.running_on is not Action.SPOT and s.zones and min(zone.price for zone in s.zones) >= s.on_demand_price:
        return Decision(Action.ON_DEMAND, "no spot is cheaper than on-demand")
    decision = (lookahead or shipped()).decide(s)
    is_short = s.work_left_seconds <= SHORT_WORK_SECONDS
    if decision.action is Action.WAIT and s.has_spot and (is_short or s.deadline_seconds is None):
        return _spot_only(s, "spot is available", lookahead)
    return decision


def _without_deadline(s: Situation, lookahead: Lookahead | None) -> Decision | None:
    """Nothing is given up for a bound that nobody set: what runs on spot goes on, and spot that is there is taken.

    A short job could save a fraction of a cent by waiting until a machine has proved that it lasts; whoever set no
    deadline did not mean that.
    """
    if s.running_on is Action.SPOT:
        return Decision(Action.SPOT, "running", s.running_zone)
    if s.running_on is None and s.has_spot and past_the_point_of_no_return(s):
        return _spot_only(s, "spot is available", lookahead)
    return None


def past_the_point_of_no_return(s: Situation) -> bool:
    """Whether one more launch only just fits: by the next tick an on-demand machine would come too late."""
    ticks_left = math.floor((end_seconds(s) - s.elapsed_seconds) / s.tick_seconds + 1e-9)
    return math.ceil((s.work_left_seconds + s.restart_seconds) / s.tick_seconds - 1e-9) >= ticks_left


def seconds_to_on_demand(s: Situation, lookahead: Lookahead | None = None) -> float | None:
    """After how long a job that waits takes on-demand if no spot comes, by the decisions themselves; None: never.

    Looked for between now and the point of no return, to a step of what is left in LOOKS_AHEAD halvings: the longer
    nothing runs, the less there is to wait for.
    """
    zones = tuple(replace(zone, available=False) for zone in s.zones)

    def takes_it(seconds: float) -> bool:
        later = replace(s, elapsed_seconds=s.elapsed_seconds + seconds, zones=zones)
        return decide(later, lookahead).action is Action.ON_DEMAND

    early, late = 0.0, end_seconds(s) - s.elapsed_seconds - s.work_left_seconds - s.restart_seconds
    if late <= 0 or not takes_it(late):
        return None
    for _ in range(LOOKS_AHEAD):
        if late - early <= s.tick_seconds:
            break
        middle = (early + late) / 2
        early, late = (early, middle) if takes_it(middle) else (middle, late)
    return late


def _passes_budget(s: Situation) -> bool:
    if s.budget_left_usd is None:
        return False
    restart = 0.0 if s.running_on is Action.ON_DEMAND else s.restart_seconds
    return (s.work_left_seconds + restart) / 3600 * s.on_demand_price > s.budget_left_usd


def _spot_only(s: Situation, rule: str, lookahead: Lookahead | None) -> Decision:
    if s.running_on is Action.SPOT:
        return Decision(Action.SPOT, rule, s.running_zone)
    available = [zone for zone in s.zones if zone.available]
    if not available:
        return Decision(Action.WAIT, "waiting-for-spot")
    model = (lookahead or shipped()).model
    return Decision(Action.SPOT, rule, min(available, key=lambda zone: _usd_per_useful_hour(s, zone, model)).name)


def _usd_per_useful_hour(s: Situation, zone: Zone, model: Model) -> float:
    """The price of an hour of work in a zone, its share of a restart counted in."""
    stay = min(_stay_seconds(zone, model), max(s.work_left_seconds, 1.0))
    return zone.price * (1 + s.restart_seconds / max(stay, 1.0))


def _belief(zone: Zone, model: Model) -> Vector:
    return model.seen(model.stationary, zone.available) if zone.belief is None else zone.belief


def _stay_seconds(zone: Zone, model: Model) -> float:
    """How long a zone that is up now is expected to stay so."""
    up = _belief(zone, model)[: model.ups]
    total = up.sum()
    return float(up @ model.seconds_up / total) if total > 0 else 0.0


@dataclass(frozen=True)
class Lookahead:
    """Decisions by what finishing is expected to cost."""

    model: Model
    tables: Tables = field(init=False, repr=False, compare=False)
    # Tables are made while somebody waits for an answer, and answers are asked for in threads.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", Tables(self.model))

    def decide(self, s: Situation) -> Decision:
        """The cheapest of all that can be done at this tick."""
        if (zone := self._rides(s)) is not None:
            return Decision(Action.SPOT, "spot runs, and nothing is cheaper by more than a restart", zone)
        slack = min(
            end_seconds(s) - s.elapsed_seconds - s.work_left_seconds,
            SLACK_OF_WORK_AT_MOST * (s.work_left_seconds + s.restart_seconds),
        )
        left = s.work_left_seconds + slack
        with self._lock:
            options = self._options(s, self.tables.table(self.terms(s, left)), slack)
        now = _running(s)
        best = min(options, key=lambda option: options[option])
        margin = HYSTERESIS * s.restart_seconds / 3600
        if s.running_on is not None and now in options and options[now] <= options[best] + margin:
            best = now
        action, zone = best
        return Decision(action, _rule(s, action), zone)

    @staticmethod
    def _rides(s: Situation) -> str | None:
        """The zone of a machine past its restart that no other beats: to move costs a restart now, to stay perhaps one
        later. Another must be so much cheaper that the work left pays for it. Nearly every live job rides."""
        here = next((zone for zone in s.zones if zone.name == s.running_zone), None)
        if s.running_on is not Action.SPOT or here is None or s.restart_left_seconds > 0:
            return None
        cheapest = min([s.on_demand_price, *(zone.price for zone in s.zones if zone.available)])
        gain = (here.price - cheapest) * s.work_left_seconds - cheapest * s.restart_seconds
        return here.name if here.available and gain <= 0 else None

    def terms(self, s: Situation, left_seconds: float) -> Terms:
        """The table for this job now."""
        restart = _rounded(max(s.restart_seconds, SHORTEST_STEP_SECONDS), RESTART_ROUNDING)
        step = _rounded_up(max(s.tick_seconds, SHORTEST_STEP_SECONDS), STEP_ROUNDING)
        while left_seconds > step * STEPS_AT_MOST or restart > step * RESTART_STEPS_AT_MOST:
            step *= STEP_ROUNDING
        zones = min(2 ** math.ceil(math.log2(max(1, len(s.zones)))), ZONES_AT_MOST)
        # Only the proportion of the prices matters to what is chosen.
        price = _rounded(max(LEAST_PRICE, _usual_price(s) / s.on_demand_price), PRICE_ROUNDING)
        return Terms(step, restart, price, zones, step * STEPS_AT_MOST)

    def _options(self, s: Situation, table: Table, slack: float) -> dict[tuple[Action, str], float]:
        """What finishing costs after each thing that can be done now, in hours of on-demand."""
        terms, model, work = table.terms, self.model, s.work_left_seconds
        step = terms.step_seconds
        usual = _usual_price(s)
        beliefs = {zone.name: model.moved(_belief(zone, model), step) for zone in s.zones}
        everywhere = best_of(list(beliefs.values()), model.zone_correlation) if beliefs else model.stationary
        # A restart is taken off the slack at once and off the work as it goes; the step's rest is work done. It is the
        # table's, so that what is done now and what is done later cost alike.
        restart = s.restart_left_seconds if s.running_on is Action.ON_DEMAND else terms.restart_seconds
        on_demand = table(Mode("on-demand"), work - (step - restart), slack - restart)
        now = min(step, restart + work) / 3600
        options = {(Action.ON_DEMAND, ""): now + float(everywhere @ on_demand)}
        if slack >= step + s.restart_seconds:
            waiting = WAITING_SHARE * step / 3600
            options[(Action.WAIT, "")] = waiting + float(everywhere @ table(Mode("idle"), work, slack - step))
        for zone in self._worth_looking_at(s):
            runs = s.running_on is Action.SPOT and zone.name == s.running_zone
            restart = s.restart_left_seconds if runs else terms.restart_seconds
            loss = min(step, restart)
            if slack - loss < s.restart_seconds - 1e-6:
                continue
            work_after, slack_after = work - (step - loss), slack - loss
            others = [belief for name, belief in beliefs.items() if name != zone.name]
            rest = best_of(others, model.zone_correlation) if others else np.ones(1)
            here = beliefs[zone.name]
            fallen = here.copy()
            fallen[: model.ups] = 0
            falls = float(fallen.sum())
            after = best_of([fallen / falls, rest]) * falls if others and falls > 0 else fallen
            survives = here[: model.ups] @ table(Mode("spot", restart - loss), work_after, slack_after) @ rest
            then = float(survives + after @ table(Mode("idle"), work_after, slack_after))
            # The table knows one price; what this zone is dearer or cheaper than the others counts for as long as the
            # job may stay.
            stay = max(step, min(_stay_seconds(zone, model), s.work_left_seconds))
            premium = (zone.price - usual) / s.on_demand_price * stay / 3600
            now = terms.spot_price * min(step, restart + work) / 3600
            options[(Action.SPOT, zone.name)] = now + premium + then
        return {option: cost for option, cost in options.items() if cost < NEVER / 2}

    def _worth_looking_at(self, s: Situation) -> list[Zone]:
        """The zone that runs, and of the available others the most promising."""
        available = sorted(
            (zone for zone in s.zones if zone.available),
            key=lambda zone: (zone.name != s.running_zone, _usd_per_useful_hour(s, zone, self.model)),
        )
        return available[:ZONES_LOOKED_AT]


@cache
def shipped() -> Lookahead:
    """The look ahead by the priors that are shipped."""
    return Lookahead(availability.shipped())


def _usual_price(s: Situation) -> float:
    """USD per hour of spot, the median of the zones."""
    prices = sorted(zone.price for zone in s.zones) or [s.on_demand_price]
    return prices[len(prices) // 2]


def _running(s: Situation) -> tuple[Action, str]:
    if s.running_on is None:
        return (Action.WAIT, "")
    return (s.running_on, s.running_zone if s.running_on is Action.SPOT else "")


def _rule(s: Situation, action: Action) -> str:
    if action is Action.WAIT:
        return "waiting-for-spot"
    if action is Action.SPOT:
        return "spot is the cheapest way to the end"
    return "on-demand: no spot worth a restart" if s.has_spot else "on-demand: waiting for spot would cost more"


def _rounded(value: float, factor: float) -> float:
    return float(factor ** round(math.log(value) / math.log(factor)))


def _rounded_up(value: float, factor: float) -> float:
    return float(factor ** math.ceil(math.log(value) / math.log(factor) - 1e-9))
