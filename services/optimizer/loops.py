"""Makes the plans that handlers asked for: claim, profile, decide, and record the decision with its event."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from google.protobuf.message import Message
from prometheus_client import Counter, Histogram

from services.optimizer import domain, messages, profiles, snapshot, throughput
from services.optimizer.market import LiveMarket
from services.optimizer.memory import ModelProfile
from services.optimizer.profiler import ProfileError, WorkerError
from services.optimizer.profiles import ProfilesCode, ProfilesModels
from services.optimizer.settings import Settings
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.store import Store
from services.optimizer.tables import PlanningRow, PlanRow
from services.optimizer.throughput import Measured
from services.optimizer.values import Plan, Refusal
from services.optimizer.work import Request
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
LEASE_SECONDS = 20.0  # renewed meanwhile: a model may take minutes, but a job waits no longer for a dead planner
CHECKED_AT_ONCE = 50
# Hysteresis in time: a plan is given so long before prices may overturn it.
MOVE_COOLDOWN_SECONDS = 600.0
MODEL_ADVICE = "Check model.config_json, method, rank and target_modules against what transformers and peft accept."
CODE_ADVICE = "Correct model.py or data.py and upload the zip again."
LONG_AGO = datetime.fromtimestamp(0, UTC)


@dataclass
class Decision:
    """What one planning request came to."""

    event: Message
    row: PlanRow
    market_text: str = ""
    measured: tuple[Measured, ...] = ()


@dataclass
class Planner:
    """`plan_waiting_jobs` and `forget_old_plans` are loops."""

    database: Database
    settings: Settings
    profiler: ProfilesModels
    user_profiler: ProfilesCode
    market: LiveMarket = field(init=False)
    _held_against: str = field(default="", init=False)  # the market that waiting jobs were last held against
    _held_before: datetime = field(default=LONG_AGO, init=False)  # as far as they were planned by then

    def __post_init__(self) -> None:
        self.market = LiveMarket(self.settings.local_machine_types, self.settings.price_stale_seconds)

    async def plan_waiting_jobs(self) -> None:
        """Until nothing is due."""
        while claimed := await claims.claim(self.database, PlanningRow, limit=1, lease_seconds=LEASE_SECONDS):
            for request in claimed:
                with telemetry.tracer().start_as_current_span(
                    "plan job",
                    context=telemetry.context_from(request.traceparent),
                    attributes={"sskai.tenant": request.tenant_id, "sskai.subject": request.job_id},
                ):
                    async with claims.held(self.database, request, LEASE_SECONDS):
                        await self._plan(request)

    async def forget_old_plans(self) -> None:
        """Plans, and what only they need, past their retention."""
        moment = datetime.now(UTC) - timedelta(days=self.settings.plan_retention_days)
        async with self.database.transaction() as session:
            await Store(session).forget_before(moment)

    async def replan_where_prices_moved(self) -> None:
        """Ask for a new plan of each job that waits and for which newer prices make another placement well worth it.

        A job with a running attempt is left alone: what it runs on is the scheduler's to change. Each plan is held
        against a market once: as soon as its cooldown is over.
        """
        now = datetime.now(UTC)
        async with self.database.transaction() as session:
            market = await self.market.at(Store(session), now)
        since = self._held_before if market.hash == self._held_against else LONG_AGO
        before = now - timedelta(seconds=MOVE_COOLDOWN_SECONDS)
        after = ""
        while True:
            async with self.database.transaction() as session:
                store = Store(session)
                waiting = await store.waiting_jobs(
                    after, decided_since=since, decided_before=before, limit=CHECKED_AT_ONCE
                )
                for job, plan in waiting:
                    if plan.market_sha256 != market.hash and self._prices_moved(plan, market):
                        await store.ask_for_plan(job, f"price-moved {market.hash[:16]}", now)
            if len(waiting) < CHECKED_AT_ONCE:
                break
            after = waiting[-1][0].job_id
        self._held_against, self._held_before = market.hash, before

    @staticmethod
    def _prices_moved(plan: PlanRow, market: Market) -> bool:
        told = events.PlanProposed.FromString(plan.event).candidates[0]
        assert plan.inputs is not None
        try:
            inputs = snapshot.thaw_inputs(plan.inputs)
        except ValueError:  # another version's: there is nothing to hold against the market
            return False
        current = (messages.offer_key(told.placement), max(told.machine_count, 1))
        outcome = _decided(inputs, market)
        if not isinstance(outcome, Plan):
            return False
        # The list of candidates is short: what is not on it may still do, and be hardly dearer.
        own = _decided(inputs, Market(market.machines, tuple(each for each in market.offers if each.key == current[0])))
        if isinstance(own, Plan):
            outcome = replace(outcome, candidates=(*outcome.candidates, *own.candidates))
        return domain.worth_moving(current, outcome)

    async def _plan(self, row: PlanningRow) -> None:
        now = datetime.now(UTC)
        spec = events.JobSpec.FromString(row.spec)
        request = messages.request_of(spec)
        try:
            profile, request = await self._profile(spec, request)
            decision = await self._decide(row, request, profile, now)
        except ProfileError as error:
            advice = CODE_ADVICE if spec.model.code_uri else MODEL_ADVICE
            decision = self._without_profile(row, request, Refusal("model", str(error), advice), now)
        except WorkerError as error:
            if row.tries + 1 < profiles.MAX_TRIES:
                await self._try_again(row, error)
                return
            refusal = Refusal("model", f"it cannot be profiled: {error}", profiles.OUR_ADVICE)
            decision = self._without_profile(row, request, refusal, now)
        async with self.database.transaction() as session:
            if not await claims.release(session, row, due_in_seconds=None):
                return
            store, decided = Store(session), decision.row
            if decided.throughput_version:
                await store.remember_correction(decided.throughput_version, decision.measured, decided.decided_at)
            await store.save_plan(decided, decision.market_text)
            await tell(session, decision.event)
        outcome = "proposed" if isinstance(decision.event, events.PlanProposed) else "refused"
        PLANS.labels(outcome=outcome).inc()
        log.info("planned", job_id=row.job_id, cause=row.cause, outcome=outcome, plan_id=decision.row.plan_id)

    async def _try_again(self, row: PlanningRow, error: WorkerError) -> None:
        log.warning("profiling failed", job_id=row.job_id, tries=row.tries + 1, error=str(error))
        async with self.database.transaction() as session:
            await claims.release(session, row, due_in_seconds=2.0**row.tries, tries=row.tries + 1)

    async def _profile(self, spec: events.JobSpec, request: Request) -> tuple[ModelProfile, Request]:
        """The profile, and the request with what only the profile knows."""
        if spec.model.code_uri:
            counts = await profiles.of_code(self.database, self.user_profiler, spec.model.code_uri)
            return profiles.own_model(counts, request)
        if request.dataset_format in (messages.CLASSIFIED_PICTURES, messages.DESCRIBED_PICTURES):
            request = messages.of_pictures(request)
        question = messages.profile_question(spec, request)
        return profiles.model_profile(await profiles.answer(self.database, self.profiler, question)), request

    async def _decide(self, row: PlanningRow, request: Request, profile: ModelProfile, now: datetime) -> Decision:
        async with self.database.transaction() as session:
            store = Store(session)
            denied_since = now - timedelta(seconds=self.settings.denial_seconds)
            history = await store.history(row, denied_since, now)
            market = await self.market.at(store, now)
        inputs = Inputs(request, profile, self.settings.assumptions, now, history)
        with DECISION_SECONDS.time():
            outcome = _decided(inputs, market)
        text, sha256 = snapshot.freeze(inputs, market)
        plan_id = new_id("plan")
        event: Message
        if isinstance(outcome, Refusal):
            event = messages.refused(outcome, now, **_identity(row, plan_id))
        else:
            event = messages.proposed(
                outcome, inputs, market, snapshot_hash=sha256, cause=_cause(row), **_identity(row, plan_id)
            )
        decided = _row(row, plan_id, request, event, now)
        decided.inputs, decided.market_sha256, decided.snapshot_sha256 = text, market.hash, sha256
        if isinstance(outcome, Plan):
            decided.micro_batch_size = outcome.candidates[0].pace.micro_batch_size
            # Of several numbers of machines of one type, the best-ranked one is taken.
            decided.expected_steps = {
                each.pace.machine.instance_type: {
                    "family": each.pace.machine.family,
                    "hardware": each.pace.machine.hardware,
                    "seconds": each.pace.roofline_step_seconds,
                    "tokens": each.pace.tokens_per_micro_batch,
                }
                for each in reversed(outcome.candidates)
            }
            decided.throughput_version = throughput.version(history.measured)
        return Decision(event, decided, market.text, history.measured)

    def _without_profile(self, row: PlanningRow, request: Request, refusal: Refusal, now: datetime) -> Decision:
        plan_id = new_id("plan")
        event = messages.refused(refusal, now, **_identity(row, plan_id))
        return Decision(event, _row(row, plan_id, request, event, now))


def _decided(inputs: Inputs, market: Market) -> Plan | Refusal:
    return domain.plan(
        inputs.request,
        inputs.profile,
        machines=market.machines,
        offers=market.offers,
        assumptions=inputs.assumptions,
        now=inputs.now,
        history=inputs.history,
    )


# The causes of requests as the contract names them: the first word of what was written down.
CAUSES = {"attempt": "requeued"}


def _cause(row: PlanningRow) -> str:
    word = row.cause.partition(" ")[0]
    return CAUSES.get(word, word)


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
        expected_steps={},
        planner_version=domain.PLANNER_VERSION,
        throughput_version="",
        cause=_cause(row),
        inputs=None,
        market_sha256=None,
        snapshot_sha256=None,
        event=event.SerializeToString(deterministic=True),
        decided_at=now,
    )
