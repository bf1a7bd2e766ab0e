"""Rows as tokens: what a row is, tables that hold millions of them, and the cut to one length.

A table keeps all tokens in one array and makes a row when it is asked for it: ten bytes of bookkeeping a row, not an
object each. `encoding.py` fills tables, `packing.py` puts several rows into one sequence.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

IGNORED = -100  # the label that torch's cross entropy leaves out

Item_co = TypeVar("Item_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Row:
    """`number`: its line in the file, from 1. `tokens` int32 (n,); `learnt` bool (n,): which of them are targets.

    A packed row holds several of the dataset's: `positions` int32 (n,) begin again at each, `others` are their numbers.
    """

    number: int
    tokens: NDArray[np.int32]
    learnt: NDArray[np.bool_]
    positions: NDArray[np.int32] | None = None
    others: tuple[int, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.number, *self.others)

    @property
    def targets(self) -> int:
        """Tokens that are predicted: the first has nothing before it."""
        return int(self.learnt[1:].sum())

    def labels(self) -> NDArray[np.int64]:
        """int64 (n,): the token where it is learnt, IGNORED elsewhere."""
        return np.where(self.learnt, self.tokens, IGNORED).astype(np.int64)


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Two answers to one prompt; what is learnt of each is the answer."""

    number: int
    chosen: Row
    rejected: Row


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A text and the number of its class."""

    number: int
    tokens: NDArray[np.int32]
    label: int


AnyRow = Row | PreferenceRow | LabelledRow


@dataclass(frozen=True, slots=True)
class Report:
    """What a dataset turned out to be, exactly, once it was tokenised and cut."""

    rows: int
    tokens: int  # after the cut
    targets: int  # tokens that are learnt; of a classification: rows
    longest: int  # tokens of the longest row before the cut
    truncated_rows: int
    rows_without_target: int  # left out: the cut took all that they teach
    duplicates: int  # rows whose tokens an earlier row has too
    sequences: int = 0  # that the training rows were packed into; 0: they were not

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class Rows(Sequence[Item_co], Generic[Item_co]):
    """Read by index alone: what needs more takes a `Selected`."""

    @abstractmethod
    def _at(self, index: int) -> Item_co: ...

    @overload
    def __getitem__(self, index: int) -> Item_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item_co]: ...
    def __getitem__(self, index: int | slice) -> Item_co | Sequence[Item_co]:
        if isinstance(index, slice):
            return Selected(self, range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._at(index % len(self))


class Selected(Rows[Item_co]):
    """Some rows of a table, in the order of `indices`."""

    def __init__(self, rows: Sequence[Item_co], indices: Sequence[int]) -> None:
        self._rows, self._indices = rows, indices

    def __len__(self) -> int:
        return len(self._indices)

    def _at(self, index: int) -> Item_co:
        return self._rows[self._indices[index]]


class RowTable(Rows[Row]):
    """Rows in two arrays, tokens and whether they are learnt, one after the other."""

    def __init__(self) -> None:
        self._tokens = array("i")
        self._learnt = bytearray()
        self._ends = array("q", [0])
        self._numbers = array("q")

    def append(self, number: int, tokens: Sequence[int] | NDArray[np.int32], learnt: NDArray[np.bool_]) -> None:
        self._tokens.frombytes(np.asarray(tokens, dtype=np.int32).tobytes())
        self._learnt += learnt.tobytes()
        self._ends.append(len(self._tokens))
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    def _at(self, index: int) -> Row:
        begin, end = self._ends[index], self._ends[index + 1]
        tokens = np.frombuffer(self._tokens, dtype=np.int32, count=end - begin, offset=4 * begin)
        learnt = np.frombuffer(self._learnt, dtype=np.bool_, count=end - begin, offset=begin)
        return Row(self._numbers[index], tokens, learnt)


class PreferenceTable(Rows[PreferenceRow]):
    def __init__(self) -> None:
        self.chosen, self.rejected = RowTable(), RowTable()

    def __len__(self) -> int:
        return len(self.chosen)

    def _at(self, index: int) -> PreferenceRow:
        chosen = self.chosen[index]
        return PreferenceRow(chosen.number, chosen, self.rejected[index])


class LabelledTable(Rows[LabelledRow]):
    def __init__(self) -> None:
        self._texts = RowTable()
        self._labels = array("i")

    def append(self, number: int, tokens: Sequence[int], label: int) -> None:
        self._texts.append(number, tokens, np.ones(len(tokens), dtype=np.bool_))
        self._labels.append(label)

    def __len__(self) -> int:
        return len(self._labels)

    def _at(self, index: int) -> LabelledRow:
        row = self._texts[index]
        return LabelledRow(row.number, row.tokens, self._labels[index])


class _Cut(Rows[AnyRow]):
    """The kept rows at one length."""

    def __init__(self, rows: Sequence[AnyRow], kept: Sequence[int], sequence_length: int) -> None:
        self._rows, self._kept, self._length = rows, kept, sequence_length

    def __len__(self) -> int:
        return len(self._kept)

    def _at(self, index: int) -> AnyRow:
        return _shortened(self._rows[self._kept[index]], self._length)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a dataset at one length, and what the cut cost."""

    rows: Sequence[AnyRow]
    report: Report


