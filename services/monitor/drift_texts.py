"""What texts are like: their words, how new they are against others, which topic they are of, which words are new.

Novelty. A text becomes a vector of hashed character n-grams; its novelty is one minus its mean cosine similarity to the
nearest few texts of a reference's first half. It is asked twice: with all n-grams weighing alike, since how somebody
asks tells as much as what about (style: trivia against chatter), and with rare ones weighing more, as search engines
weigh them (subject: two manuals of one publisher). Neither sees what the other does: `benchmarks/monitor/drift.py` has
both.

Topics. The same first half falls into a few clusters (spherical k-means, I. S. Dhillon, D. S. Modha, 2001); a text is
of the nearest one. Novelty cannot see that everybody now asks about one known topic; the topics' shares can.

All of it is learnt from a reference's first half only, and the second half is what samples are ranked among: else the
reference's own texts would look less new than others like them, and ranks would mean nothing.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sskai.redaction import MAX_CHARACTERS

Floats = NDArray[np.float32]

DIMENSIONS = 4096
NEIGHBOURS = 5
# The first half must hold neighbours, the second must leave room for small p-values.
MIN_REFERENCE_TEXTS = 24
MAX_TOPICS = 6
TEXTS_PER_TOPIC = 8  # fewer make no topic
KMEANS_ROUNDS = 12
TOLD_WORDS = 8

_MASKED = re.compile(r"\S+@\S+|\[[a-z_ -]+\]|<[a-z_ -]+>|\d+")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def words(text: str) -> list[str]:
    """The words of a text's first MAX_CHARACTERS, in lower case.

    Numbers, addresses and the masks that redaction leaves are taken out first: they differ between a dataset and a
    request for reasons that are not drift.
    """
    return _WORD.findall(_MASKED.sub(" ", text[:MAX_CHARACTERS].lower()))


@lru_cache(20_000)  # most words come again
def _grams(word: str) -> NDArray[np.int64]:
    """The dimensions of a word's character 3- to 5-grams, its ends included."""
    padded = f" {word} "
    grams = (padded[start : start + size] for size in (3, 4, 5) for start in range(len(padded) - size + 1))
    # The same in every process, unlike hash().
    return np.array([zlib.crc32(gram.encode()) % DIMENSIONS for gram in grams], np.int64)


@dataclass(frozen=True, slots=True)
class Vector:
    """A vector of length 1 without its zeros; of a text without words, nothing."""

    dimensions: NDArray[np.int64]
    values: Floats

    @property
    def empty(self) -> bool:
        return not len(self.dimensions)

    def dense(self) -> Floats:
        found = np.zeros(DIMENSIONS, np.float32)
        found[self.dimensions] = self.values
        return found


def vector(text: str) -> Vector:
    """Hashed character n-grams of a text's words, each weighing 1 + ln(count)."""
    grams = [_grams(word) for word in words(text)]
    if not grams:
        return Vector(np.zeros(0, np.int64), np.zeros(0, np.float32))
    dimensions, counts = np.unique(np.concatenate(grams), return_counts=True)
    values = 1 + np.log(counts.astype(np.float32))
    return Vector(dimensions, values / np.linalg.norm(values))


