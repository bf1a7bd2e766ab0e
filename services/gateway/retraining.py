"""The loop of an endpoint's model, drawn from events, and which suggestions can still be decided on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from google.protobuf.message import Message

from services.gateway.plain import iso, plain
from sskai.contract import moment
from sskai.events import v1 as events


class Kind(NamedTuple):
    """How an event stands on the timeline: its word, its moment, and what of it is shown."""

    word: str
    at: str
    fields: tuple[str, ...] = ()


KINDS: Mapping[type[Message], Kind] = {
    events.RetrainingPolicySet: Kind("policy-set", "set_at", ("mode", "schedule")),
    events.RetrainingPolicyRemoved: Kind("policy-removed", "removed_at"),
    events.DriftDetected: Kind("drift", "detected_at", ("signal", "version", "explanation")),
    events.RetrainSuggested: Kind("suggested", "suggested_at", ("reason", "detail", "version", "data", "expires_at")),
    events.RetrainDecided: Kind("decided", "decided_at", ("approved", "decided_by")),
    events.RetrainRequested: Kind("requested", "requested_at", ("reason", "version", "data", "budget_usd")),
    events.RetrainDeclined: Kind("declined", "declined_at", ("rule", "detail", "reason")),
    events.JobSubmitted: Kind("job-submitted", "submitted_at"),
    events.JobSucceeded: Kind("job-succeeded", "ended_at"),
    events.JobFailed: Kind("job-failed", "ended_at", ("reason",)),
    events.JobCancelled: Kind("job-cancelled", "ended_at"),
    events.ModelVersionReady: Kind("trained", "ready_at", ("version", "eval_loss_before", "eval_loss_after")),
    events.ModelEvaluated: Kind(
        "evaluated", "evaluated_at", ("version", "metric", "value", "champion_value", "champion_version", "sample_size")
    ),
    events.CanaryStarted: Kind("canary", "started_at", ("version", "traffic_fraction")),
    events.ModelPromoted: Kind("promoted", "promoted_at", ("version", "previous_version")),
    events.ModelRolledBack: Kind("rolled-back", "rolled_back_at", ("version", "to_version", "reason")),
}
OF_ENDPOINT = (
    events.RetrainingPolicySet,
    events.RetrainingPolicyRemoved,
    events.DriftDetected,
    events.RetrainSuggested,
    events.RetrainDecided,
    events.RetrainRequested,
    events.RetrainDeclined,
    events.CanaryStarted,
)
OF_JOB = (events.JobSubmitted, events.JobSucceeded, events.JobFailed, events.JobCancelled)
OF_MODEL = (events.ModelVersionReady, events.ModelEvaluated, events.ModelPromoted, events.ModelRolledBack)


def timeline(endpoint_id: str, told: Iterable[Message], jobs: Mapping[str, str]) -> list[dict[str, Any]]:
    """What happened, newest first, each with the retrain that it belongs to, if any.

    `told`: events of the endpoint, of its retrains' jobs and of its models, in any order; what is of others is left
    out. `jobs`: the retrain that each job answers.
    """
    told = [message for message in told if type(message) in KINDS]
    made = {
        (message.model_id, message.version): message.job_id
        for message in told
        if isinstance(message, events.ModelVersionReady) and message.job_id in jobs
    }
    entries: list[tuple[datetime, int, dict[str, Any]]] = []
    for place, message in enumerate(told):
        of = _belongs(endpoint_id, message, jobs, made)
        if of is not None:
            kind, values = KINDS[type(message)], plain(message)
            at = moment(getattr(message, kind.at))
            shown = {name: values[name] for name in kind.fields}
            entries.append((at, place, {"at": iso(at), "kind": kind.word, **of, **shown}))
    return [entry for _, _, entry in sorted(entries, key=lambda entry: entry[:2], reverse=True)]


def _belongs(
    endpoint_id: str, message: Any, jobs: Mapping[str, str], made: Mapping[tuple[str, int], str]
) -> dict[str, str | None] | None:
    """The retrain and the job of an event; None: it is no part of this endpoint's loop."""
    if isinstance(message, OF_JOB):
        own = message.job_id
        return {"retrain_id": jobs[own], "job_id": own} if own in jobs else None
    job_id = made.get((message.model_id, message.version)) if _is_of_version(message) else None
    if job_id is not None and getattr(message, "endpoint_id", "") in ("", endpoint_id):
        return {"retrain_id": jobs[job_id], "job_id": job_id}
    if getattr(message, "endpoint_id", "") != endpoint_id:
        return None
    return {"retrain_id": getattr(message, "retrain_id", "") or None, "job_id": None}


def _is_of_version(message: Message) -> bool:
    return isinstance(message, (*OF_MODEL, events.CanaryStarted))


class Undecidable(NamedTuple):
    """Why a suggestion cannot be decided on."""

    title: str
    detail: str


def undecidable(told: Sequence[Message], now: datetime) -> Undecidable | None:
    """None: it waits for a decision. `told`: the events of one retrain, which was suggested."""
    suggested = next(message for message in told if isinstance(message, events.RetrainSuggested))
    if not suggested.HasField("expires_at"):
        return Undecidable(
            "Nobody is asked", "The policy only suggests: put one of mode approve, and wait for the next"
        )
    for message in told:
        if isinstance(message, events.RetrainDecided):
            word = "approved" if message.approved else "declined"
            return Undecidable("It was decided already", f"{message.decided_by} {word} it")
        if isinstance(message, events.RetrainDeclined):
            return Undecidable("It is over", f"{message.rule}: {message.detail}")
        if isinstance(message, events.RetrainRequested):
            return Undecidable("It was decided already", "The retrain was requested")
    until = moment(suggested.expires_at)
    return Undecidable("It is over", f"It waited until {iso(until)}") if until < now else None
