"""Every input of a decision as canonical text, so that it has a hash and can be decided again, bit for bit. Pure.

The market (machines and offers) is the larger part and is shared by all decisions between two price changes, so it is a
text of its own; the decision's text names it by its hash.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter

from services.optimizer.memory import ModelProfile
from services.optimizer.throughput import Machine
from services.optimizer.values import Assumptions, History, Offer
from services.optimizer.work import Request


@dataclass(frozen=True)
class Market:
    """What can be rented at this moment."""

    machines: dict[str, Machine]
    offers: tuple[Offer, ...]

    @cached_property
    def text(self) -> str:
        return canonical(_MARKET.dump_python(self, mode="json"))

    @cached_property
    def hash(self) -> str:
        return sha256(self.text)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A decision's other arguments."""

    request: Request
    profile: ModelProfile
    assumptions: Assumptions
    now: datetime
    history: History


_MARKET = TypeAdapter(Market)
_INPUTS = TypeAdapter(Inputs)


def freeze(inputs: Inputs, market: Market) -> tuple[str, str]:
    """The decision's text and its SHA-256, which covers the market's."""
    text = canonical({**_INPUTS.dump_python(inputs, mode="json"), "market_sha256": market.hash})
    return text, sha256(text)


def thaw_inputs(text: str) -> Inputs:
    """The decision's own arguments, without the market. Raises ValueError."""
    fields = json.loads(text)
    fields.pop("market_sha256", None)
    return _INPUTS.validate_python(fields)


def thaw(text: str, market_text: str) -> dict[str, Any]:
    """The keyword arguments of `domain.plan`, from both texts. Raises ValueError if they do not belong together."""
    if json.loads(text).get("market_sha256") != sha256(market_text):
        raise ValueError("this market is not the one that the decision was made on")
    inputs = thaw_inputs(text)
    known = market_of(market_text)
    return {
        "request": inputs.request,
        "profile": inputs.profile,
        "machines": known.machines,
        "offers": known.offers,
        "assumptions": inputs.assumptions,
        "now": inputs.now,
        "history": inputs.history,
    }


def market_of(text: str) -> Market:
    """The market that this text is."""
    return _MARKET.validate_python(json.loads(text))


def canonical(value: Any) -> str:
    # repr-exact floats and sorted keys: equal values give equal text on every machine.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
