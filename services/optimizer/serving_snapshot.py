"""Every input of a decision about an endpoint as canonical text: `snapshot.py` for `serving.plan_endpoint`. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from services.optimizer import snapshot
from services.optimizer.serving_rates import ServingProfile
from services.optimizer.serving_values import Spec
from services.optimizer.snapshot import Market
from services.optimizer.values import Assumptions


@dataclass(frozen=True, slots=True)
class Inputs:
    """The decision's arguments beside the market."""

    spec: Spec
    profile: ServingProfile
    assumptions: Assumptions
    now: datetime


_INPUTS = TypeAdapter(Inputs)


def freeze(inputs: Inputs, market: Market) -> tuple[str, str]:
    """The decision's text and its SHA-256, which covers the market's."""
    text = snapshot.canonical({**_INPUTS.dump_python(inputs, mode="json"), "market_sha256": market.hash})
    return text, snapshot.sha256(text)


def thaw(text: str, market_text: str) -> dict[str, Any]:
    """The keyword arguments of `serving.plan_endpoint`. Raises ValueError if the texts do not belong together."""
    fields = json.loads(text)
    if fields.pop("market_sha256") != snapshot.sha256(market_text):
        raise ValueError("this market is not the one that the decision was made on")
    inputs = _INPUTS.validate_python(fields)
    market = snapshot.market_of(market_text)
    return {
        "spec": inputs.spec,
        "profile": inputs.profile,
        "machines": market.machines,
        "offers": market.offers,
        "assumptions": inputs.assumptions,
        "now": inputs.now,
    }
