"""Has a stream of numbers changed? A conformal test martingale, which may be looked at after every sample.

1. Scale. A value becomes a bin of a scale that is fixed beforehand. A test thus remembers how many values fell into
   which bin, not the values: it stays a few kilobytes however long it runs.
2. Conformal p-value. The rank of a sample among the reference's values and those of all samples before it, ties broken
   by a given die. While samples and reference are exchangeable, p-values are independent and uniform, whatever the
   values' distribution is: nothing is assumed about it, and a flag (0 or 1) is as good a value as a length.
3. Betting. Gamblers bet against uniformity by the power functions e p^(e-1) of p (values grow) or of 1 - p (values
   shrink): one gambler for each e, side and possible beginning of the drift, sample k having the share 1 / (k (k + 1))
   of the starting capital, the rest waiting as cash. Their joint capital M is a martingale that starts at 1, so by
   Ville's inequality P(M ever reaches 1/alpha) is at most alpha, over the whole life of the test.

Sources: V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2nd ed., 2022, part III;
V. Vovk et al., "Retrain or not retrain: conformal test martingales for change-point detection", COPA 2021. The mixture
over beginnings is the usual one of sequential change detection (Shiryaev-Roberts, with a prior that sums to one).
When a drift began is estimated as CUSUM does it (E. S. Page, 1954): where the luckiest gambler's present run began.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

TEST = "conformal-martingale"
# Exponents e of the gamblers: a small one wins quickly against strong drift, a large one against weak.
EXPONENTS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
# After an alarm the test begins anew. While the drift lasts it would alarm again and again, so each alarm doubles the
# samples that the next one needs, up to this many times, until the test was quiet for so long.
MAX_DOUBLINGS = 6
QUIET_SAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How values become bins: `step` apart, from 0 to `bins` - 1; larger ones fall into the last."""

    step: float
    bins: int
    logarithmic: bool = False

    def bin(self, value: float) -> int:
        """The bin of a value; negative values are in the first."""
        if not math.isfinite(value):
            return self.bins - 1
        shown = math.log2(1 + max(value, 0.0)) if self.logarithmic else value
        # Bounded before it is whole: a quotient beyond all floats is no integer.
        return int(min(max(shown / self.step, 0.0), self.bins - 1))


FLAG = Scale(1.0, 2)
SHARE = Scale(1 / 256, 257)  # of [0, 1]
COUNT = Scale(1 / 20, 400, logarithmic=True)  # 3.5 % apart, up to a million
NATS = Scale(0.02, 600)  # up to 12 per token: the logarithm of any vocabulary


class Sides(Enum):
    """Which way a value may go for it to be drift."""

    UP = "up"
    BOTH = "both"


