"""Answers that match a JSON schema, by llguidance: which tokens may come next, decided before one is drawn."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.hf import from_tokenizer
from torch import Tensor

from services.inference.engine import EngineError, GrammarError

# A schema comes from anybody: what it may cost, when it is read (about 20 ms) and at each token (about 15 ms).
LIMITS = LLParserLimits(initial_lexer_fuel=1_000_000, step_lexer_fuel=200_000, step_max_items=50_000)
MOST_KNOWN = 32  # schemas that are kept as they were read
# Small models fill the room between values with spaces until their tokens are spent, so there is none.
OPTIONS: Any = {"whitespace_flexible": False}


class Grammars:
    """Of one tokenizer. What llguidance needs of it takes a second, so it is made when first asked for."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_tokens: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._end_tokens = list(end_tokens)
        self._made: LLTokenizer | None = None
        self._making = threading.Lock()
        self._knowing = threading.Lock()
        self._known: OrderedDict[str, LLMatcher] = OrderedDict()

    def start(self, schema: str) -> Grammar:
        """The state of one answer; quick for a schema that was read a moment ago. Raises GrammarError."""
        with self._knowing:
            matcher = self._known.get(schema)
        if matcher is None:
            matcher = self._read(schema)
        with self._knowing:
            self._known[schema] = matcher
            self._known.move_to_end(schema)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return Grammar(matcher.deep_copy())

    def _read(self, schema: str) -> LLMatcher:
        try:
            with self._making:
                if self._made is None:
                    self._made = from_tokenizer(self._tokenizer, self._vocabulary, self._end_tokens)
            text = LLMatcher.grammar_from_json_schema(json.loads(schema), overrides=OPTIONS)
            matcher = LLMatcher(self._made, text, log_level=0, limits=LIMITS)
        except (ValueError, TypeError, RecursionError) as error:
            raise GrammarError(str(error)[:500]) from error
        if matcher.is_error():
            raise GrammarError(matcher.get_error()[:500])
        return matcher


class Grammar:
    """How far one answer has come."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def restrict(self, logits: Tensor) -> None:
        """Minus infinity for each token (of one row) that may not come next. Raises EngineError when the schema turns
        out to be too complex."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise EngineError(f"the schema is too complex: {self._matcher.get_error()[:300]}")
        allowed = torch.from_numpy(np.unpackbits(mask, bitorder="little")[: len(logits)]).bool()
        logits[: len(allowed)].masked_fill_(~allowed.to(logits.device), float("-inf"))
        logits[len(allowed) :] = float("-inf")

    def take(self, token: int) -> bool:
        """The token was drawn; whether the answer is whole with it."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())
