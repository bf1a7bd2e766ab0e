"""Does what users send still look like what the model was trained on? A conformal test martingale on novelty.

Three steps, each of them old and simple:

1. Novelty. A text becomes a vector of hashed character n-grams; its novelty is one minus its mean cosine similarity
   to the nearest few of the reference's first part. Frequent words keep their weight: how somebody asks tells as much
   as what about.
2. Conformal p-value. The rank of a sample's novelty among those of the reference's second part and of all samples
   before it, ties broken by a given die. While samples and reference are exchangeable, p-values are independent and
   uniform, whatever the texts are: nothing is assumed about them.
3. Betting. Gamblers bet against uniformity by the power functions e p^(e-1): one gambler for each e and each possible
   beginning of the drift, sample k having the share 1 / (k (k + 1)) of the starting capital, the rest waiting as
   cash. Their joint capital M is a martingale that starts at 1, so by Ville's inequality P(M ever reaches 1/alpha) is
   at most alpha: the test may be looked at after every sample, and a false alarm stays as rare as asked for.

Sources: V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2nd ed., 2022, part III;
V. Vovk et al., "Retrain or not retrain: conformal test martingales for change-point detection", COPA 2021. The mixture
over beginnings is the usual one of sequential change detection (Shiryaev-Roberts, with a prior that sums to one).
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TEST = "conformal-martingale"
SIGNAL = "input-vocabulary"
DIMENSIONS = 4096
NEIGHBOURS = 5
MAX_CHARACTERS = 2_000
# The first part must hold neighbours, the second must leave room for small p-values.
MIN_REFERENCE_TEXTS = 24
# Exponents e of the gamblers: a small one wins quickly against strong drift, a large one against weak.
EXPONENTS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
# Ranks need all earlier scores, so a test ends after so many samples; the next starts afresh, with its own alpha.
MAX_SAMPLES = 2_000

_MASKED = re.compile(r"\S+@\S+|\[[a-z_ -]+\]|<[a-z_ -]+>|\d+")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def features(text: str) -> dict[int, float]:
    """Hashed character 3- to 5-grams of a text's words: {dimension: 1 + ln(count)}.

    Numbers, addresses and the masks that redaction leaves are taken out first: they differ between a dataset and a
    request for reasons that are not drift.
    """
    words = _WORD.findall(_MASKED.sub(" ", text[:MAX_CHARACTERS].lower()))
    counts: Counter[int] = Counter()
    for word in words:
        padded = f" {word} "
        for size in (3, 4, 5):
            counts.update(_hash(padded[start : start + size]) for start in range(len(padded) - size + 1))
    return {dimension: 1 + math.log(count) for dimension, count in counts.items()}


def _hash(token: str) -> int:
    return zlib.crc32(token.encode()) % DIMENSIONS  # the same in every process, unlike hash()


def tie_break(inference_id: str) -> float:
    """A die in [0, 1) that falls the same way for the same sample, so that a decision can be replayed."""
    return int.from_bytes(hashlib.sha256(inference_id.encode()).digest()[:6], "big") / 2**48


class Reference:
    """What texts looked like in training. `fit` one, ask for `novelty`; immutable."""

    def __init__(self, neighbours: NDArray[np.float32], calibration: Floats) -> None:
        self._neighbours = neighbours  # (texts, DIMENSIONS), unit rows
        self.calibration = calibration  # novelties of the texts that are no neighbours

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Reference:
        """The reference of at least MIN_REFERENCE_TEXTS texts (ValueError of fewer), in an order that means nothing."""
        if len(texts) < MIN_REFERENCE_TEXTS:
            raise ValueError(f"{len(texts)} reference texts; at least {MIN_REFERENCE_TEXTS} are needed")
        half = len(texts) // 2
        neighbours = np.stack([_unit(text) for text in texts[:half]])
        return cls(neighbours, np.array([_novelty(text, neighbours) for text in texts[half:]]))

    @property
    def size(self) -> int:
        return len(self._neighbours) + len(self.calibration)

    def novelty(self, text: str) -> float:
        """0: like a few texts of the reference; 1: nothing in common with any. A text without words is 1."""
        return _novelty(text, self._neighbours)


def _novelty(text: str, neighbours: NDArray[np.float32]) -> float:
    similarities = neighbours @ _unit(text)
    return 1.0 - float(np.mean(np.partition(similarities, -NEIGHBOURS)[-NEIGHBOURS:]))


def _unit(text: str) -> NDArray[np.float32]:
    vector = np.zeros(DIMENSIONS, np.float32)
    if counts := features(text):
        vector[list(counts)] = list(counts.values())
        vector /= np.linalg.norm(vector)
    return vector


@dataclass(frozen=True, slots=True)
class Martingale:
    """The gamblers' state after some samples. `scores` are the novelties of those samples, in order."""

    scores: tuple[float, ...] = ()
    stakes: tuple[float, ...] = (0.0,) * len(EXPONENTS)  # capital that is being bet, by exponent

    @property
    def capital(self) -> float:
        """M: 1 at the start; large where samples are newer than chance allows."""
        cash = 1 / (self.samples + 1)
        return cash + sum(self.stakes) / len(EXPONENTS)

    @property
    def samples(self) -> int:
        return len(self.scores)

    def observe(self, score: float, p: float) -> Martingale:
        """The state after one more sample with this novelty and conformal p-value."""
        sample = self.samples + 1
        newly_bet = 1 / (sample * (sample + 1))
        stakes = (np.array(self.stakes) + newly_bet) * EXPONENTS * p ** (EXPONENTS - 1)
        return Martingale((*self.scores, score), tuple(float(stake) for stake in stakes))


def p_value(score: float, calibration: Floats, earlier: Sequence[float], die: float) -> float:
    """The smoothed conformal p-value of a score: the share of scores that are as novel, in (0, 1]."""
    others = np.concatenate([calibration, np.asarray(earlier, dtype=float)])
    newer = int(np.count_nonzero(others > score))
    ties = int(np.count_nonzero(others == score)) + 1
    return (newer + (1.0 - die) * ties) / (len(others) + 1)
