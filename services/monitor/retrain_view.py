"""`GET /v1/retraining/{endpoint_id}`: an endpoint's policy, what waits for somebody, what the rules would say now."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI

from services.monitor import retraining
from services.monitor.domain import Rules
from services.monitor.retrain_store import WAITING, RetrainStore, policy_of
from services.monitor.retraining import Endpoint, Policy
from services.monitor.store import Store
from services.monitor.tables import RetrainingRow, SuggestionRow
from sskai.database import Database
from sskai.http import Problem
from sskai.internal import Tenant


def add(app: FastAPI, database: Database, rules: Rules) -> None:
    """The route."""

    @app.get("/v1/retraining/{endpoint_id}")
    async def shown(endpoint_id: str, tenant_id: Tenant) -> dict[str, Any]:
        async with database.transaction() as session:
            store = Store(session, rules)
            endpoint = await store.endpoint(endpoint_id) or Endpoint(endpoint_id, tenant_id)
            if endpoint.tenant_id != tenant_id:
                raise Problem(404, "Not found", f"no endpoint {endpoint_id[:120]!r}")
            row = await RetrainStore(store).row(endpoint_id, tenant_id)
            return await _document(endpoint, row, store, datetime.now(UTC))


async def _document(endpoint: Endpoint, row: RetrainingRow | None, store: Store, now: datetime) -> dict[str, Any]:
    policy, retrains = policy_of(row, store.rules), RetrainStore(store)
    situation = await retrains.situation(endpoint, policy, now)
    refusal = retraining.refuse(situation, policy, store.rules, now)
    suggestions = await retrains.shown(endpoint.endpoint_id, endpoint.tenant_id)
    in_flight = endpoint.retrain_in_flight(now)
    return {
        "policy": _policy(policy),
        "set_by": "owner" if policy.by_owner else "operator",
        "next_at": row.scheduled_for if row else None,
        "spent_usd": situation.spent_usd,
        "spent_since": retraining.budget_since(policy, now),
        "in_flight": {"retrain_id": endpoint.retrain_id, "job_id": endpoint.retrain_job_id} if in_flight else None,
        "refused_now": asdict(refusal) if refusal else None,
        "pending": [_suggestion(one) for one in suggestions if one.state == WAITING],
        "suggestions": [_suggestion(one) for one in suggestions],
    }


def _policy(policy: Policy) -> dict[str, Any]:
    """In the words in which the gateway takes one."""
    return {
        "mode": policy.mode,
        "on": {"drift": policy.on_drift, "new_dataset": policy.on_new_dataset, "schedule": policy.schedule or None},
        "data": policy.data or "dataset",
        "budget_usd_per_month": policy.budget_usd,
        "cooldown": f"{policy.cooldown_seconds:.6f}".rstrip("0").rstrip(".") + "s",
        "confirmations": {"alarms": policy.confirm_alarms, "samples": policy.confirm_samples},
        "max_job_budget_usd": policy.max_job_budget_usd,
    }


def _suggestion(row: SuggestionRow) -> dict[str, Any]:
    names = ("retrain_id", "model_id", "version", "reason", "detail", "data", "state", "suggested_at", "expires_at")
    return {name: getattr(row, name) for name in (*names, "decided_at", "decided_by")}
