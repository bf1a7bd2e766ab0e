"""What stands on the first page: what needs a decision, and what happened last. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.gateway import retraining
from services.gateway.plain import iso, plain
from sskai.contract import moment
from sskai.events import v1 as events

# Of a job's holds, those that time alone does not end.
HELD_BY_MONEY = ("budget", "tenant-budget", "reserve")
NEARLY_SPENT = 0.8

# What is worth a line, and what of it is told there. Heartbeats, spend and prices are not: they come by the second.
ACTIVITY: Mapping[type[Message], tuple[str, ...]] = {
    events.DatasetValidated: ("name", "version", "rows"),
    events.DatasetRejected: ("name", "row", "column", "reason"),
    events.JobSubmitted: (),
    events.JobHeld: ("rule", "detail"),
    events.JobRequeued: ("reason", "attempt", "steps_done"),
    events.JobSucceeded: ("model_name", "steps", "eval_loss_before", "eval_loss_after"),
    events.JobFailed: ("reason", "advice"),
    events.JobCancelled: (),
    events.AttemptStarted: ("attempt", "machine_id"),
    events.AttemptLost: ("attempt", "reason"),
    events.AttemptDrained: ("attempt",),
    events.AttemptResumed: ("attempt", "from_step", "gap_seconds"),
    events.ModelVersionReady: ("name", "version", "job_id"),
    events.ModelVersionRefused: ("reason", "advice"),
    events.ModelPromoted: ("version", "alias", "endpoint_id"),
    events.ModelRolledBack: ("version", "endpoint_id", "reason"),
    events.EndpointRequested: ("name",),
    events.EndpointReady: (),
    events.EndpointFailed: ("reason", "advice"),
    events.EndpointDeleted: (),
    events.CanaryStarted: ("version", "traffic_fraction"),
    events.DriftDetected: ("signal", "explanation"),
    events.ObjectiveBreached: ("objective", "severity", "burn_rate"),
    events.ObjectiveRecovered: ("objective",),
    events.RetrainSuggested: ("reason", "detail"),
    events.RetrainRequested: ("reason",),
    events.RetrainDeclined: ("rule", "detail"),
    events.BudgetThresholdReached: ("fraction", "spent_usd", "budget_usd", "scope", "target"),
    events.ReceiptIssued: ("paid_nano_usd", "on_demand_nano_usd", "saving_fraction"),
}


def activity(position: int, at: datetime, message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    """One line. `names`: what jobs, endpoints and models are called, by their ids."""
    values = plain(message)
    subject = next(iter(values.values()))
    shown = {name: values[name] for name in ACTIVITY[type(message)] if values.get(name) not in (None, "")}
    return {
        "id": position,
        "type": message.DESCRIPTOR.name,
        "subject": subject,
        "name": names.get(subject),
        "at": iso(at),
        "fields": shown,
    }


def of_retrains(told: Iterable[Message], names: Mapping[str, str], now: datetime) -> list[dict[str, Any]]:
    """The suggestions that wait for somebody. `told`: events of retrains, oldest first."""
    by_retrain: dict[str, list[Any]] = {}
    for message in told:
        by_retrain.setdefault(message.retrain_id, []).append(message)  # type: ignore[attr-defined]
    waiting = []
    for retrain_id, one in by_retrain.items():
        suggested = next((message for message in one if isinstance(message, events.RetrainSuggested)), None)
        if suggested is not None and retraining.undecidable(one, now) is None:
            name = names.get(suggested.endpoint_id, suggested.endpoint_id)
            since = moment(suggested.suggested_at)
            link = f"/monitoring/{suggested.endpoint_id}"
            waiting.append(
                _decision("retrain", retrain_id, name, suggested.detail or suggested.reason, since=since, link=link)
            )
    return waiting


def of_budgets(budgets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The budgets of which little is left. `budgets`: as the API shows them."""
    return [
        _decision("budget", one["id"], one["target"] or one["scope"], _used(one), since=None, link="/costs")
        for one in budgets
        if one["spent_usd"] is not None and one["spent_usd"] + one["reserved_usd"] >= NEARLY_SPENT * one["amount_usd"]
    ]


def of_job(job_id: str, name: str, detail: str, since: datetime) -> dict[str, Any]:
    """A job that a budget holds."""
    return _decision("held-job", job_id, name, detail, since=since, link=f"/jobs/{job_id}")


def of_endpoint(endpoint_id: str, name: str, detail: str, since: datetime) -> dict[str, Any]:
    """An endpoint that does not answer."""
    return _decision("failed-endpoint", endpoint_id, name, detail, since=since, link=f"/endpoints/{endpoint_id}")


def of_webhook(webhook_id: str, url: str, since: datetime) -> dict[str, Any]:
    """A webhook that was switched off."""
    return _decision(
        "webhook", webhook_id, url, "It is switched off: its address said so", since=since, link="/settings/webhooks"
    )


def _used(budget: dict[str, Any]) -> str:
    used = budget["spent_usd"] + budget["reserved_usd"]
    return f"{used:.2f} of {budget['amount_usd']:.2f} USD are spent or reserved"


def _decision(kind: str, id_: str, title: str, detail: str, *, since: datetime | None, link: str) -> dict[str, Any]:
    begun = iso(since) if since else None
    return {"kind": kind, "id": id_, "title": title, "detail": detail, "since": begun, "link": link}
