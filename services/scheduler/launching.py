"""Which placement a queued job gets now, why it waits otherwise, and what its pod is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from google.protobuf import json_format
from google.protobuf.message import Message

from services.scheduler import domain, policy, standby
from services.scheduler.cluster import Pod
from services.scheduler.domain import Attempt, Job
from services.scheduler.policy import Action, Mode, Situation
from services.scheduler.settings import Settings
from sskai import telemetry
from sskai.events import v1 as events

# A paid machine must not outlive everything that could end it: three times the plan and a day, and at most a month.
MIN_LIFETIME_SECONDS = 24 * 3600.0
LIFETIME_FACTOR = 3.0
MAX_LIFETIME_SECONDS = 30 * 24 * 3600.0

MODES = {events.SPOT_POLICY_SPOT: Mode.SPOT, events.SPOT_POLICY_ON_DEMAND: Mode.ON_DEMAND}


@dataclass(frozen=True, slots=True)
class Choice:
    """A placement to launch on, or the rule that holds the job."""

    placement: events.Placement | None
    rule: str
    detail: str = ""
    again_in_seconds: float = 5.0


def on_spot(placement: events.Placement) -> bool:
    return placement.capacity_type == events.CAPACITY_TYPE_SPOT


def runs_on_spot(job: Job) -> bool:
    return job.attempt is not None and on_spot(job.attempt.placement)


def offers_left(job: Job, now: datetime, capacity_type: events.CapacityType) -> list[events.Placement]:
    """The plan's placements of one kind, best first, less those that had no machine a short while ago."""
    candidates = job.plan.candidates if job.plan else []
    return [
        candidate.placement
        for candidate in candidates
        if candidate.placement.capacity_type == capacity_type
        and job.denied_until.get(domain.offer_of(candidate.placement), now) <= now
    ]


def decide(job: Job, now: datetime, settings: Settings) -> policy.Decision:
    """Ask the policy."""
    assert job.plan is not None
    profile = job.plan.profile
    best = job.plan.candidates[0]
    step_seconds = job.step_seconds or best.step_seconds.expected
    total = profile.total_steps * step_seconds
    planned_seconds = (profile.steps_left or profile.total_steps) * best.step_seconds.expected
    left = max(0, profile.total_steps - job.steps_saved) * step_seconds
    running = None
    if job.state.has_attempt and job.attempt is not None:
        running = Action.SPOT if runs_on_spot(job) else Action.ON_DEMAND
        left = max(0, profile.total_steps - job.steps_told) * step_seconds
    return policy.decide(
        Situation(
            elapsed_seconds=(now - job.submitted_at).total_seconds(),
            deadline_seconds=(job.deadline - job.submitted_at).total_seconds() if job.deadline else None,
            work_seconds=total,
            work_left_seconds=left,
            # What the plan counts besides steps: start-up, downloads, the final save.
            restart_seconds=max(0.0, best.hours.expected * 3600 - planned_seconds),
            running_on=running,
            spot_available=bool(offers_left(job, now, events.CAPACITY_TYPE_SPOT)),
            mode=MODES.get(job.spec.spot_policy, Mode.AUTO),
            waited_seconds=(now - job.waiting_since).total_seconds() if job.waiting_since else 0.0,
            patience_seconds=settings.patience_seconds,
        )
    )


def choose(job: Job, now: datetime, settings: Settings) -> Choice:
    """The best placement of the kind that the policy wants."""
    if job.plan is None or not job.plan.candidates:
        return Choice(None, "no-plan", "the optimizer has not answered yet")
    decision = decide(job, now, settings)
    if decision.action is Action.WAIT:
        return Choice(None, "waiting-for-spot", "no spot capacity now; progress is ahead of its line", 1.0)
    wanted = events.CAPACITY_TYPE_SPOT if decision.action is Action.SPOT else events.CAPACITY_TYPE_ON_DEMAND
    placements = offers_left(job, now, wanted)
    if not placements:
        return Choice(None, "no-capacity", f"every planned {decision.action} offer was denied; trying again", 5.0)
    return Choice(placements[0], decision.rule)


