"""A job as OpenAI's clients see it: its document, its events in sentences, its checkpoints. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from services.gateway.domain import JobState, JobView
from services.gateway.tables import EventRow, FineTuneRow, JobRow
from services.gateway.values import Model
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

PACKAGE = "sskai.events.v1."
# Job ids are ours; of events and checkpoints OpenAI's own prefixes tell what they are.
EVENT_PREFIX, CHECKPOINT_PREFIX = "ftevent-", "ftckpt_"
Document = dict[str, Any]
Told = tuple[str, str, Document | None]  # level, message, metrics


def shown(tune: FineTuneRow, job: JobRow, model: Model | None) -> Document:
    """`model`: the version that became of it, if there is one."""
    view = JobView.model_validate(job.view)
    spec = events.JobSpec.FromString(job.spec or b"")
    status = status_of(job, tune, view, model)
    end = view.end if status in ("succeeded", "failed", "cancelled") else None
    asked = tune.request
    return {
        "id": job.job_id,
        "object": "fine_tuning.job",
        "created_at": _seconds(job.submitted_at),
        "finished_at": _seconds(end.at) if end else None,
        "estimated_finish": _estimated(view) if status == "running" else None,
        "model": asked["model"],
        "fine_tuned_model": model.id if model is not None and end else None,
        "status": status,
        "error": _error(tune, view) if status == "failed" else None,
        "organization_id": job.tenant_id,
        "training_file": asked["training_file"],
        "validation_file": None,
        "result_files": [],
        "trained_tokens": end.tokens if end and status == "succeeded" else None,
        "hyperparameters": {
            name: asked["hyperparameters"][name] for name in ("n_epochs", "batch_size", "learning_rate_multiplier")
        },
        "method": {"type": asked["method"], asked["method"]: {"hyperparameters": _of_method(asked)}},
        "seed": spec.hyperparameters.seed,
        "integrations": None,
        "metadata": asked["metadata"],
        # Ours.
        "suffix": asked["suffix"],
        "sskai": {
            "state": job.state,
            "name": job.name,
            "deploy": tune.deploy,
            "endpoint_id": tune.endpoint_id,
            "spent_usd": job.spent_nano_usd / NANO_PER_USD,
        },
    }


def status_of(job: JobRow, tune: FineTuneRow, view: JobView, model: Model | None) -> str:
    """`succeeded` only when the model can be named: whoever reads it asks the model next."""
    state = JobState(job.state)
    if state is JobState.SUCCEEDED:
        return "failed" if tune.refused else "running" if model is None else "succeeded"
    if state is JobState.SUBMITTED:
        return "validating_files"
    if state in (JobState.QUEUED, JobState.HELD):
        return "queued"
    if state is JobState.CANCELLING:
        return "running" if view.attempts else "queued"
    return state.value


def checkpoints(job: JobRow) -> list[Document]:
    """Newest first. They are what the job goes on from; the version that becomes of the job is what can be asked."""
    view = JobView.model_validate(job.view)
    losses = view.losses()
    steps = [step for step, _ in losses]
    found = []
    for step, checkpoint in sorted(view.checkpoints.items(), reverse=True):
        place = bisect_right(steps, step)
        found.append(
            {
                "id": f"{CHECKPOINT_PREFIX}{job.job_id}_{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": _seconds(checkpoint.at),
                "fine_tuning_job_id": job.job_id,
                "fine_tuned_model_checkpoint": f"{job.name}:ckpt-step-{step}",
                "step_number": step,
                "metrics": {"step": step, "train_loss": losses[place - 1][1] if place else None},
                "bytes": checkpoint.bytes,
                "cause": checkpoint.cause,
            }
        )
    return found


def event(row: EventRow) -> Document:
    """One thing that happened, in a sentence."""
    told = row.event
    level, message, metrics = _SENTENCES[row.type](told["data"])
    return {
        "id": f"{EVENT_PREFIX}{row.id}",
        "object": "fine_tuning.job.event",
        "created_at": _seconds(datetime.fromisoformat(told["time"])),
        "level": level,
        "message": message,
        "type": "message" if metrics is None else "metrics",
        "data": metrics or {},
    }


def _seconds(at: datetime | None) -> int:
    return int(at.timestamp()) if at else 0


def _estimated(view: JobView) -> int | None:
    attempt = view.newest_attempt
    progress = attempt.progress if attempt else None
    return _seconds(progress.at) + round(progress.eta_seconds) if progress and progress.eta_seconds else None


def _error(tune: FineTuneRow, view: JobView) -> Document:
    if tune.refused:
        return {"code": "result-refused", "message": tune.refused, "param": None}
    reason = view.end.reason if view.end else ""
    advice = view.end.advice if view.end else ""
    param = "training_file" if reason == "dataset" else None
    return {"code": reason or "failed", "message": f"The job failed: {reason}. {advice}".strip(), "param": param}


def _of_method(asked: Mapping[str, Any]) -> Document:
    names = ["n_epochs", "batch_size", "learning_rate_multiplier"] + (["beta"] if asked["method"] == "dpo" else [])
    return {name: asked["hyperparameters"][name] for name in names}


def _info(message: str) -> Callable[[Mapping[str, Any]], Told]:
    return lambda _data: ("info", message, None)


def _started(data: Mapping[str, Any]) -> Told:
    machine = data.get("placement", {}).get("instance_type", "a machine")
    return "info", f"Attempt {data.get('attempt', 1)} started on {machine}", None


def _progressed(data: Mapping[str, Any]) -> Told:
    step, total, loss = data.get("step", 0), data.get("total_steps", 0), data.get("loss")
    if data.get("phase") != "training" or not step:
        return "info", f"Attempt {data.get('attempt', 1)} is {data.get('phase', 'starting')}", None
    names = ("step", "total_steps", "learning_rate", "tokens_per_second")
    metrics = {name: data[name] for name in names if isinstance(data.get(name), int | float)}
    if isinstance(loss, int | float):
        metrics["train_loss"] = loss
    at = f", training loss {loss:.4f}" if isinstance(loss, int | float) else ""
    return "info", f"Step {step} of {total}{at}", metrics


def _held(data: Mapping[str, Any]) -> Told:
    return "info", f"Waiting ({data.get('rule', '')}): {data.get('detail', '')}".rstrip(": "), None


def _requeued(data: Mapping[str, Any]) -> Told:
    message = f"Attempt {data.get('attempt', 1)} ended ({data.get('reason', '')}); going on from step "
    return "warn", message + str(data.get("steps_done", 0)), None


def _failed(data: Mapping[str, Any]) -> Told:
    return "error", f"The job failed: {data.get('reason', '')}. {data.get('advice', '')}".strip(), None


def _budget(data: Mapping[str, Any]) -> Told:
    return "warn", f"{data.get('fraction', 0):.0%} of the budget is spent", None


_SENTENCES: dict[str, Callable[[Mapping[str, Any]], Told]] = {
    PACKAGE + name: sentence
    for name, sentence in {
        "JobSubmitted": _info("The job was created, and its file is valid"),
        "PlanProposed": _info("A machine was chosen for it"),
        "JobAdmitted": _info("The job is queued"),
        "JobHeld": _held,
        "AttemptStarted": _started,
        "AttemptProgressed": _progressed,
        "AttemptResumed": lambda data: ("info", f"Resumed from step {data.get('from_step', 0)}", None),
        "CheckpointCommitted": lambda data: ("info", f"Checkpoint of step {data.get('step', 0)} saved", None),
        "JobRequeued": _requeued,
        "BudgetThresholdReached": _budget,
        "JobCancelRequested": _info("The job is to be cancelled"),
        "JobSucceeded": _info("The job has succeeded"),
        "JobFailed": _failed,
        "JobCancelled": _info("The job was cancelled"),
    }.items()
}
EVENT_TYPES = sorted(_SENTENCES)
