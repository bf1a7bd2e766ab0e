"""Plans the endpoints that were asked about: claim, profile, decide, and record the decision with its event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from google.protobuf.message import Message
from prometheus_client import Counter, Histogram

from services.optimizer import messages, profiles, serving, serving_messages, serving_snapshot
from services.optimizer.market import KnowsMarket
from services.optimizer.profiler import ProfileError, WorkerError
from services.optimizer.profiles import ProfilesModels
from services.optimizer.serving_rates import ServingProfile
from services.optimizer.serving_snapshot import Inputs
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from services.optimizer.tables import EndpointPlanRow, EndpointRequestRow
from services.optimizer.values import Refusal
from sskai import claims, telemetry
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

ENDPOINT_PLANS = Counter("sskai_optimizer_endpoint_plans", "Decisions about endpoints, by outcome", ["outcome"])
ENDPOINT_DECISION_SECONDS = Histogram(
    "sskai_optimizer_endpoint_decision_seconds",
    "One decision about an endpoint over the whole catalogue, profile not included",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
)
LEASE_SECONDS = 20.0  # renewed meanwhile
MODEL_ADVICE = "Check model.config_json: it must be a causal language model that transformers ships."


@dataclass
class Decision:
    """What one request came to."""

    event: Message
    row: EndpointPlanRow
    market_text: str = ""


@dataclass
class EndpointPlanner:
    """`plan_waiting_endpoints` is a loop. Old plans go with those of jobs (`Planner.forget_old_plans`)."""

    database: Database
    settings: Settings
    profiler: ProfilesModels
    market: KnowsMarket

    async def plan_waiting_endpoints(self) -> None:
        """Until nothing is due."""
        while claimed := await claims.claim(self.database, EndpointRequestRow, limit=1, lease_seconds=LEASE_SECONDS):
            for request in claimed:
                with telemetry.tracer().start_as_current_span(
                    "plan endpoint",
                    context=telemetry.context_from(request.traceparent),
                    attributes={"sskai.tenant": request.tenant_id, "sskai.subject": request.plan_id},
                ):
                    async with claims.held(self.database, request, LEASE_SECONDS):
                        await self._plan(request)

    async def _plan(self, row: EndpointRequestRow) -> None:
        now = datetime.now(UTC)
        spec = events.EndpointSpec.FromString(row.spec)
        try:
            question = serving_messages.profile_question(spec)
            profile = ServingProfile(**await profiles.answer(self.database, self.profiler, question))
            decision = await self._decide(row, spec, profile, now)
        except ProfileError as error:
            decision = _without_profile(row, Refusal("model", str(error), MODEL_ADVICE), now)
        except WorkerError as error:
            if row.tries + 1 < profiles.MAX_TRIES:
                await self._try_again(row, error)
                return
            refusal = Refusal("model", f"it cannot be profiled: {error}", profiles.OUR_ADVICE)
            decision = _without_profile(row, refusal, now)
        async with self.database.transaction() as session:
            if not await claims.release(session, row, due_in_seconds=None):
                return
            await Store(session).save_plan(decision.row, decision.market_text)
            await tell(session, decision.event)
        outcome = "refused" if isinstance(decision.event, events.PlanRefused) else "proposed"
        ENDPOINT_PLANS.labels(outcome=outcome).inc()
        log.info("endpoint planned", plan_id=row.plan_id, outcome=outcome)

    async def _try_again(self, row: EndpointRequestRow, error: WorkerError) -> None:
        log.warning("profiling failed", plan_id=row.plan_id, tries=row.tries + 1, error=str(error))
        async with self.database.transaction() as session:
            await claims.release(session, row, due_in_seconds=2.0**row.tries, tries=row.tries + 1)

    async def _decide(
        self, row: EndpointRequestRow, spec: events.EndpointSpec, profile: ServingProfile, now: datetime
    ) -> Decision:
        async with self.database.transaction() as session:
            market = await self.market.at(Store(session), now)
        inputs = Inputs(serving_messages.spec_of(spec), profile, self.settings.assumptions, now)
        with ENDPOINT_DECISION_SECONDS.time():
            outcome = serving.plan_endpoint(
                inputs.spec,
                profile,
                machines=market.machines,
                offers=market.offers,
                assumptions=inputs.assumptions,
                now=now,
            )
        text, sha256 = serving_snapshot.freeze(inputs, market)
        event: Message
        if isinstance(outcome, Refusal):
            event = messages.refused(outcome, now, **_identity(row))
        else:
            event = serving_messages.proposed(
                outcome, inputs, market.machines, plan_id=row.plan_id, tenant_id=row.tenant_id, snapshot_hash=sha256
            )
        decided = _row(row, event, now)
        decided.inputs, decided.market_sha256, decided.snapshot_sha256 = text, market.hash, sha256
        return Decision(event, decided, market.text)


def _without_profile(row: EndpointRequestRow, refusal: Refusal, now: datetime) -> Decision:
    event = messages.refused(refusal, now, **_identity(row))
    return Decision(event, _row(row, event, now))


def _identity(row: EndpointRequestRow) -> dict[str, Any]:
    """Of a refusal, which is told in the words of a job that nobody submitted."""
    return {"job_id": row.plan_id, "tenant_id": row.tenant_id, "plan_id": row.plan_id, "preview": True}


def _row(row: EndpointRequestRow, event: Message, now: datetime) -> EndpointPlanRow:
    return EndpointPlanRow(
        plan_id=row.plan_id,
        tenant_id=row.tenant_id,
        inputs=None,
        market_sha256=None,
        snapshot_sha256=None,
        event=event.SerializeToString(deterministic=True),
        decided_at=now,
    )