def tie_break(name: str) -> float:
    """A die in [0, 1) that falls the same way for the same name, so that a decision can be replayed."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def p_value(place: int, pool: Counts, die: float) -> float:
    """The smoothed conformal p-value of a value in bin `place`: the share of all values as large, in (0, 1]."""
    larger = int(pool[place + 1 :].sum())
    ties = int(pool[place]) + 1
    return (larger + (1.0 - die) * ties) / (int(pool.sum()) + 1)


# Rows of `Test.beginnings`, which says where each gambler's present run of luck began and what was seen since.
LUCK = 0  # natural logarithm of what the gambler made of 1 since then
SAMPLE = 1
AT_SECONDS = 2  # Unix time of that sample
TOTAL = 3  # of the values since


def beginnings_after(beginnings: Floats, bets: Floats, value: float, sample: int, at_seconds: float) -> Floats:
    """The beginnings (4, gamblers) after one more sample: who had no luck left begins with it."""
    anew = np.array([[0.0], [sample], [at_seconds], [0.0]])
    after = np.where(beginnings[LUCK] <= 0, anew, beginnings)
    after[LUCK] += np.log(bets)
    after[TOTAL] += value
    return after


@dataclass(frozen=True, slots=True)
class Test:
    """One stream against one reference: the gamblers' state after some samples. `start` one from a reference."""

    __test__ = False  # pytest: this is no test case

    scale: Scale
    sides: Sides
    reference: Counts  # values by bin
    reference_mean: float
    pool: Counts  # the reference's and the samples'
    samples: int
    stakes: Floats  # capital that is being bet, by gambler
    beginnings: Floats  # (4, gamblers)
    alarms: int = 0  # lately, without a long quiet in between

    @classmethod
    def start(cls, scale: Scale, sides: Sides, values: Sequence[float]) -> Test:
        """A test against these reference values, in an order that means nothing."""
        counts = np.bincount([scale.bin(value) for value in values], minlength=scale.bins)
        mean = float(np.mean(values)) if len(values) else 0.0
        return _fresh(scale, sides, counts.astype(np.int64), mean)

    @property
    def capital(self) -> float:
        """M: 1 at the start; large where samples are further out than chance allows."""
        return 1 / (self.samples + 1) + float(self.stakes.mean())

    @property
    def reference_size(self) -> int:
        return int(self.reference.sum())

    @property
    def _luckiest(self) -> int:
        return int(np.argmax(self.beginnings[LUCK]))

    @property
    def began_at_seconds(self) -> float:
        """Unix time of the sample at which the drift began, by the gambler whose run of luck won most."""
        return float(self.beginnings[AT_SECONDS, self._luckiest])

    @property
    def recent_samples(self) -> int:
        """Samples since the drift began."""
        return self.samples - int(self.beginnings[SAMPLE, self._luckiest]) + 1 if self.samples else 0

    @property
    def recent_mean(self) -> float:
        """Of the values since the drift began."""
        return float(self.beginnings[TOTAL, self._luckiest]) / self.recent_samples if self.samples else 0.0

    def p(self, value: float, die: float) -> float:
        """The p-value that a sample with this value has now."""
        return p_value(self.scale.bin(value), self.pool, die)

    def observe(self, value: float, die: float, at_seconds: float = 0.0) -> Test:
        """The state after one more sample."""
        place = self.scale.bin(value)
        bets = bets_at(p_value(place, self.pool, die), self.sides)
        sample = self.samples + 1
        newly_bet = 1 / (sample * (sample + 1))
        pool = self.pool.copy()
        pool[place] += 1
        return replace(
            self,
            pool=pool,
            samples=sample,
            stakes=(self.stakes + newly_bet) * bets,
            beginnings=beginnings_after(self.beginnings, bets, value, sample, at_seconds),
            alarms=0 if sample >= QUIET_SAMPLES else self.alarms,
        )

    def alarming(self, threshold: float, min_samples: int) -> bool:
        """Whether it is time to say that the stream has drifted."""
        needed = min_samples * 2 ** min(self.alarms, MAX_DOUBLINGS)
        return self.samples >= needed and self.capital >= threshold

    def anew(self) -> Test:
        """The next test after an alarm: the same reference, and nothing seen."""
        fresh = _fresh(self.scale, self.sides, self.reference, self.reference_mean)
        return replace(fresh, alarms=self.alarms + 1)


def _fresh(scale: Scale, sides: Sides, reference: Counts, mean: float) -> Test:
    gamblers = len(EXPONENTS) * (2 if sides is Sides.BOTH else 1)
    return Test(
        scale=scale,
        sides=sides,
        reference=reference,
        reference_mean=mean,
        pool=reference,
        samples=0,
        stakes=np.zeros(gamblers),
        beginnings=np.zeros((4, gamblers)),
    )


def bets_at(p: float, sides: Sides) -> Floats:
    """What each gambler makes of 1 at this p-value. Their mean over uniform p is 1 each."""
    up: Floats = EXPONENTS * p ** (EXPONENTS - 1)
    if sides is Sides.UP:
        return up
    # p is above 0, and 1 - p must be, too: p = 1 has probability 0, but 64 bits can hold it.
    return np.concatenate([up, EXPONENTS * max(1 - p, 1e-12) ** (EXPONENTS - 1)])
