"""Priors from records: the hidden chain of `availability` by expectation maximisation (Baum-Welch).

Ticks that a record does not have (its gap is a multiple of the base step) are unobserved, so records of different gaps
are fitted together. Many sequences are one array: a step of the recursion is one matrix product for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.scheduler.availability import Matrix, Model, Vector, ordered, stationary
from services.scheduler.lab.traces import Trace, groups

BASE_SECONDS = 200.0
# Mean stays from which the search starts, in hours: minutes to days, as the runs of the published records are.
SHORTEST_STAY_HOURS, LONGEST_STAY_HOURS = 0.2, 40.0
PSEUDO_TRANSITIONS = 1e-3
ENOUGH = 0.02  # gain of log-likelihood in one turn below which the search ends
RESTARTS = 3
CHI_SQUARE_23_AT_99 = 41.638

Observations: TypeAlias = NDArray[np.int8]  # (sequences, steps): 1 up, 0 down, -1 not seen


@dataclass(frozen=True)
class Fit:
    """What was learnt, and how well it tells the records (natural log)."""

    model: Model
    log_likelihood: float
    observations: int
    turns: int


def observations(traces: Sequence[Trace], base_seconds: float = BASE_SECONDS) -> Observations:
    """Records side by side on one grid of steps; what a record does not say is -1."""
    rows = []
    for trace in traces:
        every = max(1, round(trace.gap_seconds / base_seconds))
        thinned = trace.available[:: max(1, round(base_seconds / trace.gap_seconds))]
        row = np.full(len(thinned) * every, -1, np.int8)
        row[::every] = thinned
        rows.append(row)
    longest = max(len(row) for row in rows)
    return np.stack([np.pad(row, (0, longest - len(row)), constant_values=-1) for row in rows])


def fit(
    traces: Sequence[Trace],
    *,
    ups: int = 4,
    downs: int = 4,
    turns: int = 150,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Fit:
    """The best of a few searches from different beginnings."""
    seen = observations(traces)
    best: tuple[float, Matrix, int] | None = None
    for beginning in range(RESTARTS):
        step = _beginning(ups, downs, np.random.default_rng(seed + beginning))
        told, turn = -np.inf, 0
        while turn < turns:
            turn += 1
            counts, now = _expected_transitions(seen, step, ups)
            step = (counts + PSEUDO_TRANSITIONS) / (counts + PSEUDO_TRANSITIONS).sum(axis=1, keepdims=True)
            if now - told < ENOUGH:
                break
            told = now
        progress(f"search {beginning + 1} of {RESTARTS}: log-likelihood {told:.1f} after {turn} turns")
        if best is None or told > best[0]:
            best = (told, step, turn)
    assert best is not None
    generator = ordered(_generator(best[1], BASE_SECONDS), ups)
    model = Model(generator, ups, zone_correlation(traces))
    return Fit(model, best[0], int((seen >= 0).sum()), best[2])


def log_likelihood(model: Model, traces: Sequence[Trace]) -> float:
    """How well a model tells records that it may not have seen (natural log)."""
    return _expected_transitions(observations(traces), model.step(BASE_SECONDS), model.ups, model.stationary)[1]


def zone_correlation(traces: Sequence[Trace]) -> float:
    """Mean correlation of availability over all pairs of zones recorded together; 0 where there are none."""
    found = []
    for together in groups(traces):
        length = min(len(trace) for trace in together)
        for one, other in combinations(together, 2):
            a, b = one.available[:length], other.available[:length]
            if a.any() and not a.all() and b.any() and not b.all():
                found.append(float(np.corrcoef(a, b)[0, 1]))
    return float(np.clip(np.mean(found), 0, 1)) if found else 0.0


def hazard_by_hour(traces: Sequence[Trace], begin_at_hour: int) -> tuple[float, ...]:
    """Losses of capacity per hour, by hour of the day, over the mean of all hours; empty where chance explains them.

    `begin_at_hour`: the UTC hour at which the records begin, which they do not say themselves. Chance: the chi-square
    statistic of 24 counts is not beyond its 99th percentile for 23 degrees of freedom, once divided by how much more
    the counts of single hours vary than Poisson counts would (losses come in bursts).
    """
    losses, hours = np.zeros(24), np.zeros(24)
    single: list[float] = []
    for trace in traces:
        hour = begin_at_hour + (np.arange(len(trace) - 1) * trace.gap_seconds / 3600).astype(int)
        up = trace.available[:-1]
        lost = up & ~trace.available[1:]
        np.add.at(hours, hour[up] % 24, trace.gap_seconds / 3600)
        np.add.at(losses, hour[lost] % 24, 1)
        single += np.bincount(hour[lost], minlength=hour[-1] + 1)[np.unique(hour[up])].tolist() if up.any() else []
    bursts = max(1.0, float(np.var(single) / np.mean(single))) if single and np.mean(single) > 0 else 1.0
    expected = hours * losses.sum() / max(hours.sum(), 1e-9)
    if expected.min() < 5:  # too few for the statistic
        return ()
    if ((losses - expected) ** 2 / expected).sum() / bursts <= CHI_SQUARE_23_AT_99:
        return ()
    prior = losses.mean()  # shrunk towards 1: few losses say little
    return tuple(float(factor) for factor in (losses + prior) / (expected + prior))


def _beginning(ups: int, downs: int, rng: np.random.Generator) -> Matrix:
    """Stays from minutes to days; most moves go to the other side."""
    hours = np.concatenate(
        [
            np.geomspace(SHORTEST_STAY_HOURS, LONGEST_STAY_HOURS, count) if count > 1 else np.ones(1)
            for count in (ups, downs)
        ]
    )
    side = np.arange(ups + downs) < ups
    leave = 1 - np.exp(-BASE_SECONDS / 3600 / hours)
    weight = np.where(side[:, None] != side[None, :], 1.0, 0.15) * (0.5 + rng.random((ups + downs, ups + downs)))
    np.fill_diagonal(weight, 0)
    step: Matrix = weight / weight.sum(axis=1, keepdims=True) * leave[:, None]
    np.fill_diagonal(step, 1 - leave)
    return step


def _expected_transitions(
    seen: Observations, step: Matrix, ups: int, first: Vector | None = None
) -> tuple[Matrix, float]:
    """One turn's expectation: expected number of moves between states, and the log-likelihood."""
    sequences, steps = seen.shape
    states = len(step)
    if first is None:
        first = stationary(step - np.eye(states))
    fits = np.ones((3, states))  # by observation: down, up, not seen (index -1)
    fits[0, :ups] = 0
    fits[1, ups:] = 0
    forward = np.empty((steps, sequences, states))
    scale = np.empty((steps, sequences))
    belief = np.broadcast_to(first, (sequences, states))
    for at in range(steps):
        belief = (belief if at == 0 else belief @ step) * fits[seen[:, at]]
        scale[at] = belief.sum(axis=1)
        belief = belief / scale[at][:, None]
        forward[at] = belief
    counts = np.zeros((states, states))
    backward = np.ones((sequences, states))
    for at in range(steps - 2, -1, -1):
        weighted = fits[seen[:, at + 1]] * backward / scale[at + 1][:, None]
        counts += forward[at].T @ weighted
        backward = weighted @ step.T
    return counts * step, float(np.log(scale).sum())


def _generator(step: Matrix, seconds: float) -> Matrix:
    """Rates per second whose exponential over the step is nearest: its logarithm, with negative rates cut off."""
    values, vectors = np.linalg.eig(step)
    logarithm = vectors @ np.diag(np.log(values.astype(complex))) @ np.linalg.inv(vectors)
    rates = np.maximum(np.real(logarithm) / seconds, 0)
    np.fill_diagonal(rates, 0)
    np.fill_diagonal(rates, -rates.sum(axis=1))
    return np.asarray(rates)
