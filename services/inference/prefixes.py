"""What was read of recent prompts: one that begins like them goes on from there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.inference.caches import Block

# Fewer tokens are read as quickly as they are found and copied.
LEAST_SHARED = 16
MOST_ENTRIES = 128  # each lookup compares with all of one adapter

Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Entry:
    adapter: int
    tokens: Tokens
    block: Block


class PrefixCache:
    """Keys and values of whole prompts, the least recently used forgotten first. A prompt belongs to its adapter, which
    is named by a number that is never used again; 0: none. `most_bytes` 0: nothing is kept."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._next = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, adapter: int, tokens: Sequence[int]) -> tuple[Block, int] | None:
        """A block that begins as these tokens do, and how many of them it has. Never all: the last one must be read,
        or there would be nothing to draw from."""
        asked = np.asarray(tokens[:-1])
        best, key = 0, -1
        for number, entry in self._entries.items():
            if entry.adapter == adapter and (length := shared(entry.tokens, asked)) > best:
                best, key = length, number
        if best < LEAST_SHARED:
            return None
        self._entries.move_to_end(key)
        return self._entries[key].block, best

    def add(self, adapter: int, tokens: Sequence[int], block: Block) -> None:
        """Keep a prompt that was read; it takes the place of those that are its beginning."""
        size = block.bytes
        if size > self._most_bytes or len(tokens) < LEAST_SHARED:
            return
        new = np.asarray(tokens)
        for number, entry in list(self._entries.items()):
            if entry.adapter == adapter and shared(entry.tokens, new) == len(entry.tokens):
                self._forget(number)
        while self._entries and (self.bytes + size > self._most_bytes or len(self._entries) >= MOST_ENTRIES):
            self._forget(next(iter(self._entries)))
        self._entries[self._next] = _Entry(adapter, new, block)
        self._next += 1
        self.bytes += size

    def _forget(self, number: int) -> None:
        self.bytes -= self._entries.pop(number).block.bytes


def shared(one: Tokens, other: Tokens) -> int:
    """How many tokens two prompts have in common at their beginnings."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length
