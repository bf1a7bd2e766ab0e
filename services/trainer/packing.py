"""Several rows in one sequence, so that no step computes padding.

Best fit, longest rows first (Johnson 1974: at most 11/9 of the fewest sequences). A packed row says by its positions
where a row begins; transformers keeps what begins anew from seeing what came before (`masking_utils`, where there is
no mask), and `finetune.require_parts_apart` looks whether the model at hand does.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from services.trainer.datasets import Row, Rows


class Packed(Rows[Row]):
    """Sequences of at most `sequence_length` tokens, each of whole rows; the same rows give the same sequences."""

    def __init__(self, rows: Sequence[Row], sequence_length: int) -> None:
        self._rows = rows
        self._groups = fit([len(row.tokens) for row in rows], sequence_length)

    def __len__(self) -> int:
        return len(self._groups)

    def _at(self, index: int) -> Row:
        rows = [self._rows[each] for each in self._groups[index]]
        learnt = [row.learnt.copy() for row in rows]
        for each in learnt:
            each[0] = False  # what stands before it belongs to another row
        return Row(
            number=rows[0].number,
            tokens=np.concatenate([row.tokens for row in rows]),
            learnt=np.concatenate(learnt),
            positions=np.concatenate([np.arange(len(row.tokens), dtype=np.int32) for row in rows]),
            others=tuple(row.number for row in rows[1:]),
        )


def fit(lengths: Sequence[int], capacity: int) -> list[array[int]]:
    """Indices of `lengths` in groups whose sums are at most `capacity`; none may be longer than that."""
    groups: list[array[int]] = []
    with_room: dict[int, list[int]] = {}  # room left -> groups that have exactly so much
    rooms = 0  # bit r: some group has r left; finding the least that suffices is one shift
    for index in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        length = lengths[index]
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            group = with_room[room].pop()
            if not with_room[room]:
                rooms ^= 1 << room
        else:
            room, group = capacity, len(groups)
            groups.append(array("q"))
        groups[group].append(index)
        left = room - length
        if left:
            with_room.setdefault(left, []).append(group)
            rooms |= 1 << left
    return groups
