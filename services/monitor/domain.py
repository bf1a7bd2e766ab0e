"""What the monitor decides about endpoints and budgets. Values in, values out; the clock and the dice are arguments."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from services.monitor.drift_watch import Rules as DriftRules
from sskai.events import v1 as events

NANO_USD_PER_USD = 1_000_000_000

BUDGET_FRACTIONS = (0.5, 0.8, 1.0)

MAX_REFERENCE_TEXTS = 500

# A request for a retrain whose job does not appear within this time was lost or refused; it blocks no later one.
SUBMISSION_LIMIT_SECONDS = 600.0


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
    retrain_budget_usd_per_30_days: float | None = None  # per endpoint; None: the jobs' own budgets are the limit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint, and the retraining of its model."""

    endpoint_id: str
    tenant_id: str
    model_id: str = ""
    version: int = 0  # 0: a base model, which no job of ours made
    deleted: bool = False
    retrain_id: str = ""
    retrain_requested_at: datetime | None = None
    retrain_job_id: str = ""
    retrain_ended_at: datetime | None = None

    def serving(self, model_id: str, version: int) -> Endpoint:
        return replace(self, model_id=model_id, version=version)

    def requested(self, retrain_id: str, now: datetime) -> Endpoint:
        return replace(self, retrain_id=retrain_id, retrain_requested_at=now, retrain_job_id="", retrain_ended_at=None)

    def retraining_by(self, job_id: str) -> Endpoint:
        return replace(self, retrain_job_id=job_id, retrain_ended_at=None)

    def retrain_ended(self, job_id: str, now: datetime) -> Endpoint:
        return replace(self, retrain_ended_at=now) if job_id == self.retrain_job_id else self

    def retrain_in_flight(self, now: datetime) -> bool:
        if self.retrain_job_id:
            return self.retrain_ended_at is None
        asked_at = self.retrain_requested_at
        return asked_at is not None and (now - asked_at).total_seconds() < SUBMISSION_LIMIT_SECONDS


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a drifted model is not trained again now. `rule` is one of RetrainDeclined's."""

    rule: str
    detail: str


def refuse_retrain(
    endpoint: Endpoint, parent_job_id: str, spent_usd: float, rules: Rules, now: datetime
) -> Refusal | None:
    """None: train again. `spent_usd` is what this endpoint's retrains cost in the last 30 days."""
    if not rules.retrain_enabled:
        return Refusal("disabled", "retraining is switched off (SSKAI_RETRAIN_ENABLED)")
    if endpoint.deleted:
        return Refusal("disabled", "the endpoint was deleted")
    if not parent_job_id:
        return Refusal("disabled", "no job is known that made the model, so there is nothing to repeat")
    if endpoint.retrain_in_flight(now):
        return Refusal("in-flight", f"{endpoint.retrain_job_id or endpoint.retrain_id} is still at it")
    last = endpoint.retrain_ended_at or endpoint.retrain_requested_at
    if last is not None and (now - last).total_seconds() < rules.retrain_cooldown_seconds:
        left = rules.retrain_cooldown_seconds - (now - last).total_seconds()
        return Refusal("cooldown", f"{left:.0f} s of the cooldown of {rules.retrain_cooldown_seconds:.0f} s are left")
    limit = rules.retrain_budget_usd_per_30_days
    if limit is not None and spent_usd >= limit:
        return Refusal("budget", f"{spent_usd:.4f} USD of {limit:.4f} USD were spent on retraining in 30 days")
    return None


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
    return round(usd * NANO_USD_PER_USD)


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
