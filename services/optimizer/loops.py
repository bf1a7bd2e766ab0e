"""Makes the plans that handlers asked for: claim, profile, decide, and record the decision with its event."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from google.protobuf.message import Message
from prometheus_client import Counter, Histogram

from services.optimizer import domain, messages, profiles, snapshot
from services.optimizer.markets import KnowsMarket, Markets
from services.optimizer.profiler import ProfileError, WorkerError
from services.optimizer.profiles import ProfilesModels
from services.optimizer.settings import Settings
from services.optimizer.snapshot import Inputs
from services.optimizer.store import PlanningRow, PlanRow, Store
from services.optimizer.values import Plan, Refusal
from services.optimizer.work import ModelProfile, Request
from sskai import claims, telemetry
from sskai.contract import new_id
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

PLANS = Counter("sskai_optimizer_plans", "Decisions, by outcome", ["outcome"])
DECISION_SECONDS = Histogram(
    "sskai_optimizer_decision_seconds",
    "One decision over the whole catalogue, profile not included",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
)
# The profiling worker is started anew for each try; a model that kills it three times is the model's fault.
MAX_TRIES = 3
CLAIMED_AT_ONCE = 4
MODEL_ADVICE = "Check model.config_json, method, rank and target_modules against what transformers and peft accept."


@dataclass
class Decision:
    """What one planning request came to."""

    event: Message
    row: PlanRow
    market_text: str = ""


@dataclass
class Planner:
    """`plan_waiting_jobs` and `forget_old_plans` are loops."""

    database: Database
    settings: Settings
    profiler: ProfilesModels
    market: KnowsMarket = field(default_factory=Markets)

    async def plan_waiting_jobs(self) -> None:
        """Until nothing is due."""
        while True:
            # As long as each may take its full time, one after the other.
            lease_seconds = CLAIMED_AT_ONCE * (self.settings.profile_limit_seconds + 120)
            claimed = await claims.claim(self.database, PlanningRow, limit=CLAIMED_AT_ONCE, lease_seconds=lease_seconds)
            if not claimed:
                return
            for request in claimed:
                with telemetry.tracer().start_as_current_span(
                    "plan job",
                    context=telemetry.context_from(request.traceparent),
                    attributes={"sskai.tenant": request.tenant_id, "sskai.subject": request.job_id},
                ):
                    await self._plan(request)

    async def forget_old_plans(self) -> None:
        """Plans, and what only they need, past their retention."""
        moment = datetime.now(UTC) - timedelta(days=self.settings.plan_retention_days)
        async with self.database.transaction() as session:
            await Store(session).forget_before(moment)

    async def _plan(self, row: PlanningRow) -> None:
        now = datetime.now(UTC)
        spec = events.JobSpec.FromString(row.spec)
        request = messages.request_of(spec)
        try:
            decision = await self._decide(row, request, await self._profile(spec, request), now)
        except ProfileError as error:
            decision = self._without_profile(row, request, str(error), now)
        except WorkerError as error:
            if row.tries + 1 < MAX_TRIES:
                await self._try_again(row, error)
                return
            decision = self._without_profile(row, request, f"it cannot be profiled: {error}", now)
        async with self.database.transaction() as session:
            if not await claims.release(session, row, due_in_seconds=None):
                return
            await Store(session).save_plan(decision.row, decision.market_text)
            await tell(session, decision.event)
        outcome = "proposed" if isinstance(decision.event, events.PlanProposed) else "refused"
        PLANS.labels(outcome=outcome).inc()
        log.info("planned", job_id=row.job_id, cause=row.cause, outcome=outcome, plan_id=decision.row.plan_id)

    async def _try_again(self, row: PlanningRow, error: WorkerError) -> None:
        log.warning("profiling failed", job_id=row.job_id, tries=row.tries + 1, error=str(error))
        async with self.database.transaction() as session:
            await claims.release(session, row, due_in_seconds=2.0**row.tries, tries=row.tries + 1)

    async def _profile(self, spec: events.JobSpec, request: Request) -> ModelProfile:
        return ModelProfile(
            **await profiles.answer(self.database, self.profiler, messages.profile_question(spec, request))
        )

    async def _decide(self, row: PlanningRow, request: Request, profile: ModelProfile, now: datetime) -> Decision:
        async with self.database.transaction() as session:
            store = Store(session)
            denied_since = now - timedelta(seconds=self.settings.denial_seconds)
            history = await store.history(row, denied_since, now)
            market = await self.market.at(store, now)
        inputs = Inputs(request, profile, self.settings.assumptions, now, history)
        with DECISION_SECONDS.time():
            outcome = domain.plan(
                request,
                profile,
                machines=market.machines,
                offers=market.offers,
                assumptions=inputs.assumptions,
                now=now,
                history=history,
            )
        text, sha256 = snapshot.freeze(inputs, market)
        plan_id = new_id("plan")
        event: Message
        if isinstance(outcome, Refusal):
            event = messages.refused(outcome, now, **_identity(row, plan_id))
        else:
            event = messages.proposed(outcome, inputs, market, snapshot_hash=sha256, **_identity(row, plan_id))
        decided = _row(row, plan_id, request, event, now)
        decided.inputs, decided.market_sha256, decided.snapshot_sha256 = text, market.hash, sha256
        if isinstance(outcome, Plan):
            decided.micro_batch_size = outcome.candidates[0].pace.micro_batch_size
            decided.roofline_step_seconds = {
                each.pace.machine.instance_type: [each.pace.machine.hardware, each.pace.roofline_step_seconds]
                for each in outcome.candidates
            }
        return Decision(event, decided, market.text)

    def _without_profile(self, row: PlanningRow, request: Request, reason: str, now: datetime) -> Decision:
        plan_id = new_id("plan")
        refusal = Refusal("model", reason, MODEL_ADVICE)
        event = messages.refused(refusal, now, **_identity(row, plan_id))
        return Decision(event, _row(row, plan_id, request, event, now))


def _identity(row: PlanningRow, plan_id: str) -> dict[str, Any]:
    return {
        "job_id": row.job_id,
        "tenant_id": row.tenant_id,
        "plan_id": plan_id,
        "preview": row.preview,
        "after_attempt": row.after_attempt,
    }


def _row(row: PlanningRow, plan_id: str, request: Request, event: Message, now: datetime) -> PlanRow:
    return PlanRow(
        **_identity(row, plan_id),
        micro_batch_size=0,
        method=request.method,
        roofline_step_seconds={},
        inputs=None,
        market_sha256=None,
        snapshot_sha256=None,
        event=event.SerializeToString(deterministic=True),
        decided_at=now,
    )
