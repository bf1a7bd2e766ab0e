"""What the gateway knows of a running job and of an endpoint, drawn from events. Pure.

Topics are read independently and events come twice, late or out of order. So a view never says what happened last to
arrive, only what is newest by its own number or time: each fact has a place of its own, and a place keeps the greater
of two. Any order of the same events gives the same view. Attempts are fenced by their number; an end stays an end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict

from services.gateway.curves import Curve
from services.gateway.plain import finite, plain
from sskai.contract import moment
from sskai.events import v1 as events

MAX_ATTEMPTS_SHOWN = 20  # the newest; a job on a thrashing market may have hundreds
MAX_CHECKPOINTS_SHOWN = 20


class JobState(StrEnum):
    SUBMITTED = "submitted"  # no plan yet
    QUEUED = "queued"  # planned; waits for its machine
    HELD = "held"  # a rule says that it must wait
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class _View(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Hold(_View):
    """Why it waits, and until when as far as anybody can say."""

    at: datetime
    rule: str
    detail: str
    since: datetime | None = None  # when this rule began to hold it
    expected_start: datetime | None = None
    earliest_start: datetime | None = None
    latest_start: datetime | None = None
    position: int = 0  # 1: next; 0: in no queue


class Requeue(_View):
    attempt: int
    at: datetime
    reason: str
    steps_done: int


class End(_View):
    at: datetime
    state: JobState
    reason: str = ""
    advice: str = ""
    artifact_uri: str = ""
    eval_loss_before: float | None = None
    eval_loss_after: float | None = None
    steps: int = 0
    tokens: int = 0


class Progress(_View):
    at: datetime
    step: int
    total_steps: int
    phase: str
    loss: float | None
    learning_rate: float | None
    step_seconds: float | None
    tokens_per_second: float | None
    eta_seconds: float | None


class Attempt(_View):
    """One pod's try. `outcome`: running, drained, lost or finished."""

    number: int
    machine_id: str = ""
    placement: dict[str, Any] | None = None
    started_at: datetime | None = None
    progress: Progress | None = None
    curve: Curve = Curve()
    resumed_from_step: int | None = None
    lost_steps: int = 0
    gap_seconds: float | None = None
    drained_at: datetime | None = None
    lost_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str = ""
    detail: str = ""

    @property
    def outcome(self) -> str:
        if self.finished_at:
            return "finished"
        if self.drained_at:
            return "drained"
        return "lost" if self.lost_at else "running"


class Checkpoint(_View):
    step: int
    attempt: int
    uri: str
    bytes: int
    cause: str
    save_seconds: float | None
    stall_seconds: float | None
    at: datetime


