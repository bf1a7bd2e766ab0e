"""The key-value caches of sequences that are stepped together: one batch, padded on the left, all ending in one column.

row 0   . . a b c d        every row's next token goes into the same new column, so a sequence joins by padding
row 1   e f g h i j        the shorter side on the left, and leaves by dropping its row and the columns that only
row 2   . k l m n o        it had used
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache


class PaddedBatch:
    """`lengths`: tokens in the cache, by row."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._cache = DynamicCache()

    def add(self, cache: DynamicCache, length: int) -> None:
        """Put a sequence that was prefilled alone (a cache of one row) into the last row."""
        if not self.lengths:
            self._cache, self.lengths = cache, [length]
            return
        width = max(*self.lengths, length)
        self._cache = _rebuilt(
            (torch.cat([_padded(ours, width), _padded(theirs, width)]) for ours, theirs in zip(mine, new, strict=True))
            for mine, new in zip(_layers(self._cache), _layers(cache), strict=True)
        )
        self.lengths.append(length)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows stay, in this order."""
        if not rows:
            self._cache, self.lengths = DynamicCache(), []
            return
        unused = max(self.lengths) - max(self.lengths[row] for row in rows)
        chosen = list(rows)
        self._cache = _rebuilt((part[chosen, :, unused:] for part in layer) for layer in _layers(self._cache))
        self.lengths = [self.lengths[row] for row in rows]

    def step(self, model: Any, tokens: Sequence[int]) -> Tensor:
        """Feed each row its next token; returns the logits after it (rows x vocabulary)."""
        width = max(self.lengths) + 1
        self.lengths = [length + 1 for length in self.lengths]
        lengths = torch.tensor(self.lengths, device=model.device).unsqueeze(1)
        mask = (torch.arange(width, device=model.device) >= width - lengths).long()
        output = model(
            input_ids=torch.tensor(tokens, device=model.device).unsqueeze(1),
            attention_mask=mask,
            position_ids=lengths - 1,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits


def prefill(model: Any, cache: DynamicCache, tokens: Sequence[int], start: int) -> Tensor:
    """Feed one sequence the tokens from position `start` on; returns the logits after the last one (1 x vocabulary)."""
    positions = torch.arange(start, start + len(tokens), device=model.device).unsqueeze(0)
    output = model(
        input_ids=torch.tensor(tokens, device=model.device).unsqueeze(0),
        attention_mask=torch.ones(1, start + len(tokens), dtype=torch.long, device=model.device),
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def _layers(cache: DynamicCache) -> list[tuple[Tensor, Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _rebuilt(layers: Any) -> DynamicCache:
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache


def _padded(part: Tensor, width: int) -> Tensor:
    """rows x heads x columns x size, with empty columns on the left."""
    return functional.pad(part, (0, 0, width - part.shape[2], 0))
