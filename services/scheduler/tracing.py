"""An attempt as a span: its pod's spans stand below it, also those of a pod that was killed before it ended its own.

The scheduler knows the id beforehand (a hash of job and attempt), tells the pod, and tells the span when the attempt
has ended, whatever became of the pod. Each attempt links to the one before it.
"""

from __future__ import annotations

from services.scheduler.domain import Attempt, EndReason, Job
from sskai import telemetry

GOES_ON_AFTER = "goes-on-after"
# What may end an attempt without anything being wrong with the job, the machine or us.
IN_ORDER = {
    one.word
    for one in (
        EndReason.SUCCEEDED,
        EndReason.CANCELLED,
        EndReason.NOT_NEEDED,
        EndReason.SPOT_INTERRUPTED,
        EndReason.NO_CAPACITY,
        EndReason.CHEAPER_ELSEWHERE,
        EndReason.DEADLINE_AT_RISK,
        EndReason.BUDGET_EXHAUSTED,
    )
}


def traceparent(job: Job, number: int) -> str:
    """For whatever happens in attempt `number`. Empty: the job belongs to no trace."""
    return telemetry.told_later(_name(job, number), job.traceparent)


def tell_attempt(job: Job, attempt: Attempt) -> None:
    """The span of an attempt that has ended; told again it is the same one."""
    if attempt.ended_at is None or not job.traceparent:
        return
    before = traceparent(job, attempt.number - 1) if attempt.number > 1 else None
    telemetry.tell_past(
        f"attempt {attempt.number}",
        name=_name(job, attempt.number),
        traceparent=job.traceparent,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        attributes={
            "sskai.tenant": job.tenant_id,
            "sskai.subject": job.job_id,
            "sskai.job": job.job_id,
            "sskai.attempt": attempt.number,
            "sskai.machine": attempt.machine_id,
            "sskai.machines": attempt.machines,
            "sskai.instance_type": attempt.placement.instance_type,
            "sskai.zone": attempt.placement.zone,
            "sskai.end_reason": attempt.end_reason,
            "sskai.last_step": attempt.last_step,
        },
        links=telemetry.link_to(before, GOES_ON_AFTER),
        failed="" if attempt.end_reason in IN_ORDER else attempt.end_reason,
    )


def _name(job: Job, number: int) -> str:
    return f"{job.job_id}/attempt/{number}"