class JobView(_View):
    """Everything that events told about a job, each fact in its own place."""

    plan_id: str = ""
    plan_after_attempt: int = -1  # of the newest plan; -1: none yet
    chosen: dict[str, Any] | None = None  # the newest plan's first candidate
    admitted_at: datetime | None = None
    hold: Hold | None = None
    requeue: Requeue | None = None
    cancel_requested_at: datetime | None = None
    end: End | None = None
    attempts: dict[int, Attempt] = {}
    checkpoints: dict[int, Checkpoint] = {}
    budget_fraction: float = 0.0

    @property
    def newest_attempt(self) -> Attempt | None:
        return self.attempts[max(self.attempts)] if self.attempts else None

    @property
    def state(self) -> JobState:
        """Drawn from the facts, in the order of their weight."""
        if self.end:
            return self.end.state
        if self.cancel_requested_at:
            return JobState.CANCELLING
        if any(self._may_run(attempt) for attempt in self.attempts.values()):
            return JobState.RUNNING
        if self.hold and not (self.requeue and self.requeue.at > self.hold.at):
            return JobState.HELD
        if self.requeue or self.admitted_at or self.plan_after_attempt >= 0:
            return JobState.QUEUED
        return JobState.SUBMITTED

    def _may_run(self, attempt: Attempt) -> bool:
        if self.requeue is None:
            return True
        # One that was lost before an earlier attempt was requeued only stood by for that attempt.
        lost_standing_by = attempt.lost_at is not None and attempt.lost_at <= self.requeue.at
        return attempt.number > self.requeue.attempt and not lost_standing_by

    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of the steps that count: what a later attempt did again replaces what was lost."""
        kept: list[tuple[int, float]] = []
        for number in sorted(self.attempts):
            attempt = self.attempts[number]
            if attempt.resumed_from_step is not None:
                kept = [point for point in kept if point[0] <= attempt.resumed_from_step]
            elif attempt.curve.points:
                first = min(step for step, _ in attempt.curve.points.values())
                kept = [point for point in kept if point[0] < first]
            kept += sorted(attempt.curve.points.values())
        return kept


def _greater(old: Any, new: Any, key: Callable[[Any], Any]) -> Any:
    return new if old is None or key(new) > key(old) else old


def _attempt(view: JobView, number: int, **facts: Any) -> JobView:
    old = view.attempts.get(number) or Attempt(number=number)
    attempts = {**view.attempts, number: old.model_copy(update=facts)}
    newest = sorted(attempts)[-MAX_ATTEMPTS_SHOWN:]
    return view.model_copy(update={"attempts": {each: attempts[each] for each in newest}})


def _planned(view: JobView, event: events.PlanProposed) -> JobView:
    if event.preview or (event.after_attempt, event.plan_id) <= (view.plan_after_attempt, view.plan_id):
        return view
    chosen = plain(event.candidates[0]) if event.candidates else None
    facts = {"plan_id": event.plan_id, "plan_after_attempt": event.after_attempt, "chosen": chosen}
    return view.model_copy(update=facts)


def _admitted(view: JobView, event: events.JobAdmitted) -> JobView:
    return view.model_copy(update={"admitted_at": moment(event.admitted_at)})


def _held(view: JobView, event: events.JobHeld) -> JobView:
    times = ("since", "expected_start", "earliest_start", "latest_start")
    known = {name: moment(getattr(event, name)) for name in times if event.HasField(name)}
    hold = Hold(at=moment(event.held_at), rule=event.rule, detail=event.detail, position=event.position, **known)
    return view.model_copy(update={"hold": _greater(view.hold, hold, lambda one: (one.at, one.rule, one.detail))})


def _requeued(view: JobView, event: events.JobRequeued) -> JobView:
    requeue = Requeue(
        attempt=event.attempt, at=moment(event.requeued_at), reason=event.reason, steps_done=event.steps_done
    )
    return view.model_copy(update={"requeue": _greater(view.requeue, requeue, lambda one: (one.attempt, one.at))})


def _cancel_requested(view: JobView, event: events.JobCancelRequested) -> JobView:
    return view.model_copy(update={"cancel_requested_at": moment(event.requested_at)})


def _end(view: JobView, end: End) -> JobView:
    # The scheduler tells one end. Were there two, the earlier one stands, whichever came first.
    return view.model_copy(update={"end": min(filter(None, (view.end, end)), key=lambda one: (one.at, one.state))})


def _succeeded(view: JobView, event: events.JobSucceeded) -> JobView:
    end = End(
        at=moment(event.ended_at),
        state=JobState.SUCCEEDED,
        artifact_uri=event.artifact_uri,
        eval_loss_before=finite(event.eval_loss_before),
        eval_loss_after=finite(event.eval_loss_after),
        steps=event.steps,
        tokens=event.tokens,
    )
    return _end(view, end)


def _failed(view: JobView, event: events.JobFailed) -> JobView:
    end = End(
        at=moment(event.ended_at),
        state=JobState.FAILED,
        reason=event.reason,
        advice=event.advice,
        artifact_uri=event.artifact_uri,
    )
    return _end(view, end)


def _cancelled(view: JobView, event: events.JobCancelled) -> JobView:
    return _end(view, End(at=moment(event.ended_at), state=JobState.CANCELLED))


def _started(view: JobView, event: events.AttemptStarted) -> JobView:
    return _attempt(
        view,
        event.attempt,
        machine_id=event.machine_id,
        placement=plain(event.placement),
        started_at=moment(event.started_at),
    )


def _progressed(view: JobView, event: events.AttemptProgressed) -> JobView:
    old = view.attempts.get(event.attempt) or Attempt(number=event.attempt)
    training = event.phase == "training" and event.step > 0
    loss = finite(event.loss) if training else None
    progress = Progress(
        at=moment(event.at),
        step=event.step,
        total_steps=event.total_steps,
        phase=event.phase,
        loss=loss,
        learning_rate=finite(event.learning_rate),
        step_seconds=finite(event.step_seconds),
        tokens_per_second=finite(event.tokens_per_second),
        eta_seconds=finite(event.eta_seconds),
    )
    newest = _greater(old.progress, progress, lambda one: (one.step, one.at, one.phase))
    curve = old.curve if loss is None else old.curve.add(event.step, loss)
    return _attempt(view, event.attempt, progress=newest, curve=curve)


def _checkpointed(view: JobView, event: events.CheckpointCommitted) -> JobView:
    checkpoint = Checkpoint(
        step=event.step,
        attempt=event.attempt,
        uri=event.uri,
        bytes=event.bytes,
        cause=event.cause,
        save_seconds=finite(event.save_seconds),
        stall_seconds=finite(event.stall_seconds),
        at=moment(event.at),
    )
    newest = _greater(view.checkpoints.get(event.step), checkpoint, lambda one: (one.attempt, one.at))
    checkpoints = {**view.checkpoints, event.step: newest}
    shown = sorted(checkpoints)[-MAX_CHECKPOINTS_SHOWN:]
    return view.model_copy(update={"checkpoints": {step: checkpoints[step] for step in shown}})


def _drained(view: JobView, event: events.AttemptDrained) -> JobView:
    return _attempt(view, event.attempt, drained_at=moment(event.at))


def _lost(view: JobView, event: events.AttemptLost) -> JobView:
    return _attempt(view, event.attempt, lost_at=moment(event.at), reason=event.reason)


def _resumed(view: JobView, event: events.AttemptResumed) -> JobView:
    return _attempt(
        view,
        event.attempt,
        resumed_from_step=event.from_step,
        lost_steps=event.lost_steps,
        gap_seconds=finite(event.gap_seconds),
    )


def _finished(view: JobView, event: events.AttemptFinished) -> JobView:
    reason = {} if event.succeeded else {"reason": event.reason, "detail": event.detail}
    return _attempt(view, event.attempt, finished_at=moment(event.at), **reason)


def _budget_reached(view: JobView, event: events.BudgetThresholdReached) -> JobView:
    return view.model_copy(update={"budget_fraction": max(view.budget_fraction, event.fraction)})


_FACTS: dict[type[Message], Callable[[JobView, Any], JobView]] = {
    events.PlanProposed: _planned,
    events.JobAdmitted: _admitted,
    events.JobHeld: _held,
    events.JobRequeued: _requeued,
    events.JobCancelRequested: _cancel_requested,
    events.JobSucceeded: _succeeded,
    events.JobFailed: _failed,
    events.JobCancelled: _cancelled,
    events.AttemptStarted: _started,
    events.AttemptProgressed: _progressed,
    events.CheckpointCommitted: _checkpointed,
    events.AttemptDrained: _drained,
    events.AttemptLost: _lost,
    events.AttemptResumed: _resumed,
    events.AttemptFinished: _finished,
    events.BudgetThresholdReached: _budget_reached,
}


def follow(view: JobView, event: Message) -> JobView:
    """The view with one more fact. An event that says nothing about a job changes nothing."""
    fact = _FACTS.get(type(event))
    return fact(view, event) if fact else view
