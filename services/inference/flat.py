"""One pass of a model over everything that is due: the next token of each running sequence and pieces of new prompts.

All tokens lie in one line (1 x tokens), so that the layers' matrices are read once for all of them and nothing is
padded; only attention tells the sequences apart. It is transformers' own interface for other people's attention, with
`turn` as an argument that the model hands through; a model that does not is refused when it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from services.inference import caches
from services.inference.caches import Block, Row, Shelves

NAME = "sskai"


@dataclass(frozen=True, slots=True)
class Asked:
    """What one layer asks for some tokens: queries, keys and values (1 x heads x tokens x head's size), what scores are
    multiplied by (None: 1 over the root of the head's size), how far a token sees back (None: to the beginning)."""

    layer: int
    query: Tensor
    keys: Tensor
    values: Tensor
    scale: float | None
    window: int | None


class Segment(Protocol):
    """Neighbouring tokens that attend together; `size` of them."""

    @property
    def size(self) -> int: ...

    def attend(self, asked: Asked) -> Tensor:
        """Keep the tokens' keys and values, and look up their queries: size x heads x head's size."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one prompt from position `start` on; `block` holds what was read before."""

    tokens: Sequence[int]
    start: int
    block: Block
    wants_logits: bool = True

    @property
    def size(self) -> int:
        return len(self.tokens)

    def attend(self, asked: Asked) -> Tensor:
        end, query, window = self.start + self.size, asked.query, asked.window
        kept = self.block.layer(asked.layer, asked.keys, asked.values)
        for part, new in zip(kept, (asked.keys, asked.values), strict=True):
            part[:, :, self.start : end] = new
        if self.start == 0 and (window is None or window >= end):
            seen = None
        else:
            at = torch.arange(end, device=query.device)
            seen = at <= at[self.start :, None]
            if window is not None:
                seen &= at > at[self.start :, None] - window
        looked_up = functional.scaled_dot_product_attention(
            query,
            kept[0][:, :, :end],
            kept[1][:, :, :end],
            attn_mask=seen,
            is_causal=seen is None and self.size > 1,
            scale=asked.scale,
            enable_gqa=True,
        )
        return looked_up[0].transpose(0, 1)


class ShelfStep:
    """The next token of all rows of one shelf, whose lengths count it already."""

    def __init__(self, block: Block, rows: Sequence[Row], device: torch.device) -> None:
        self._block = block
        self._places = torch.arange(len(rows), device=device)
        self._lengths = torch.tensor([row.length for row in rows], device=device)
        self._width = max(row.length for row in rows)
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}
        self.size = len(rows)

    def attend(self, asked: Asked) -> Tensor:
        query = asked.query
        kept = self._block.layer(asked.layer, asked.keys, asked.values)
        for part, new in zip(kept, (asked.keys, asked.values), strict=True):
            part[self._places, :, self._lengths - 1] = new[0].transpose(0, 1)
        heads, shared = query.shape[1], asked.keys.shape[1]
        # The heads that share keys look them up as if they were neighbours in one sequence: no copy for each of them.
        grouped = query[0].unflatten(0, (shared, heads // shared)).permute(2, 0, 1, 3)
        looked_up = functional.scaled_dot_product_attention(
            grouped,
            kept[0][: self.size, :, : self._width],
            kept[1][: self.size, :, : self._width],
            attn_mask=self._mask(asked.window, query.dtype),
            scale=asked.scale,
        )
        return looked_up.flatten(1, 2)

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """As numbers to be added, which is what the kernel wants; the same for all layers of one kind."""
        made = self._masks.get((window, dtype))
        if made is None:
            seen = caches.mask(self._lengths, self._width, window)
            made = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))
            self._masks[window, dtype] = made
        return made


@dataclass(slots=True)
class Turn:
    """What `attend` is told: the segments in the order of their tokens. `layers`: which ones have asked."""

    segments: Sequence[Segment]
    layers: set[int] = field(default_factory=set)


def attend(  # noqa: PLR0917 (transformers' signature)
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    turn: Turn | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """For transformers' AttentionInterface: 1 x tokens x heads x head's size."""
    if turn is None or query.shape[0] != 1:
        raise ValueError("this kind of model does not hand its tokens through to the attention")
    if more.get("softcap") is not None or more.get("s_aux") is not None:
        raise ValueError("attention with capped scores or sinks is not served")
    turn.layers.add(module.layer_idx)
    told, start = [], 0
    for segment in turn.segments:
        asked, keys, values = (part[:, :, start : start + segment.size] for part in (query, key, value))
        told.append(segment.attend(Asked(module.layer_idx, asked, keys, values, scaling, sliding_window)))
        start += segment.size
    return (torch.cat(told) if len(told) > 1 else told[0]).unsqueeze(0), None


AttentionInterface.register(NAME, attend)


@dataclass(frozen=True, slots=True)
class Passed:
    """`logits`: those of the rows, shelf by shelf, then of the pieces that want them (each after its last token).
    `hidden`: of all the pieces' tokens, in the last layer."""

    logits: Tensor
    hidden: Tensor
    layers: int


class Forward:
    """A causal model that was loaded with this attention."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._hidden: Tensor | None = None
        model.base_model.register_forward_hook(self._remember)

    def _remember(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._hidden = output[0]

    def step(self, shelves: Shelves, pieces: Sequence[Piece]) -> Passed:
        """Feed each row, which must have room, its owner's `last_token`; and the pieces."""
        device = self._model.device
        segments: list[Segment] = []
        tokens: list[int] = []
        positions: list[int] = []
        for block, rows in shelves:
            for row in rows:
                tokens.append(row.owner.last_token)
                positions.append(row.length)
                row.length += 1
            segments.append(ShelfStep(block, rows, device))
        wanted = list(range(len(tokens)))
        running = len(tokens)
        for piece in pieces:
            tokens.extend(piece.tokens)
            positions.extend(range(piece.start, piece.start + piece.size))
            segments.append(piece)
            if piece.wants_logits:
                wanted.append(len(tokens) - 1)
        turn = Turn(segments)
        output = self._model(
            input_ids=torch.tensor([tokens], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, dtype=torch.long, device=device),
            turn=turn,
        )
        assert self._hidden is not None
        hidden, self._hidden = self._hidden[0, running:], None
        return Passed(output.logits[0], hidden, len(turn.layers))
