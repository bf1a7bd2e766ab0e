"""What a dataset is, before anything is spent on it: counted row by row, in some twelve bytes a row. Pure."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_LABELS = 1_000
# The usual rule of thumb for English; the plan says how long it takes, the trainer counts exactly.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Counted:
    """One row. `learnt`: characters that the model learns to say. `content`: what makes it a duplicate of another."""

    characters: int
    learnt: int
    content: Any
    label: str | int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A dataset whose every row is well formed."""

    format: str
    rows: int
    bytes: int
    sha256: str
    estimated_tokens: int
    report: dict[str, Any] = field(default_factory=dict)


class Report:
    def __init__(self) -> None:
        self.rows = 0
        self._lengths = array("I")
        self._seen = array("Q")
        self._learnt = 0
        self._classes: Counter[str | int] = Counter()

    def add(self, row: Counted) -> None:
        """Raises ValueError for a label that does not fit those before it."""
        self.rows += 1
        self._lengths.append(row.characters)
        self._learnt += row.learnt
        content = json.dumps(row.content, sort_keys=True).encode()
        self._seen.append(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little"))
        if row.label is None:
            return
        if self._classes and type(next(iter(self._classes))) is not type(row.label):
            raise ValueError("texts and numbers are mixed: write all labels in one way")
        self._classes[row.label] += 1
        if len(self._classes) > MAX_LABELS:
            raise ValueError(f"more than {MAX_LABELS} classes: is this column a label?")

    @property
    def labels(self) -> list[str]:
        """Of a classification, in order: numbers by size, names by letters."""
        return [str(label) for label in sorted(self._classes)]

    def summary(self, format_name: str, size_bytes: int, sha256: str) -> Summary:
        """What was counted. Call it once, at the end: the arrays are put in order where they are, without a copy."""
        lengths = np.frombuffer(self._lengths, dtype=np.uint32)
        contents = np.frombuffer(self._seen, dtype=np.uint64)
        contents.sort()
        characters = int(lengths.sum(dtype=np.int64))
        told: dict[str, Any] = {
            "characters": characters,
            "characters_per_row": {
                "min": int(lengths.min()),
                "median": float(np.median(lengths, overwrite_input=True)),
                "p95": float(np.percentile(lengths, 95, overwrite_input=True)),
                "max": int(lengths.max()),
            },
            # By 64 bits of a hash: of ten million rows two differing ones are alike with a chance of 3 in a million.
            "duplicates": int(np.count_nonzero(contents[1:] == contents[:-1])),
        }
        if self._classes:
            told["labels"] = self.labels
            told["rows_per_class"] = {str(label): count for label, count in self._classes.items()}
        else:
            told["share_learnt"] = round(self._learnt / characters, 4)
        tokens = max(1, characters // CHARACTERS_PER_TOKEN)
        return Summary(format_name, self.rows, size_bytes, sha256, tokens, told)