def longest(rows: Iterable[AnyRow]) -> int:
    """Tokens of the longest row; 0 for none."""
    return max((len(part.tokens) for row in rows for part in _parts(row)), default=0)


def cut(rows: Sequence[AnyRow], sequence_length: int) -> Prepared:
    """Keep the first `sequence_length` tokens of each row; count what that changed."""
    kept, seen = array("q"), np.zeros(len(rows), dtype=np.uint64)
    truncated = tokens = targets = 0
    for index, row in enumerate(rows):
        seen[index] = _fingerprint(row)
        shorter = _shortened(row, sequence_length)
        truncated += shorter is not row
        if _teaches(shorter):
            kept.append(index)
            tokens += sum(len(part.tokens) for part in _parts(shorter))
            targets += sum(part.targets if isinstance(part, Row) else 1 for part in _parts(shorter))
    report = Report(
        rows=len(rows),
        tokens=tokens,
        targets=targets,
        longest=longest(rows),
        truncated_rows=truncated,
        rows_without_target=len(rows) - len(kept),
        duplicates=len(rows) - len(np.unique(seen)),
    )
    return Prepared(_Cut(rows, kept, sequence_length), report)


def _fingerprint(row: AnyRow) -> int:
    """64 bits of its tokens: of ten million rows two differing ones are alike with a chance of 3 in a million."""
    hashed = hashlib.blake2b(digest_size=8)
    for part in _parts(row):
        hashed.update(len(part.tokens).to_bytes(8, "little"))
        hashed.update(part.tokens.tobytes())
    return int.from_bytes(hashed.digest(), "little")


def _parts(row: AnyRow) -> tuple[Row | LabelledRow, ...]:
    return (row.chosen, row.rejected) if isinstance(row, PreferenceRow) else (row,)


def _teaches(row: AnyRow) -> bool:
    return isinstance(row, LabelledRow) or all(part.targets for part in _parts(row) if isinstance(part, Row))


def _shortened(row: AnyRow, length: int) -> AnyRow:
    if all(len(part.tokens) <= length for part in _parts(row)):
        return row
    if isinstance(row, PreferenceRow):
        chosen, rejected = (Row(it.number, it.tokens[:length], it.learnt[:length]) for it in (row.chosen, row.rejected))
        return PreferenceRow(row.number, chosen, rejected)
    if isinstance(row, LabelledRow):
        return LabelledRow(row.number, row.tokens[:length], row.label)
    return Row(row.number, row.tokens[:length], row.learnt[:length])
