"""What the monitor decides about budgets and texts; the rest has modules of its own. The dice are an argument."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.monitor.drift_watch import Rules as DriftRules
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

BUDGET_FRACTIONS = (0.5, 0.8, 1.0)

MAX_REFERENCE_TEXTS = 500


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator set."""

    drift: DriftRules = field(default_factory=DriftRules)
    retrain_enabled: bool = True
    retrain_cooldown_seconds: float = 3600.0
    objects_region: str = ""  # where data and checkpoints are; empty: nobody said, and no traffic is metered
    checkpoint_retention_hours: float = 24.0  # after a job's end, as the trainer's service has it
    usd_per_gb_month: float = 0.023  # kept in the object store; storage.py says where from
    usd_per_gb_between_regions: float = 0.02
    retrain_suggestion_hours: float = 72.0  # so long a suggestion waits for somebody
    retrain_budget_usd_per_30_days: float | None = None  # per endpoint; None: the jobs' own budgets are the limit


def thresholds_reached(spent_nano_usd: int, budget_nano_usd: int | None, told: float) -> list[float]:
    """The fractions of the budget that are reached now and were not told; `told` is the highest told one, or 0."""
    if not budget_nano_usd:
        return []
    return [part for part in BUDGET_FRACTIONS if part > told and spent_nano_usd >= part * budget_nano_usd]


def naive_choice(candidate: events.Candidate) -> dict[str, Any]:
    """What a receipt says of the choice of somebody who does not plan, as it was predicted."""
    return {
        "instance_type": candidate.placement.instance_type,
        "nano_usd": nano_usd(candidate.total_usd.expected),
        "seconds": 3600 * candidate.hours.expected,
    }


def nano_usd(usd: float) -> int:
    """Whole nano-USD of a sum in USD."""
    return round(usd * NANO_PER_USD)


def asked_text(row: Mapping[str, Any]) -> str | None:
    """What a row of training data asks, as a request would: the last user message, the prompt, or the text itself."""
    if isinstance(messages := row.get("messages", row.get("prompt")), list):
        asked = [message.get("content") for message in messages if _is_users(message)]
        return asked[-1] if asked and isinstance(asked[-1], str) else None
    text = row.get("prompt", row.get("text"))
    return text if isinstance(text, str) else None


def _is_users(message: object) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "user"


def sample(texts: Iterable[str], dice: random.Random, size: int = MAX_REFERENCE_TEXTS) -> list[str]:
    """At most `size` of the texts, each equally likely, in an order that means nothing (reservoir sampling)."""
    kept: list[str] = []
    for seen, text in enumerate(texts):
        if len(kept) < size:
            kept.append(text)
        elif (place := dice.randrange(seen + 1)) < size:
            kept[place] = text
    dice.shuffle(kept)
    return kept
