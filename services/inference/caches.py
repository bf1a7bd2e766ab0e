"""Keys and values of the sequences that one model steps: a shelf holds those of about the same length, as rows of one
tensor per layer, so that a step is one attention over each shelf and nothing is moved or padded anew between steps.

shelf of 4    a b c .      a row begins at column 0 and grows to the right; nobody attends to what lies behind its end;
              d e . .      a row that is full moves to the next shelf, which is twice as wide; a row that ends is
shelf of 8    f g h i j .  replaced by the last one. So at most half of what is attended to or kept is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

NARROWEST = 64  # columns


class Block:
    """`places` x `columns` of keys and values, layer by layer; a layer's tensors are made at its first use.

    Zeros, not whatever lies in memory: a masked column counts nothing times its value, and nothing times NaN is NaN.
    """

    def __init__(self, places: int, columns: int) -> None:
        self.places = places
        self.columns = columns
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def layer(self, index: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's tensors: places x heads x columns x size; heads and sizes are those of `keys` and `values`."""
        found = self.layers.get(index)
        if found is None:
            made = (part.new_zeros(self.places, part.shape[1], self.columns, part.shape[3]) for part in (keys, values))
            found = self.layers[index] = next(made), next(made)
        return found

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for layer in self.layers.values() for part in layer)

    def write(self, place: int, other: Block, other_place: int, length: int) -> None:
        """Copy the first columns of another block's row."""
        for index, parts in other.layers.items():
            for mine, theirs in zip(self.layer(index, *parts), parts, strict=True):
                mine[place, :, :length] = theirs[other_place, :, :length]

    def clear(self, place: int, length: int) -> None:
        """Numbers that are not finite must not wait for the next row: masked is not gone, see above."""
        for parts in self.layers.values():
            for part in parts:
                part[place, :, :length] = 0

    def grow(self, places: int) -> None:
        """Room for more rows."""
        self.places = places
        for index, parts in self.layers.items():
            grown = [part.new_zeros(places, *part.shape[1:]) for part in parts]
            for new, old in zip(grown, parts, strict=True):
                new[: old.shape[0]] = old
            self.layers[index] = grown[0], grown[1]


class Row:
    """Where a running sequence's keys and values are. `owner` is the caller's; `length`: filled columns."""

    def __init__(self, owner: Any, length: int) -> None:
        self.owner = owner
        self.length = length
        self.columns = 0
        self.place = 0


class Shelves:
    """All rows of one model."""

    def __init__(self) -> None:
        self._shelves: dict[int, tuple[Block, list[Row]]] = {}

    def __iter__(self) -> Iterator[tuple[Block, list[Row]]]:
        """The shelves with rows, each with its rows in the order of their places."""
        return iter([self._shelves[columns] for columns in sorted(self._shelves)])

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._shelves.values())

    @property
    def bytes(self) -> int:
        return sum(block.bytes for block, _ in self._shelves.values())

    def put(self, row: Row, block: Block, place: int = 0) -> None:
        """Take in a row that lies in another block, with room for its next token."""
        columns = NARROWEST
        while columns <= row.length:
            columns *= 2
        shelf, rows = self._shelves.setdefault(columns, (Block(1, columns), []))
        if len(rows) == shelf.places:
            shelf.grow(2 * shelf.places)
        row.columns, row.place = columns, len(rows)
        shelf.write(row.place, block, place, row.length)
        rows.append(row)

    def remove(self, row: Row) -> None:
        """Its place goes to the last row; a shelf goes with its last row."""
        block, rows = self._shelves[row.columns]
        last = rows.pop()
        if not rows:
            del self._shelves[row.columns]
            return
        if last is not row:
            block.clear(row.place, row.length)
            block.write(row.place, block, last.place, last.length)
            rows[row.place] = last
        block.clear(last.place, last.length)
        last.place = row.place

    def make_room(self) -> None:
        """Before a step: whoever fills its shelf moves to the next one."""
        full = [(block, row) for block, rows in self for row in rows if row.length >= row.columns]
        for block, row in full:
            moved = Row(row.owner, row.length)
            self.put(moved, block, row.place)
            self.remove(row)
            row.columns, row.place = moved.columns, moved.place
            self._shelves[row.columns][1][row.place] = row


def mask(lengths: Tensor, width: int, window: int | None) -> Tensor:
    """What a row's newest token attends to: rows x 1 x 1 x width, True where it does."""
    columns = torch.arange(width, device=lengths.device)
    ends = lengths.unsqueeze(1)
    seen = columns < ends
    if window is not None:
        seen &= columns >= ends - window
    return seen[:, None, None]
