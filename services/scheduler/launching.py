"""By which candidate an attempt was planned, and what its pod is told."""

from __future__ import annotations

import json

from google.protobuf import json_format

from services.scheduler import domain, standby, tracing
from services.scheduler.domain import Attempt, Job
from services.scheduler.settings import Settings
from sskai import telemetry
from sskai.cluster import Pod, offer_of, pods
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD
from sskai.objects import uri_of

# A paid machine must not outlive everything that could end it: three times the plan and a day, and at most a month.
MIN_LIFETIME_SECONDS = 24 * 3600.0
LIFETIME_FACTOR = 3.0
MAX_LIFETIME_SECONDS = 30 * 24 * 3600.0


def planned_for(job: Job, attempt: Attempt) -> events.Candidate:
    """What the attempt was chosen by, whatever newer plans say."""
    if attempt.planned is not None:
        return attempt.planned
    # An attempt that an older release began.
    assert job.plan is not None
    offer = offer_of(attempt.placement)
    found = (one for one in job.plan.candidates if offer_of(one.placement) == offer and one.machine_count <= 1)
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
                "interruptions_per_hour": planned.interruptions_per_hour,
                "shard": planned.shard,
                "packed_sequences": profile.packed_sequences,
            }
        ),
        # As many processes on each machine as its speed was predicted for; 0 (an older plan): one for each GPU.
        "SSKAI_TRAINER_WORKERS": str(planned.workers // attempt.machines),
        "SSKAI_WORK_URI": uri_of(settings.objects_bucket, f"jobs/{job.job_id}"),
        "SSKAI_DEADLINE": job.deadline.isoformat() if job.deadline else "",
        "SSKAI_BUDGET_LEFT_USD": "" if left is None else str(left / NANO_PER_USD),
        **pods.broker(settings),
        **pods.objects(settings),
        "SSKAI_OTLP_URL": settings.otlp_url or "",
        "SSKAI_MODELS_DIR": str(settings.models_dir),
        "TRACEPARENT": tracing.traceparent(job, attempt.number) or telemetry.current_traceparent() or "",
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
