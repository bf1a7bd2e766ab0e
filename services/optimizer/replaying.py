"""A replay as the contract tells it."""

from __future__ import annotations

from datetime import datetime

from services.optimizer import (
    domain,
    messages,
    replay,
    serving,
    serving_messages,
    serving_snapshot,
)
from services.optimizer.replay import Decision
from services.optimizer.tables import EndpointPlanRow, PlanRow
from services.optimizer.values import Candidate, Plan, Refusal
from sskai import contract
from sskai.events import v1 as events


def replayed(
    event: events.PlanReplayRequested, found: tuple[PlanRow | EndpointPlanRow, str] | None, now: datetime
) -> events.PlanReplayed:
    """The answer: equal to the bit or not, and what the policy asked for would have taken."""
    told = events.PlanReplayed(
        plan_id=event.plan_id,
        tenant_id=event.tenant_id,
        replay_id=event.replay_id,
        policy=event.policy,
        planner_version=domain.PLANNER_VERSION,
        replayed_at=contract.timestamp(now),
    )
    if found is None:
        told.problem = "there is no such plan, or it is past its retention"
        return told
    row, market_text = found
    if row.inputs is None:
        told.problem = "the model could not be profiled: there was nothing to decide"
        return told
    told.snapshot_hash = row.snapshot_sha256 or ""
    if isinstance(row, EndpointPlanRow):
        return _endpoint_replayed(told, row, row.inputs, market_text)
    told.stored_planner_version = row.planner_version
    try:
        as_it_was = replay.decide(row.inputs, market_text)
        other = replay.decide(row.inputs, market_text, event.policy) if event.policy else as_it_was
    except ValueError as error:  # pydantic's is one, too: an older version's inputs
        told.problem = " ".join(str(error).split())[:500]
        return told
    again = _event(as_it_was, row)
    told.equal = again == row.event
    stored, choice = replay.chosen(as_it_was.outcome), replay.chosen(other.outcome)
    if not told.equal:
        told.differences.append(_unequal(row, as_it_was))
    if event.policy:
        told.differences.extend(replay.differences(stored, choice, event.policy))
    if stored is not None:
        told.stored_choice.CopyFrom(_candidate(stored, as_it_was))
    if choice is not None:
        told.choice.CopyFrom(_candidate(choice, other))
    outcome = other.outcome
    told.explanation = outcome.explanation if isinstance(outcome, Plan) else f"{outcome.detail} {outcome.advice}"
    return told


def _endpoint_replayed(
    told: events.PlanReplayed, row: EndpointPlanRow, inputs_text: str, market_text: str
) -> events.PlanReplayed:
    """Of an endpoint's plan: its event tells the version, and policies are not for it."""
    told.planner_version = serving.VERSION
    if told.policy:
        told.problem = "this is the plan of an endpoint: policies are for jobs, replay it without one"
        return told
    try:
        arguments = serving_snapshot.thaw(inputs_text, market_text)
    except ValueError as error:
        told.problem = " ".join(str(error).split())[:500]
        return told
    outcome = serving.plan_endpoint(**arguments)
    if isinstance(outcome, Refusal):
        again = messages.refused(
            outcome, arguments["now"], job_id=row.plan_id, tenant_id=row.tenant_id, plan_id=row.plan_id, preview=True
        ).SerializeToString(deterministic=True)
        told.explanation = f"{outcome.detail} {outcome.advice}"
    else:
        proposal = serving_messages.proposed(
            outcome,
            serving_snapshot.Inputs(*(arguments[name] for name in ("spec", "profile", "assumptions", "now"))),
            arguments["machines"],
            plan_id=row.plan_id,
            tenant_id=row.tenant_id,
            snapshot_hash=row.snapshot_sha256 or "",
        )
        again = proposal.SerializeToString(deterministic=True)
        told.stored_planner_version = events.EndpointPlanProposed.FromString(row.event).planner_version
        told.explanation = outcome.explanation
    told.equal = again == row.event
    if not told.equal:
        told.differences.append("the stored options are not those that come out now")
    return told


def _event(decision: Decision, row: PlanRow) -> bytes:
    """The event that this decision would be told as, as bytes."""
    identity = {
        "job_id": row.job_id,
        "tenant_id": row.tenant_id,
        "plan_id": row.plan_id,
        "preview": row.preview,
        "after_attempt": row.after_attempt,
    }
    if not isinstance(decision.outcome, Plan):
        refusal = messages.refused(decision.outcome, decision.inputs.now, **identity)
        return refusal.SerializeToString(deterministic=True)
    proposal = messages.proposed(
        decision.outcome,
        decision.inputs,
        decision.market,
        snapshot_hash=row.snapshot_sha256 or "",
        cause=row.cause,
        **identity,
    )
    return proposal.SerializeToString(deterministic=True)


def _unequal(row: PlanRow, decision: Decision) -> str:
    if row.planner_version != domain.PLANNER_VERSION:
        return f"planner version {row.planner_version} had decided, {domain.PLANNER_VERSION} decides now"
    kind = "a plan" if isinstance(decision.outcome, Plan) else "a refusal"
    return f"the same planner version came to {kind} that is not the stored one: please report it"


def _candidate(candidate: Candidate, decision: Decision) -> events.Candidate:
    return messages.candidate(candidate, decision.inputs.now, decision.inputs.assumptions)
