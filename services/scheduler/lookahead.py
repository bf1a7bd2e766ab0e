"""What it costs to finish from here: a dynamic programme over time left, slack and the state of the market.

`slack` is the time left less the work left: the time that may still be lost. One table serves every job of the same
restart overhead, prices and number of zones, whatever its size: a job is a point (time left, slack) in it.

Backward over steps of `step_seconds`, what is known at each step being the hidden state of the market (the belief over
it weighs the answers: QMDP, Littman et al. 1995). Modes: idle, on demand, and on spot after 0 to h-1 steps of restart
(h steps pay for a restart) or past it. What may be done at a step:

- wait: slack shrinks by the step;
- on demand: if it does not run, slack shrinks by the restart overhead;
- spot: where there is some; each step of restart is lost slack, and a machine that is taken leaves the job idle.

When one more restart on demand only just fits, on demand is the only choice left, unless spot runs and is past its
restart: that may be ridden, for as long as it runs the slack does not shrink.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.scheduler.availability import Matrix, Model, Vector, pool

FINE_SLACKS = 20
COARSER = 1.09
TABLES_KEPT = 96
# Of the layers far from the end, where values change little, every fourth is kept.
ALL_KEPT, KEPT_EVERY = 48, 4
NEVER = np.float32(1e9)
DONE_SECONDS = 1e-3
# What an hour of waiting costs, of an on-demand hour: of two ways that cost the same the sooner one is better.
WAITING_SHARE = 0.002

Layer = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a table depends on. `spot_price`: over that of on-demand, for only the proportion matters; seconds."""

    step_seconds: float
    restart_seconds: float
    spot_price: float
    zones: int
    slack_seconds: float  # how far the table reaches


