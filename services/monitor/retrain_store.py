"""Policies of retraining and suggestions in PostgreSQL.

Locked in this order, always: the endpoint, its policy, its suggestions.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from services.monitor import retraining
from services.monitor.domain import Rules
from services.monitor.retraining import Endpoint, Mode, Policy, Situation
from services.monitor.store import Store
from services.monitor.tables import EndpointRow, JobRow, ModelVersionRow, RetrainingRow, SuggestionRow
from sskai import cron
from sskai.contract import moment
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

WAITING, TOLD, APPROVED = "waiting", "told", "approved"
MAX_SHOWN = 20  # suggestions of an endpoint that are shown
SUGGESTIONS_KEPT = timedelta(days=90)
# So many endpoints of one tenant are looked at for one version of a dataset.
MAX_ENDPOINTS = 500


class RetrainStore:
    """One transaction's view."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.session = store.session

    # Policies

    async def set_policy(self, event: events.RetrainingPolicySet, now: datetime) -> RetrainingRow | None:
        """The policy as it was set; None: it is an older wish that came late, or another tenant's."""
        schedule = schedule_of(event.schedule)
        next_at = schedule.next_after(now) if schedule else None
        return await self._replace(
            event.endpoint_id,
            event.tenant_id,
            moment(event.set_at),
            mode=Mode(event.mode).value,
            on_drift=event.on_drift,
            on_new_dataset=event.on_new_dataset,
            schedule=event.schedule if schedule else "",
            data=event.data,
            cooldown_seconds=event.cooldown_seconds if event.HasField("cooldown_seconds") else None,
            budget_usd=event.budget_usd_per_month if event.HasField("budget_usd_per_month") else None,
            confirm_alarms=max(1, min(event.confirm_alarms, 1_000)),
            confirm_samples=min(event.confirm_samples, 1_000_000_000),
            max_job_budget_usd=event.max_job_budget_usd if event.HasField("max_job_budget_usd") else None,
            scheduled_for=next_at,
            due_at=next_at,
        )

    async def remove_policy(self, event: events.RetrainingPolicyRemoved) -> RetrainingRow | None:
        """The row without a policy; None as of `set_policy`."""
        gone = {"mode": "", "on_drift": False, "on_new_dataset": False, "schedule": "", "data": ""}
        return await self._replace(
            event.endpoint_id,
            event.tenant_id,
            moment(event.removed_at),
            **gone,
            cooldown_seconds=None,
            budget_usd=None,
            confirm_alarms=1,
            confirm_samples=0,
            max_job_budget_usd=None,
            scheduled_for=None,
            due_at=None,
        )

    async def _replace(self, endpoint_id: str, tenant_id: str, at: datetime, **values: Any) -> RetrainingRow | None:
        values |= {"set_at": at, "lease_until": None, "lease_token": None}
        fresh = {"endpoint_id": endpoint_id, "tenant_id": tenant_id, "alarms": {}, "dataset_name": ""}
        statement = upsert(RetrainingRow).values(**fresh, dataset_version=0, **values)
        kept = statement.on_conflict_do_update(
            index_elements=["endpoint_id"],
            set_=values,
            where=(RetrainingRow.tenant_id == tenant_id) & (RetrainingRow.set_at <= at),
        )
        if await self.session.scalar(kept.returning(RetrainingRow.endpoint_id)) is None:
            return None
        return await self.row(endpoint_id, tenant_id)

    async def row(self, endpoint_id: str, tenant_id: str) -> RetrainingRow | None:
        """The policy's row, locked, as it is now."""
        found = select(RetrainingRow).filter_by(endpoint_id=endpoint_id, tenant_id=tenant_id)
        return await self.session.scalar(found.with_for_update().execution_options(populate_existing=True))

    async def forget_endpoint(self, endpoint_id: str) -> None:
        await self.session.execute(delete(RetrainingRow).where(RetrainingRow.endpoint_id == endpoint_id))

    # What a decision is made on

    async def situation(self, endpoint: Endpoint, policy: Policy, now: datetime) -> Situation:
        made_by = await self._store.model_version(endpoint.model_id, endpoint.version)
        parent_job_id = made_by.job_id if made_by else ""
        parent = await self.session.get(JobRow, parent_job_id) if parent_job_id else None
        budget = parent.budget_nano_usd if parent else None
        newest = func.max(func.coalesce(SuggestionRow.decided_at, SuggestionRow.suggested_at))
        waiting = await self.waiting(endpoint.endpoint_id)
        return Situation(
            endpoint=endpoint,
            parent_job_id=parent_job_id,
            spent_usd=await self._store.retrain_spent_usd(endpoint.endpoint_id, retraining.budget_since(policy, now)),
            waiting=waiting.retrain_id if waiting else "",
            suggested_at=await self.session.scalar(
                # What was approved became a retrain, whose end counts.
                select(newest).where(SuggestionRow.endpoint_id == endpoint.endpoint_id, SuggestionRow.state != APPROVED)
            ),
            parent_budget_usd=None if budget is None else budget / NANO_PER_USD,
        )

    async def trained_on(self, endpoint: Endpoint) -> tuple[str, int]:
        """The dataset of the served version, and its newest version that a retrain took; ("", 0): nobody knows."""
        made_by = await self._store.model_version(endpoint.model_id, endpoint.version)
        job = await self.session.get(JobRow, made_by.job_id) if made_by else None
        if job is None or not job.dataset_name:
            return "", 0
        taken = select(func.max(JobRow.dataset_version)).where(
            JobRow.retrain_endpoint_id == endpoint.endpoint_id, JobRow.dataset_name == job.dataset_name
        )
        return job.dataset_name, max(job.dataset_version, await self.session.scalar(taken) or 0)

    async def wanting_dataset(self, tenant_id: str, name: str) -> Sequence[str]:
        """The endpoints whose policies wait for a version of this dataset, in order of their ids."""
        found = (
            select(RetrainingRow.endpoint_id)
            .join(EndpointRow, EndpointRow.endpoint_id == RetrainingRow.endpoint_id)
            .join(
                ModelVersionRow,
                (ModelVersionRow.model_id == EndpointRow.model_id) & (ModelVersionRow.version == EndpointRow.version),
            )
            .join(JobRow, JobRow.job_id == ModelVersionRow.job_id)
            .where(RetrainingRow.tenant_id == tenant_id, RetrainingRow.on_new_dataset, RetrainingRow.mode != "")
            .where(EndpointRow.tenant_id == tenant_id, JobRow.tenant_id == tenant_id, JobRow.dataset_name == name)
        )
        return (await self.session.scalars(found.order_by(RetrainingRow.endpoint_id).limit(MAX_ENDPOINTS))).all()

    # Suggestions

    async def waiting(self, endpoint_id: str) -> SuggestionRow | None:
        """The suggestion that somebody has to decide on, locked."""
        found = select(SuggestionRow).where(SuggestionRow.endpoint_id == endpoint_id, SuggestionRow.state == WAITING)
        return await self.session.scalar(found.with_for_update())

    async def suggestion(self, retrain_id: str) -> SuggestionRow | None:
        """Locked."""
        return await self.session.get(SuggestionRow, retrain_id, with_for_update=True)

    async def suggest(self, event: events.RetrainSuggested) -> None:
        waits = event.HasField("expires_at")
        expires_at = moment(event.expires_at) if waits else None
        # Not through the object: there an absent `due_at` would become the column's default, which is now.
        await self.session.execute(
            insert(SuggestionRow).values(
                retrain_id=event.retrain_id,
                endpoint_id=event.endpoint_id,
                tenant_id=event.tenant_id,
                model_id=event.model_id,
                version=event.version,
                reason=event.reason,
                detail=event.detail,
                data=event.data,
                state=WAITING if waits else TOLD,
                suggested_at=moment(event.suggested_at),
                expires_at=expires_at,
                due_at=expires_at,
                decided_by="",
            )
        )

    async def shown(self, endpoint_id: str, tenant_id: str) -> Sequence[SuggestionRow]:
        """The newest of an endpoint, waiting ones and others."""
        found = select(SuggestionRow).filter_by(endpoint_id=endpoint_id, tenant_id=tenant_id)
        return (await self.session.scalars(found.order_by(SuggestionRow.suggested_at.desc()).limit(MAX_SHOWN))).all()

    async def forget(self, now: datetime) -> None:
        """Suggestions that were over long ago."""
        old = SuggestionRow.suggested_at < now - SUGGESTIONS_KEPT
        await self.session.execute(delete(SuggestionRow).where(old, SuggestionRow.state != WAITING))


def policy_of(row: RetrainingRow | None, rules: Rules) -> Policy:
    """The owner's, where there is one; else the operator's."""
    if row is None or not row.mode:
        return retraining.operators_policy(rules)
    cooldown_seconds = rules.retrain_cooldown_seconds if row.cooldown_seconds is None else row.cooldown_seconds
    return Policy(
        mode=Mode(row.mode),
        on_drift=row.on_drift,
        on_new_dataset=row.on_new_dataset,
        schedule=row.schedule,
        data=row.data,
        cooldown_seconds=cooldown_seconds,
        budget_usd=row.budget_usd,
        confirm_alarms=row.confirm_alarms,
        confirm_samples=row.confirm_samples,
        max_job_budget_usd=row.max_job_budget_usd,
        by_owner=True,
    )


def schedule_of(text: str) -> cron.Schedule | None:
    """The gateway lets only schedules through; what another teller writes and is none is as none."""
    try:
        return cron.parse(text) if text else None
    except cron.ScheduleError:
        return None
