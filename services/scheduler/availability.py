"""What the past of a zone tells of its spot capacity to come: a Markov chain with hidden states, and beliefs over them.

A zone's capacity is on or off; how long it stays so depends on what cannot be seen. So each hidden state has a mean
stay and is wholly on or wholly off. "Up for a day" and "up for minutes" look alike at first; the longer a run lasts,
the more the belief leans to the long states. That gives hazards that fall with age, and zones in good and bad times,
from one small matrix. A belief is a vector over the states, moved by time and sharpened by what was seen; not having
looked is no observation. States are ordered best first: up ones by how long they will stay up, then down ones by how
soon they will be up again, so the best of several zones is the smallest index.

The chain runs in continuous time (a generator, per second), so it serves ticks of any length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = NDArray[np.float64]

SHIPPED = Path(__file__).parent / "data" / "spot_priors.json"
STEPS_KEPT = 64  # transition matrices of different lengths of time that a model remembers


class PriorsError(ValueError):
    """A priors file that is none; the message says what is wrong with it."""


@dataclass(frozen=True)
class Model:
    """The chain of one zone. `generator`: (states, states) rates per second; the first `ups` states are up.

    `zone_correlation`: of the availability of two zones, 0 (independent) to 1 (one zone under two names).
    `hazard_by_hour`: losses of capacity in an hour of the (UTC) day over those of a mean hour, (24,); empty: no such
    pattern is known.
    """

    generator: Matrix
    ups: int
    zone_correlation: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)
    hazard_by_hour: tuple[float, ...] = ()
    _steps: dict[float, Matrix] = field(default_factory=dict, repr=False, compare=False)

    @property
    def states(self) -> int:
        return int(self.generator.shape[0])

    @cached_property
    def stationary(self) -> Vector:
        """The belief about a zone of which nothing is known."""
        return stationary(self.generator)

    def step(self, seconds: float) -> Matrix:
        """Transition probabilities over so many seconds."""
        seconds = round(seconds, 3)
        known = self._steps.get(seconds)
        if known is None:
            if len(self._steps) >= STEPS_KEPT:
                self._steps.clear()
            known = self._steps[seconds] = exponential(self.generator * seconds)
        return known

    def moved(self, belief: Vector, seconds: float, hour: int | None = None) -> Vector:
        """The belief after some time in which nobody looked; `hour`: of the day, where it is known."""
        if seconds <= 0:
            return belief
        after = belief @ self.step(seconds)
        if hour is None or not self.hazard_by_hour:
            return after
        # More or less of what is up goes down than in a mean hour; among the states of a side nothing changes.
        was_up, is_up = belief[: self.ups].sum(), after[: self.ups].sum()
        kept = min(1.0, is_up / was_up) if was_up > 1e-12 else 1.0
        up = min(1.0, max(0.0, is_up + was_up * (kept ** self.hazard_by_hour[hour % 24] - kept)))
        sides = np.array([up / is_up if is_up > 1e-12 else 1.0, (1 - up) / (1 - is_up) if is_up < 1 - 1e-12 else 1.0])
        moved = after * np.repeat(sides, [self.ups, self.states - self.ups])
        return np.asarray(moved / moved.sum())

    def stayed(self, belief: Vector, seconds: float, available: bool) -> Vector:
        """The belief after a time all of which was spent on the side that was seen at its beginning."""
        part = slice(0, self.ups) if available else slice(self.ups, None)
        # Within a side some is lost to the other at each moment: scaled to rows of a chain, what remains is the belief.
        side = self.generator[part, part]
        leaving = -side.sum(axis=1)
        closed = np.zeros((len(side) + 1, len(side) + 1))
        closed[:-1, :-1], closed[:-1, -1] = side, leaving
        kept = np.append(belief[part], 0.0) @ exponential(closed * seconds)
        after = np.zeros_like(belief)
        after[part] = kept[:-1]
        return self.seen(after, available)

    def seen(self, belief: Vector, available: bool) -> Vector:
        """The belief after a look. What was thought impossible falls back on what is usual."""
        sharpened = np.zeros_like(belief)
        part = slice(0, self.ups) if available else slice(self.ups, None)
        sharpened[part] = belief[part]
        total = sharpened.sum()
        if total <= 1e-12:
            sharpened[part] = self.stationary[part]
            total = sharpened.sum()
        return np.asarray(sharpened / total)

    @cached_property
    def seconds_up(self) -> Vector:
        """Expected seconds until capacity is gone, per up state."""
        within = self.generator[: self.ups, : self.ups]
        return np.asarray(np.linalg.solve(-within, np.ones(self.ups)), dtype=float)

    @cached_property
    def seconds_down(self) -> Vector:
        """Expected seconds until there is capacity again, per down state."""
        within = self.generator[self.ups :, self.ups :]
        return np.asarray(np.linalg.solve(-within, np.ones(self.states - self.ups)), dtype=float)

    def to_json(self) -> str:
        """The priors file: rates per hour, with its provenance."""
        document = {
            "format": "sskai-spot-priors/1",
            "provenance": self.provenance,
            "ups": self.ups,
            "zone_correlation": round(self.zone_correlation, 4),
            "hazard_by_hour": [round(factor, 3) for factor in self.hazard_by_hour],
            "rates_per_hour": [[float(f"{rate * 3600:.6g}") for rate in row] for row in self.generator],
        }
        return json.dumps(document, indent=1) + "\n"


def read_priors(path: Path = SHIPPED) -> Model:
    """A priors file as `sskai lab fit` writes it. Raises PriorsError, which names the file."""
    try:
        return parse_priors(path.read_text())
    except OSError as error:
        raise PriorsError(f"{path} cannot be read: {error}") from error
    except PriorsError as error:
        raise PriorsError(f"{path}: {error}") from error


def parse_priors(text: str) -> Model:
    """The text of a priors file. Raises PriorsError."""
    try:
        document = json.loads(text)
        if document["format"] != "sskai-spot-priors/1":
            raise PriorsError(f"format is {document['format']!r}, not sskai-spot-priors/1")
        rates = np.array(document["rates_per_hour"], dtype=float) / 3600
        ups = int(document["ups"])
        correlation = float(document["zone_correlation"])
        by_hour = tuple(float(factor) for factor in document.get("hazard_by_hour", ()))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, PriorsError):
            raise
        raise PriorsError(f"no priors file: {error!r}; make one with `sskai lab fit`") from error
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1] or not 0 < ups < rates.shape[0]:
        raise PriorsError("rates_per_hour must be square, and ups between 1 and its size less 1")
    np.fill_diagonal(rates, 0)
    if (rates < 0).any() or not np.isfinite(rates).all() or not 0 <= correlation <= 1:
        raise PriorsError("rates must be finite and not negative, zone_correlation between 0 and 1")
    if len(by_hour) not in (0, 24) or any(not 0 < factor < 100 for factor in by_hour):
        raise PriorsError("hazard_by_hour must be empty or have 24 factors, each more than 0")
    if not (rates[:ups, ups:].sum() > 0 and rates[ups:, :ups].sum() > 0):
        raise PriorsError("rates_per_hour must lead from up to down and back")
    np.fill_diagonal(rates, -rates.sum(axis=1))
    return Model(rates, ups, correlation, document.get("provenance", {}), by_hour)


@cache
def shipped() -> Model:
    """The priors that the scheduler starts with."""
    return read_priors()


def ordered(generator: Matrix, ups: int) -> Matrix:
    """The same chain with its states best first (see above); the first `ups` states must be the up ones."""
    model = Model(generator, ups)
    order = np.concatenate([np.argsort(-model.seconds_up), ups + np.argsort(model.seconds_down)])
    return np.asarray(generator[np.ix_(order, order)])


def exponential(matrix: Matrix) -> Matrix:
    """exp of a generator times a time, by scaling and squaring; rows sum to 1."""
    squarings = max(0, int(np.ceil(np.log2(max(1e-12, np.abs(matrix).sum(axis=1).max())))) + 6)
    small = matrix / 2.0**squarings
    identity = np.eye(len(matrix))
    # Four terms on a matrix of norm below 2^-6 are exact to 1e-11.
    result = identity + small @ (identity + small / 2 @ (identity + small / 3 @ (identity + small / 4)))
    for _ in range(squarings):
        result = result @ result
    result = np.maximum(result, 0)
    return np.asarray(result / result.sum(axis=1, keepdims=True))


def stationary(generator: Matrix) -> Vector:
    """The long-run distribution of a chain, of its generator (or of its transition matrix less the identity)."""
    size = len(generator)
    equations = np.vstack([generator.T, np.ones(size)])
    solution = np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0]
    solution = np.maximum(solution, 0)
    return np.asarray(solution / solution.sum())


def best_of(beliefs: Sequence[Vector] | Matrix, correlation: float = 0.0) -> Vector:
    """Distribution of the best state among several zones: P(best >= k) is the product over the zones.

    Correlated zones count as fewer: the exponent shrinks the product so that `m` count as 1 + (m-1)(1-correlation).
    """
    tails = np.cumsum(np.asarray(beliefs)[:, ::-1], axis=1)[:, ::-1]  # P(state >= k)
    best = np.prod(np.maximum(tails, 0), axis=0) ** (effective_zones(len(tails), correlation) / len(tails))
    return np.asarray(best - np.append(best[1:], 0.0))


def effective_zones(zones: int, correlation: float) -> float:
    """How many independent zones so many correlated ones are worth."""
    return 1 + (zones - 1) * (1 - correlation)


@dataclass(frozen=True)
class Pool:
    """Several zones seen as one: the best state among them."""

    step: Matrix  # (states, states): how the best state moves in one step
    rest: Matrix  # (states, states): the best of the others, given the best


def pool(model: Model, zones: int, seconds: float) -> Pool:
    """The best of so many zones in steady state, over one step.

    For independent zones P(best >= a, best' >= b) is the one-zone joint probability to the power of their number.
    """
    power = effective_zones(zones, model.zone_correlation)
    joint = model.stationary[:, None] * model.step(seconds)
    tails = np.cumsum(np.cumsum(joint[::-1, ::-1], axis=0), axis=1)[::-1, ::-1] ** power
    padded = np.pad(tails, ((0, 1), (0, 1)))
    cells = np.maximum(padded[:-1, :-1] - padded[1:, :-1] - padded[:-1, 1:] + padded[1:, 1:], 0)
    step = _rows(cells, model.step(seconds))
    # P(best = a, second >= b) for b > a: one zone in a, all others at b or worse; what is left over are ties at a.
    marginal = model.stationary
    tail = np.append(np.cumsum(marginal[::-1])[::-1], 0.0)
    best = tail[:-1] ** power - tail[1:] ** power
    second = np.zeros_like(step)
    for a in range(model.states):
        at_least = np.minimum(best[a], power * marginal[a] * tail ** max(0.0, power - 1))
        second[a, a + 1 :] = (at_least[:-1] - at_least[1:])[a + 1 :]
        second[a, a] = max(0.0, best[a] - at_least[a + 1])
    return Pool(step, _rows(second, np.eye(model.states)))


def _rows(cells: Matrix, otherwise: Matrix) -> Matrix:
    """Each row as a distribution; a row that cannot occur is taken from `otherwise`."""
    total = cells.sum(axis=1, keepdims=True)
    return np.where(total > 1e-15, cells / np.maximum(total, 1e-300), otherwise)