def hold(job: Job, rule: str, detail: str, now: datetime, seconds: float) -> tuple[Job, list[Message]]:
    """Look again later; the rule is told once, not at every look."""
    told: list[Message] = []
    if job.held_rule != rule:
        told.append(events.JobHeld(job_id=job.job_id, tenant_id=job.tenant_id, rule=rule, detail=detail, held_at=now))
    return replace(job, held_rule=rule, due_at=now + timedelta(seconds=seconds)), told


def candidate_of(job: Job, placement: events.Placement) -> events.Candidate:
    """What was planned for the placement that `choose` took: the best candidate there, with its number of machines."""
    assert job.plan is not None
    offer = domain.offer_of(placement)
    return next(candidate for candidate in job.plan.candidates if domain.offer_of(candidate.placement) == offer)


def planned_for(job: Job, attempt: Attempt) -> events.Candidate:
    """What the attempt was chosen by, whatever newer plans say."""
    if attempt.planned is not None:
        return attempt.planned
    # An attempt that an older release began.
    assert job.plan is not None
    offer = domain.offer_of(attempt.placement)
    found = (one for one in job.plan.candidates if domain.offer_of(one.placement) == offer and one.machine_count <= 1)
    return next(found, job.plan.candidates[0])


def lifetime_seconds(planned: events.Candidate) -> float:
    """After so long the cluster ends a pod by itself: far beyond what it was planned for, and never for ever."""
    expected = max(planned.hours.expected, planned.hours.high) * domain.SECONDS_PER_HOUR
    return min(MAX_LIFETIME_SECONDS, MIN_LIFETIME_SECONDS + LIFETIME_FACTOR * expected)


def pod(job: Job, attempt: Attempt, settings: Settings) -> Pod:
    """The pod of an attempt. What it needs to know stands in its environment; services/trainer/README.md."""
    assert job.plan is not None
    profile = job.plan.profile
    planned = planned_for(job, attempt)
    left = domain.budget_left_nano_usd(job)
    work = f"s3://{settings.objects_bucket}/jobs/{job.job_id}"
    env = dict(job.spec.env) | {
        "SSKAI_JOB_ID": job.job_id,
        "SSKAI_TENANT_ID": job.tenant_id,
        "SSKAI_ATTEMPT": str(attempt.number),
        "SSKAI_JOB_SPEC": json_format.MessageToJson(job.spec, indent=None, preserving_proto_field_name=True),
        "SSKAI_PLAN": json.dumps(
            {
                "total_steps": profile.total_steps,
                "batch_size": profile.batch_size,
                "micro_batch_size": planned.micro_batch_size,
                "sequence_length": profile.sequence_length,
                "learning_rate": profile.learning_rate,
                "checkpoint_interval_steps": planned.checkpoint_interval_steps or job.plan.checkpoint_interval_steps,
                "gradient_checkpointing": planned.gradient_checkpointing,
            }
        ),
        "SSKAI_WORK_URI": work,
        "SSKAI_DEADLINE": job.deadline.isoformat() if job.deadline else "",
        "SSKAI_BUDGET_LEFT_USD": "" if left is None else str(left / domain.NANO),
        "SSKAI_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SSKAI_OBJECTS_URL": settings.objects_url,
        "SSKAI_OBJECTS_BUCKET": settings.objects_bucket,
        "SSKAI_OBJECTS_ACCESS_KEY": settings.objects_access_key,
        "SSKAI_OBJECTS_SECRET_KEY": settings.objects_secret_key.get_secret_value(),
        "SSKAI_OTLP_URL": settings.otlp_url or "",
        "SSKAI_MODELS_DIR": str(settings.models_dir),
        "TRACEPARENT": telemetry.current_traceparent() or job.traceparent,
    }
    awaited = job.attempt if job.stands_by(attempt.number) else None
    if awaited is not None:
        env["SSKAI_AWAITS"] = standby.awaits(job)
    if job.steps_told and job.told_at is not None:
        earlier = awaited.number if awaited is not None else attempt.number - 1
        env["SSKAI_PREVIOUS"] = json.dumps({"attempt": earlier, "step": job.steps_told, "at": job.told_at.isoformat()})
    return Pod(
        job.job_id,
        job.tenant_id,
        attempt.number,
        attempt.placement,
        env,
        tuple(job.spec.secrets),
        machines=attempt.machines,
        lifetime_seconds=lifetime_seconds(planned),
    )
