"""When a model is trained again, and who has to say yes. Values in, values out; the clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from services.monitor.domain import Rules
from services.monitor.drift import QUIET_SAMPLES

# A request for a retrain whose job does not appear within this time was lost or refused; it blocks no later one.
SUBMISSION_LIMIT_SECONDS = 600.0
# Anybody may tell of drift, by any name: so many streams of an endpoint are counted, the newest.
MAX_STREAMS = 100


class Mode(StrEnum):
    """What becomes of a retrain that no rule is against."""

    SUGGEST = "suggest"  # it is told
    APPROVE = "approve"  # it waits for somebody's yes
    AUTO = "auto"  # it is done


class Reason(StrEnum):
    """What a retrain is wanted for."""

    DRIFT = "drift"
    NEW_DATASET = "new-dataset"
    SCHEDULE = "schedule"


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
class Policy:
    """What an endpoint's owner set (`by_owner`), or what the operator's settings say for all others."""

    mode: Mode = Mode.AUTO
    on_drift: bool = True
    on_new_dataset: bool = False
    schedule: str = ""
    data: str = ""
    cooldown_seconds: float = 3600.0
    budget_usd: float | None = None  # in a calendar month; of the operator: in 30 days
    confirm_alarms: int = 1
    confirm_samples: int = 0
    max_job_budget_usd: float | None = None
    by_owner: bool = False


def operators_policy(rules: Rules) -> Policy:
    """Of endpoints that have none of their own."""
    return Policy(cooldown_seconds=rules.retrain_cooldown_seconds, budget_usd=rules.retrain_budget_usd_per_30_days)


def budget_since(policy: Policy, now: datetime) -> datetime:
    """The beginning of the time that the budget is for."""
    if not policy.by_owner:
        return now - timedelta(days=30)
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of an endpoint when a retrain of its model is wanted."""

    endpoint: Endpoint
    parent_job_id: str  # that made the served version; empty: none that is known
    spent_usd: float = 0.0  # by this endpoint's retrains since `budget_since`
    waiting: str = ""  # the retrain that somebody has to decide on
    suggested_at: datetime | None = None  # when one was last told, decided on, or given up
    parent_budget_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model is not trained again now. `rule` is one of RetrainDeclined's."""

    rule: str
    detail: str


def refuse(
    situation: Situation, policy: Policy, rules: Rules, now: datetime, *, approved: bool = False
) -> Refusal | None:
    """None: train again, or ask for it, as the mode says. `approved`: somebody said yes, who needs no cooldown."""
    endpoint = situation.endpoint
    if not rules.retrain_enabled:
        return Refusal("disabled", "retraining is switched off (SSKAI_RETRAIN_ENABLED)")
    if endpoint.deleted:
        return Refusal("disabled", "the endpoint was deleted")
    if not situation.parent_job_id:
        return Refusal("disabled", "no job is known that made the model, so there is nothing to repeat")
    if endpoint.retrain_in_flight(now):
        return Refusal("in-flight", f"{endpoint.retrain_job_id or endpoint.retrain_id} is still at it")
    if situation.waiting and not approved:
        return Refusal("in-flight", f"{situation.waiting} waits for somebody's decision")
    if not approved and (left := cooldown_left_seconds(situation, policy, now)):
        return Refusal("cooldown", f"{left:.0f} s of the cooldown of {policy.cooldown_seconds:.0f} s are left")
    if policy.budget_usd is not None and situation.spent_usd >= policy.budget_usd:
        period = "this month" if policy.by_owner else "in 30 days"
        detail = f"{situation.spent_usd:.4f} USD of {policy.budget_usd:.4f} USD were spent on retraining {period}"
        return Refusal("budget", detail)
    return None


def cooldown_left_seconds(situation: Situation, policy: Policy, now: datetime) -> float:
    """Of the time after a retrain, a suggestion or a decision in which no other one is begun."""
    endpoint = situation.endpoint
    told = [at for at in (endpoint.retrain_ended_at or endpoint.retrain_requested_at, situation.suggested_at) if at]
    passed_seconds = (now - max(told)).total_seconds() if told else policy.cooldown_seconds
    return max(0.0, policy.cooldown_seconds - passed_seconds)


def job_budget_usd(policy: Policy, situation: Situation) -> float | None:
    """The hard budget of the next job. None: its parent's, whatever that is.

    A job stops at its budget, so with what is left of the month as its own the month's is never passed by it.
    """
    limits = [policy.max_job_budget_usd]
    if policy.by_owner and policy.budget_usd is not None:
        limits.append(max(0.0, policy.budget_usd - situation.spent_usd))
    known = [limit for limit in limits if limit is not None]
    if not known or (situation.parent_budget_usd is not None and situation.parent_budget_usd <= min(known)):
        return None
    return min(known)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What DriftDetected says that counts for the hysteresis."""

    stream: str  # signal and reference
    model: str  # and version
    samples: int  # that the test has seen since its last alarm
    recent_samples: int  # of them, since the drift began
    at_seconds: float


def count_alarm(counted: Mapping[str, Any], alarm: Alarm) -> dict[str, Any]:
    """The alarms so far with one more, as JSON: by stream how many, the samples that it lasted, the newest's time.

    Those of another version of the model are forgotten. One that is told again, or late, counts for nothing.
    """
    streams = dict(counted.get("streams", {})) if counted.get("model") == alarm.model else {}
    alarms, samples, at_seconds = streams.get(alarm.stream, (0, 0, float("-inf")))
    if alarm.at_seconds > at_seconds:
        if alarm.samples >= QUIET_SAMPLES:  # what alarmed before that is another drift
            alarms, samples = 0, 0
        streams.pop(alarm.stream, None)  # so that the newest stand last
        streams[alarm.stream] = [alarms + 1, samples + alarm.recent_samples, alarm.at_seconds]
    return {"model": alarm.model, "streams": dict(list(streams.items())[-MAX_STREAMS:])}


def unconfirmed(counted: Mapping[str, Any], stream: str, policy: Policy) -> Refusal | None:
    """Why the drift of a stream counts for nothing yet; None: it does."""
    alarms, samples, _ = counted["streams"][stream]
    if alarms >= policy.confirm_alarms and samples >= policy.confirm_samples:
        return None
    return Refusal(
        "unconfirmed",
        f"{stream} has alarmed {alarms} of {policy.confirm_alarms} times, over {samples} of {policy.confirm_samples} "
        "samples",
    )
