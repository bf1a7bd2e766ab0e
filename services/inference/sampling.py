"""Drawing tokens: temperature, then the nucleus (Holtzman et al. 2019, arXiv:1904.09751); each row has its own dice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from services.inference.engine import Sampling

# Below it the likeliest token is the only one left, and dividing by it could overflow.
LEAST_TEMPERATURE = 1e-3


def dice(seed: int | None) -> Generator:
    """The random numbers of one sequence; the same seed gives the same answer, whoever else is in the batch."""
    generator = Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed % 2**63)
    return generator


def draw(logits: Tensor, rows: Sequence[tuple[Sampling, Generator]]) -> list[tuple[int, float]]:
    """One token for each row of `logits` (rows x vocabulary), with its log-probability at temperature 1, top_p 1."""
    logprobs = torch.log_softmax(logits.float().cpu(), dim=-1)
    tokens = [_draw(row, sampling, generator) for row, (sampling, generator) in zip(logprobs, rows, strict=True)]
    return [(token, float(row[token])) for row, token in zip(logprobs, tokens, strict=True)]


def _draw(logprobs: Tensor, sampling: Sampling, generator: Generator) -> int:
    if sampling.temperature < LEAST_TEMPERATURE or not torch.isfinite(logprobs).any():
        return int(logprobs.argmax())
    probabilities = torch.softmax(logprobs / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        outside = ordered.cumsum(0) - ordered >= sampling.top_p
        outside[0] = False  # the likeliest token always stays
        ordered[outside] = 0
        probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered)
    return int(torch.multinomial(probabilities, 1, generator=generator))
