"""Drawing tokens: temperature, then the nucleus (Holtzman et al. 2019, arXiv:1904.09751); each row has its own dice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from services.inference.engine import EngineError, Sampling
from services.inference.grammar import Grammar

# Below it the likeliest token is the only one left, and dividing by it could overflow.
LEAST_TEMPERATURE = 1e-3
# The nucleus is looked for among so many tokens before all of them are sorted, which takes as long as a small layer.
LIKELY = 512


def dice(seed: int | None) -> Generator:
    """The random numbers of one sequence; the same seed gives the same answer, whoever else is in the batch."""
    generator = Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed % 2**63)
    return generator


@dataclass(slots=True)
class Draw:
    """One sequence's way of drawing. `said`: how often each token was drawn, kept if a penalty needs it."""

    sampling: Sampling
    dice: Generator
    end_tokens: frozenset[int]
    grammar: Grammar | None = None
    said: Counter[int] = field(default_factory=Counter)
    drawn: int = 0

    @property
    def shapes(self) -> bool:
        """Whether the next token comes from other logits than the model's own."""
        how = self.sampling
        early = self.drawn < how.min_tokens
        return bool(early or self.grammar or how.logit_bias or how.frequency_penalty or how.presence_penalty)

    def shape(self, logits: Tensor) -> Tensor:
        """What is drawn from, of one row. Raises EngineError."""
        how, logits = self.sampling, logits.clone()
        for token, bias in how.logit_bias:
            if token < len(logits):
                logits[token] += bias
        if self.said:
            tokens = torch.tensor(list(self.said))
            times = torch.tensor(list(self.said.values()), dtype=logits.dtype)
            logits[tokens] -= how.frequency_penalty * times + how.presence_penalty
        if self.grammar is not None:
            self.grammar.restrict(logits)
        elif self.drawn < how.min_tokens:
            logits[list(self.end_tokens)] = float("-inf")
        return logits

    def take(self, token: int) -> bool:
        """The token was drawn; whether the answer is whole with it."""
        self.drawn += 1
        if self.sampling.frequency_penalty or self.sampling.presence_penalty:
            self.said[token] += 1
        ends = token in self.end_tokens
        return (self.grammar.take(token) or ends) if self.grammar is not None else ends


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token with its log-probability in the model's own distribution. `top`: the likeliest ones, if asked for."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def draw(logits: Tensor, rows: Sequence[Draw]) -> list[Drawn | EngineError]:
    """One token for each row of `logits` (rows x vocabulary)."""
    logits = logits.float().cpu()
    totals = logits.logsumexp(dim=-1)
    finite = totals.isfinite().tolist()
    likeliest = logits.argmax(dim=-1).tolist()
    tokens: list[int | EngineError] = []
    for row, how in enumerate(rows):
        greedy = how.sampling.temperature < LEAST_TEMPERATURE
        if not finite[row]:
            tokens.append(EngineError("the model produced numbers that are not finite"))
        elif greedy and not how.shapes:
            tokens.append(likeliest[row])
        else:
            try:
                shaped = how.shape(logits[row]) if how.shapes else logits[row]
                tokens.append(int(shaped.argmax()) if greedy else _random(shaped, how.sampling, how.dice))
            except EngineError as error:
                tokens.append(error)
    return [
        token if isinstance(token, EngineError) else _told(logits[row], totals[row], token, rows[row].sampling)
        for row, token in enumerate(tokens)
    ]


def _told(logits: Tensor, total: Tensor, token: int, sampling: Sampling) -> Drawn:
    top: tuple[tuple[int, float], ...] = ()
    if sampling.top_logprobs:
        values, places = (logits - total).topk(min(sampling.top_logprobs, len(logits)))
        top = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return Drawn(token, float(logits[token] - total), top)


def _random(logits: Tensor, sampling: Sampling, generator: Generator) -> int:
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p >= 1:
        return _thrown(probabilities, generator)
    values, places = probabilities.topk(min(LIKELY, len(probabilities)))
    if values.sum() < sampling.top_p:
        values, places = probabilities.sort(descending=True)
    inside = values.cumsum(0) - values < sampling.top_p
    inside[0] = True  # the likeliest token always stays
    return int(places[_thrown(values[inside], generator)])


def _thrown(weights: Tensor, generator: Generator) -> int:
    """One throw on the weights laid end to end: the generator's cost does not grow with the vocabulary."""
    ends = weights.double().cumsum(0)
    throw = torch.rand(1, generator=generator, dtype=torch.float64) * ends[-1]
    # Below the total however it was rounded, so that what has no weight is not hit.
    return int(torch.searchsorted(ends, throw.clamp_(max=ends[-1].nextafter(torch.zeros(()).double())), right=True))