def script(text: str) -> str:
    """The script of most of a text's letters, as Unicode names it ("LATIN", "CYRILLIC", "CJK"); "" without letters."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else ""
    letters = Counter(unicodedata.name(sign, "").partition(" ")[0] for sign in text[:MAX_CHARACTERS] if sign.isalpha())
    return max(letters, key=lambda name: (letters[name], name)) if letters else ""


@dataclass(frozen=True, slots=True)
class Texts:
    """A fitted reference. `fit` one; immutable."""

    # Features are rows: of a text's few hundred, only those are read.
    neighbours: Floats  # (DIMENSIONS, texts), columns of length 1
    rarity: Floats  # (DIMENSIONS,): inverse document frequencies
    weighed_lengths: Floats  # (texts,): of the neighbours weighed by rarity
    topics: Floats  # (DIMENSIONS, topics), columns of length 1
    topic_words: tuple[str, ...]  # what each is about
    document_counts: Counter[str]  # in how many texts each word stands
    word_counts: tuple[int, ...]  # of each text
    script: str  # of most of them
    # Of the texts of the second half, which nothing of the above but words was learnt from:
    novelties: tuple[float, ...] = ()
    content_novelties: tuple[float, ...] = ()
    topic_counts: tuple[int, ...] = ()
    foreign: tuple[bool, ...] = ()  # of another script than most of the first half

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Texts:
        """The reference of at least MIN_REFERENCE_TEXTS texts (ValueError of fewer), in an order that means nothing.

        Texts without words are left out: they are like nothing, and a stream of its own counts them.
        """
        texts = [text for text in texts if words(text)]
        if len(texts) < MIN_REFERENCE_TEXTS:
            raise ValueError(f"{len(texts)} reference texts; at least {MIN_REFERENCE_TEXTS} are needed")
        half = len(texts) // 2
        rows = np.stack([vector(text).dense() for text in texts[:half]])
        rarity = np.log((1 + half) / (1 + np.count_nonzero(rows, axis=0))).astype(np.float32)
        weighed = rows * rarity
        lengths = np.maximum(np.linalg.norm(weighed, axis=1), 1e-9).astype(np.float32)
        topics, nearest = _cluster(weighed / lengths[:, None])
        scripts = Counter(found for text in texts[:half] if (found := script(text)))
        learnt = cls(
            neighbours=np.ascontiguousarray(rows.T),
            rarity=rarity,
            weighed_lengths=lengths,
            topics=np.ascontiguousarray(topics.T),
            topic_words=tuple(
                _about(texts[:half], [place == topic for place in nearest]) for topic in range(len(topics))
            ),
            document_counts=_document_counts(texts),
            word_counts=tuple(len(words(text)) for text in texts),
            script=scripts.most_common(1)[0][0] if scripts else "",
        )
        others = [vector(text) for text in texts[half:]]
        counts = Counter(map(learnt.topic, others))
        return replace(
            learnt,
            novelties=tuple(map(learnt.novelty, others)),
            content_novelties=tuple(map(learnt.content_novelty, others)),
            topic_counts=tuple(counts[topic] for topic in range(len(topics))),
            foreign=tuple(map(learnt.is_foreign, texts[half:])),
        )

    @property
    def size(self) -> int:
        return len(self.word_counts)

    def is_foreign(self, text: str) -> bool:
        """Whether most of its letters are of another script; a text without letters is of none."""
        return script(text) not in ("", self.script)

    def novelty(self, of: Vector) -> float:
        """0: like a few texts of the reference; 1: nothing in common with any. A text without words is 1."""
        return _novelty(of.values @ self.neighbours[of.dimensions])

    def content_novelty(self, of: Vector) -> float:
        """The same with rare features weighing more."""
        rarity = self.rarity[of.dimensions]
        weighed = of.values * rarity
        length = max(float(np.linalg.norm(weighed)), 1e-9)
        # The neighbours are kept once, as they are: weighed, too, they would be as many megabytes again.
        return _novelty((weighed * rarity) @ self.neighbours[of.dimensions] / (self.weighed_lengths * length))

    def topic(self, of: Vector) -> int:
        """The number of the nearest topic."""
        return int(np.argmax((of.values * self.rarity[of.dimensions]) @ self.topics[of.dimensions]))

    def new_words(self, recent: Sequence[str]) -> list[NewWord]:
        """Words that stand in more of the recent texts than in the reference's, most telling first."""
        if not recent:
            return []
        found = [
            NewWord(word, count / len(recent), self.document_counts[word] / self.size)
            for word, count in _document_counts(recent).items()
            if count >= 2 and len(word) > 2
        ]
        risen = [word for word in found if word.share > 2 * word.share_before]
        return sorted(risen, key=lambda word: (word.share_before - word.share, word.word))[:TOLD_WORDS]


@dataclass(frozen=True, slots=True)
class NewWord:
    """In which share of the texts a word stands, and stood."""

    word: str
    share: float
    share_before: float

    def __str__(self) -> str:
        return f"{self.word} ({self.share:.0%}, was {self.share_before:.0%})"


def _novelty(similarities: Floats) -> float:
    return 1.0 - float(np.mean(np.partition(similarities, -NEIGHBOURS)[-NEIGHBOURS:]))


def _document_counts(texts: Sequence[str]) -> Counter[str]:
    return Counter(word for text in texts for word in set(words(text)))


def _about(texts: Sequence[str], chosen: Sequence[bool]) -> str:
    """The three words that tell these texts best from the others."""
    inside = _document_counts([text for text, is_in in zip(texts, chosen, strict=True) if is_in])
    everywhere = _document_counts(texts)
    weighed = {
        word: count * math.log((1 + len(texts)) / everywhere[word]) for word, count in inside.items() if len(word) > 2
    }
    return ", ".join(sorted(weighed, key=lambda word: (-weighed[word], word))[:3])


def _rows_of_length_one(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Floats = rows / np.maximum(lengths, 1e-9)
    return found


def _cluster(rows: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Centres as unit rows, and the nearest of each row. The first centres are rows far from each other, so that the
    same rows give the same clusters."""
    wanted = max(1, min(MAX_TOPICS, len(rows) // TEXTS_PER_TOPIC))
    chosen = [int(np.argmax(rows @ rows.mean(axis=0)))]
    while len(chosen) < wanted:
        chosen.append(int(np.argmin((rows @ rows[chosen].T).max(axis=1))))
    centres = rows[chosen]
    nearest = np.argmax(rows @ centres.T, axis=1)
    for _ in range(KMEANS_ROUNDS):
        sums = np.stack([rows[nearest == topic].sum(axis=0) for topic in range(wanted)])
        # A centre that nobody is nearest to stays where it is.
        empty = np.linalg.norm(sums, axis=1, keepdims=True) == 0
        centres = np.where(empty, centres, _rows_of_length_one(sums)).astype(np.float32)
        nearest = np.argmax(rows @ centres.T, axis=1)
    return centres, nearest