class Table:
    """Expected cost to the end, in hours of on-demand. Layers are made as far as they are asked for."""

    def __init__(self, model: Model, terms: Terms) -> None:
        self.model, self.terms = model, terms
        self._step = step = terms.step_seconds
        self._restart_steps = max(1, math.ceil(terms.restart_seconds / step - 1e-9))
        self._slacks = slack_grid(step, terms.restart_seconds, terms.slack_seconds)
        self._grid: list[float] = self._slacks.tolist()
        losses = [min(step, max(0.0, terms.restart_seconds - done * step)) for done in range(self._restart_steps)]
        self._losses = losses
        self._after_restart_step = [self._less(loss) for loss in losses]
        self._after_restart = self._less(terms.restart_seconds)
        self._after_waiting = self._less(step)
        ups, states = model.ups, model.states
        one = model.step(step)
        everywhere = pool(model, terms.zones, step)
        self._everywhere = np.ascontiguousarray(everywhere.step.T, dtype=np.float32)
        # With no other zone the place of the others is one column that never matters.
        others = pool(model, terms.zones - 1, step).step if terms.zones > 1 else np.ones((1, 1))
        self._places = len(others)
        survives = np.einsum("xy,op->xoyp", one[:ups, :ups], others).reshape(ups * self._places, -1)
        self._survives = np.ascontiguousarray(survives.T, dtype=np.float32)
        self._fails = np.ascontiguousarray(self._failures(one, others).T, dtype=np.float32)
        rest = everywhere.rest[:ups] if terms.zones > 1 else np.ones((ups, 1))
        self._rest = np.asarray(rest, dtype=np.float32)
        index = np.arange(ups)[:, None]
        self._best_place = (np.minimum(index, np.arange(self._places)) if terms.zones > 1 else index).ravel()
        rows, hour = len(self._slacks), terms.spot_price / 3600
        # With work all but done a launch still costs its restart: said here, so that between two slacks it is not lost.
        self._idle_when_done = np.float32(hour * terms.restart_seconds)
        pending = [hour * max(0.0, terms.restart_seconds - paid * step) for paid in range(1, self._restart_steps)]
        self._spot_when_done = np.array([*pending, 0.0], np.float32)[:, None, None]
        self._newest: tuple[Layer, Layer, Layer] = (
            np.full((rows, states), self._idle_when_done),
            np.zeros((rows, states), np.float32),
            np.tile(self._spot_when_done, (1, rows, ups * self._places)),
        )
        self._made = 0
        self._layers = [self._newest]

    @property
    def reaches_seconds(self) -> float:
        """The largest slack it knows."""
        return self._grid[-1]

    def _failures(self, one: Matrix, others: Matrix) -> Matrix:
        """(up state and others' place) -> the best state among all zones once this one has failed."""
        model, places = self.model, self._places
        falls = one[: model.ups, model.ups :]
        result = np.zeros((model.ups, places, model.states))
        if places == 1:
            result[:, 0, model.ups :] = falls
            return result.reshape(model.ups, model.states)
        for fallen in range(model.states - model.ups):
            for place in range(places):
                best = min(model.ups + fallen, place)
                result[:, :, best] += falls[:, fallen][:, None] * others[:, place][None, :]
        return result.reshape(model.ups * places, model.states)

    def _less(self, seconds: float) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_]]:
        """Where in the grid the slacks lie that are smaller by so much: index, weight of the next, whether any is."""
        wanted = self._slacks - seconds
        index = np.clip(np.searchsorted(self._slacks, wanted, side="right") - 1, 0, len(self._slacks) - 2)
        weight = (wanted - self._slacks[index]) / (self._slacks[index + 1] - self._slacks[index])
        return index, np.clip(weight, 0, 1).astype(np.float32)[:, None], wanted >= -1e-6

    @staticmethod
    def _shifted(values: Layer, where: tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_]]) -> Layer:
        index, weight, possible = where
        moved = values[index] * (1 - weight) + values[index + 1] * weight
        moved[~possible] = NEVER
        return np.asarray(moved, dtype=np.float32)

    def grow(self, steps: int) -> None:
        """Make layers until so many steps of time left are known."""
        terms, model = self.terms, self.model
        hour = self._step / 3600
        spot_cost, on_demand_cost = np.float32(terms.spot_price * hour), np.float32(hour)
        ups, places, last = model.ups, self._places, self._restart_steps - 1
        for number in range(self._made + 1, steps + 1):
            left = number * self._step
            idle_then, on_demand_then, spot_then = self._newest
            idle = idle_then @ self._everywhere
            on_demand = on_demand_then @ self._everywhere
            spot = spot_then @ self._survives + idle_then @ self._fails
            spot[last][left - self._step - self._slacks <= DONE_SECONDS] = 0
            work = left - self._slacks
            done = work <= DONE_SECONDS
            forced = work + terms.restart_seconds > left - self._step + 1e-6
            # spot[i] has i+1 steps of restart behind it; the last one is past its restart.
            launch_on_demand = on_demand_cost + self._shifted(on_demand, self._after_restart)
            wait = self._shifted(idle, self._after_waiting) + on_demand_cost * np.float32(WAITING_SHARE)
            first = self._shifted(spot[0], self._after_restart_step[0])
            launch_spot = np.full_like(wait, NEVER)
            by_place = first.reshape(len(first), ups, places)
            launch_spot[:, :ups] = spot_cost + np.einsum("sxo,xo->sx", by_place, self._rest)
            otherwise = np.minimum(wait, launch_spot)
            otherwise[forced] = NEVER
            from_idle = np.minimum(launch_on_demand, otherwise)
            from_on_demand = np.minimum(on_demand_cost + on_demand, otherwise)
            move = from_idle[:, self._best_place]
            from_spot = np.empty_like(spot)
            from_spot[last] = spot_cost + spot[last]
            from_spot[last][~forced] = np.minimum(from_spot[last], move)[~forced]
            for paid in range(last):
                ride = spot_cost + self._shifted(spot[paid + 1], self._after_restart_step[paid + 1])
                ride[forced] = NEVER
                from_spot[paid] = np.minimum(ride, move)
            from_idle[done] = self._idle_when_done
            from_on_demand[done] = 0
            from_spot[:, done] = self._spot_when_done
            self._newest = (from_idle, from_on_demand, from_spot)
            self._made = number
            if number <= ALL_KEPT or (number - ALL_KEPT) % KEPT_EVERY == 0:
                self._layers.append(self._newest)

    def __call__(self, mode: Mode, work_seconds: float, slack_seconds: float) -> Vector:
        """Expected cost to the end with so much work and slack left, per state; about `NEVER` where it cannot be done.

        Idle and on demand: by the best state among the zones, (states,). Spot: (up states, places of the others).
        """
        if work_seconds <= DONE_SECONDS:
            places = (self.model.ups, self._places) if mode.name == "spot" else (self.model.states,)
            return np.zeros(places)
        # A step that was begun is paid in full, so what is left of one costs as much as all of it.
        work = max(self._step, work_seconds)
        slack = min(max(slack_seconds, 0.0), self.reaches_seconds)
        grid = self._grid
        index = min(bisect_right(grid, slack) - 1, len(grid) - 2)
        weight = (slack - grid[index]) / (grid[index + 1] - grid[index])
        values = self._along(mode, work, index)
        if weight > 1e-9:
            values = values * (1 - weight) + self._along(mode, work, index + 1) * weight
        return values.reshape(self.model.ups, self._places) if mode.name == "spot" else values

    def _along(self, mode: Mode, work_seconds: float, index: int) -> Vector:
        """At one slack of the grid: work lies between two layers. (Between two slacks of a layer it would jump.)"""
        steps = (work_seconds + self._grid[index]) / self._step
        below = math.floor(steps + 1e-9)
        if below >= ALL_KEPT:
            below -= (below - ALL_KEPT) % KEPT_EVERY
        above = below + (1 if below < ALL_KEPT else KEPT_EVERY)
        part = (steps - below) / (above - below)
        self.grow(above if part > 1e-6 else below)
        values = self._layer(mode, below)[index]
        if part > 1e-6:
            values = values * (1 - part) + self._layer(mode, above)[index] * part
        return np.asarray(values)

    def _layer(self, mode: Mode, number: int) -> Layer:
        kept = number if number <= ALL_KEPT else ALL_KEPT + (number - ALL_KEPT) // KEPT_EVERY
        idle, on_demand, spot = self._layers[kept]
        if mode.name == "idle":
            return idle
        return on_demand if mode.name == "on-demand" else np.asarray(spot[self._phase(mode.restart_left_seconds)])

    def _phase(self, restart_left_seconds: float) -> int:
        return max(0, self._restart_steps - 1 - math.ceil(restart_left_seconds / self._step - 1e-9))


@dataclass(frozen=True, slots=True)
class Mode:
    """What runs: "idle", "on-demand" or "spot", the last with what is left of its restart."""

    name: str
    restart_left_seconds: float = 0.0


def slack_grid(step_seconds: float, restart_seconds: float, slack_seconds: float) -> Vector:
    """Slacks worth knowing: fine where the choices narrow (one restart left), coarse where there is plenty."""
    first = [0.0, restart_seconds] if restart_seconds > 0 else [0.0]
    grid, width = list(first), step_seconds
    while grid[-1] < slack_seconds + step_seconds:
        grid.append(grid[-1] + width)
        if len(grid) > FINE_SLACKS:
            width *= COARSER
    return np.array(grid)


class Tables:
    """The tables in use, the longest unused one forgotten first."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._tables: OrderedDict[Terms, Table] = OrderedDict()

    def table(self, terms: Terms) -> Table:
        """The table of these terms."""
        known = self._tables.get(terms)
        if known is None:
            known = self._tables[terms] = Table(self.model, terms)
        self._tables.move_to_end(terms)
        while len(self._tables) > TABLES_KEPT:
            self._tables.popitem(last=False)
        return known
