"""What moves a job along the arrows of `domain.NEXT_STATES`. Values in, values out; the clock is an argument.

Beside the current attempt a successor may stand by; its part is in `standby.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.scheduler import retrying
from services.scheduler.domain import Attempt, EndReason, Job, State
from services.scheduler.money import DRAIN_SECONDS
from sskai.cluster import offer_of
from sskai.events import v1 as events

# How long a requeued job waits for a new plan before it goes on with the alternates of the old one.
REPLAN_SECONDS = 3.0
# A plan that is younger serves for the next launch at once; the optimizer's new one then updates the alternates.
FRESH_PLAN_SECONDS = 600.0
# After so long without any plan the user is told what the job waits for.
PLAN_PATIENCE_SECONDS = 30.0
# An offer that the market has just taken back is left alone for so long where the plan knows another.
TAKEN_SECONDS = 60.0
MAX_PENDING_CHARACTERS = 500


def submitted(event: events.JobSubmitted, now: datetime, traceparent: str) -> Job:
    """A new job, waiting for its plan."""
    return Job(
        event.job_id,
        event.tenant_id,
        event.spec,
        submitted_at=event.submitted_at.ToDatetime(tzinfo=UTC),
        traceparent=traceparent,
        due_at=now + timedelta(seconds=PLAN_PATIENCE_SECONDS),
    )


def planned(job: Job, plan: events.PlanProposed, now: datetime) -> Job:
    """The plan to launch by. A running job takes its alternates from it. A wait after an error is not cut short."""
    if job.state.ended or job.state is State.CANCELLING:
        return job
    job = replace(job, plan=_large_enough(plan, job.outgrown_bytes) or job.plan)
    if job.state.has_attempt:
        return job
    due_at = max(now, job.not_before or now)
    if job.state is State.PLANNING:
        return replace(job.to(State.QUEUED), due_at=due_at)
    return replace(job, due_at=due_at)


def is_answer(job: Job, after_attempt: int) -> bool:
    """Whether a plan made after that attempt still fits: it must not be older than what happened since."""
    return after_attempt >= (job.plan.after_attempt if job.plan else 0)


def _large_enough(plan: events.PlanProposed, outgrown_bytes: int) -> events.PlanProposed | None:
    """The plan without the machines that are known to be too small; None: nothing is left of it."""
    if not outgrown_bytes:
        return plan
    larger = [candidate for candidate in plan.candidates if candidate.usable_bytes > outgrown_bytes]
    if not larger:
        return None
    narrowed = events.PlanProposed()
    narrowed.CopyFrom(plan)
    del narrowed.candidates[:]
    narrowed.candidates.extend(larger)
    return narrowed


def begin_attempt(job: Job, candidate: events.Candidate, now: datetime) -> Job:
    """Give out the next fence before anything is launched, so that a crash in between repeats the same launch."""
    number = job.attempts + 1
    return replace(
        job.to(State.LAUNCHING),
        attempts=number,
        attempt=Attempt(number, candidate.placement, started_at=now, planned=candidate),
        due_at=now,
    )


def on_machine(
    attempt: Attempt, machine_id: str, member_ids: Iterable[str], launched_at: datetime, now: datetime
) -> Attempt:
    """The attempt's pod exists, and its machine is paid for from `launched_at`. Told twice, it changes nothing."""
    if attempt.machine_id:
        return attempt
    # A cluster's clock may go wrong by a little; nobody pays for time before the attempt or after now.
    since = max(attempt.started_at, min(launched_at, now))
    members = tuple(member_ids) or (machine_id,)
    return replace(attempt, machine_id=machine_id, member_ids=members, launched_at=launched_at, metered_until=since)


def launched(
    job: Job,
    machine_id: str,
    launched_at: datetime,
    now: datetime,
    metering_seconds: float,
    *,
    members: Iterable[str] = (),
) -> Job:
    """The pod of the current attempt exists."""
    assert job.attempt is not None
    attempt = on_machine(job.attempt, machine_id, members, launched_at, now)
    job = replace(job, attempt=attempt, told_at=now, due_at=now, waiting_since=None, denials=0)
    if job.state is not State.LAUNCHING:
        return job  # told to stop meanwhile: that is what is due
    return replace(job.to(State.RUNNING), due_at=now + timedelta(seconds=metering_seconds))


def denied(job: Job, now: datetime, denial_seconds: float) -> Job:
    """The offer had no machine: leave it alone for a while, take an alternate at once. Where the job file does not have
    it wait for capacity, a plan without an offer that was not denied is the end."""
    assert job.attempt is not None
    attempt = _closed(job.attempt, EndReason.NO_CAPACITY, now)
    job = avoid(job, attempt.placement, now, retrying.denial_seconds(job, denial_seconds))
    job = replace(job, attempt=attempt, denials=job.denials + 1, waiting_since=job.waiting_since or now)
    if not retrying.is_listed(job.spec, EndReason.NO_CAPACITY) and not has_fitting_candidate(job, now):
        return replace(job.to(State.FAILED), due_at=None)
    return replace(job.to(State.QUEUED), due_at=now)


def avoid(job: Job, placement: events.Placement, now: datetime, seconds: float) -> Job:
    """Leave an offer alone; what is over is forgotten."""
    until = {name: at for name, at in job.denied_until.items() if at > now}
    until[offer_of(placement)] = now + timedelta(seconds=seconds)
    return replace(job, denied_until=until)


def has_fitting_candidate(job: Job, now: datetime, *, other_than: events.Placement | None = None) -> bool:
    """Whether the plan knows an offer that was not denied a short while ago."""
    offers = {offer_of(candidate.placement) for candidate in job.plan.candidates} if job.plan else set()
    offers -= {offer_of(other_than)} if other_than is not None else set()
    return any(job.denied_until.get(offer, now) <= now for offer in offers)


def progressed(job: Job, event: events.AttemptProgressed, now: datetime) -> Job:
    """A heartbeat of the current attempt."""
    assert job.attempt is not None
    attempt = replace(job.attempt, heard_at=now)
    if event.phase == "training" and event.step:
        attempt = replace(
            attempt,
            first_step=event.step if attempt.first_step is None else attempt.first_step,
            last_step=max(attempt.last_step, event.step),
        )
    return replace(
        job,
        attempt=attempt,
        told_at=now,
        steps_told=max(job.steps_told, event.step),
        step_seconds=event.step_seconds or job.step_seconds,
    )


def checkpointed(job: Job, event: events.CheckpointCommitted, now: datetime) -> Job:
    """A committed checkpoint: its step never goes back."""
    assert job.attempt is not None
    newer = event.step >= job.steps_saved
    job = replace(job, attempt=replace(job.attempt, heard_at=now), told_at=now)
    return replace(saved(job, event.step), checkpoint_uri=event.uri if newer else job.checkpoint_uri)


def saved(job: Job, step: int) -> Job:
    """Everything up to the step is safe. A newer step is progress: what was tried in vain before is forgotten."""
    if step <= job.steps_saved:
        return job
    return replace(job, steps_saved=step, errors=0, recoveries=())


def pending(job: Job, attempt: int, text: str) -> Job:
    """What the cluster says the attempt's pod waits for."""
    text = text[:MAX_PENDING_CHARACTERS]
    if job.attempt is None or job.attempt.number != attempt or job.attempt.pending == text:
        return job
    return replace(job, attempt=replace(job.attempt, pending=text))


def lost_members(job: Job, attempt: int, lost: int) -> Job:
    """So many machines of the attempt's gang are no more; the others go on."""

    def less(one: Attempt | None) -> Attempt | None:
        return replace(one, lost=lost) if one is not None and one.number == attempt else one

    return replace(job, attempt=less(job.attempt), successor=less(job.successor))


def drain(job: Job, reason: EndReason, now: datetime, stop_by: datetime) -> Job:
    """Ask the attempt to save and stop. A second request changes nothing, but that the machine may be taken earlier."""
    if job.state in (State.DRAINING, State.CANCELLING):
        earlier = stop_by if job.stop_by is None else min(job.stop_by, stop_by)
        return job if earlier == job.stop_by else replace(job, stop_by=earlier, due_at=min(job.due_at or now, earlier))
    if job.state not in (State.LAUNCHING, State.RUNNING):
        return job
    return replace(job.to(State.DRAINING), stop_reason=reason, stop_by=stop_by, due_at=now)


def drain_signalled(job: Job) -> Job:
    """The signal went out; look again when the time is up."""
    assert job.attempt is not None
    return replace(job, attempt=replace(job.attempt, drain_signalled=True), due_at=job.stop_by)


def cancel(job: Job, now: datetime) -> Job:
    """What the user asked for: at once where nothing runs, with a grace where something does."""
    if job.state.ended or job.state is State.CANCELLING:
        return job
    if not job.state.has_attempt:
        return replace(job.to(State.CANCELLED), due_at=None)
    stop_by = now + timedelta(seconds=DRAIN_SECONDS)
    if job.stop_by is not None:
        stop_by = min(stop_by, job.stop_by)  # it drains already, because its machine is taken then
    job = without_successor(job, EndReason.NOT_NEEDED, now)
    return replace(job.to(State.CANCELLING), stop_reason=EndReason.CANCELLED, stop_by=stop_by, due_at=now)


def without_successor(job: Job, reason: EndReason, now: datetime) -> Job:
    """Whatever stood by stands by no longer; its pod is deleted as one that no live attempt owns."""
    if job.successor is None:
        return job
    return replace(job, successor=None, closed=(*job.closed, _closed(job.successor, reason, now)))


def _closed(attempt: Attempt, reason: EndReason, now: datetime) -> Attempt:
    return replace(attempt, ended_at=now, end_reason=reason.word)


def attempt_ended(job: Job, reason: EndReason, now: datetime) -> Job:
    """Close the current attempt and decide what the job does next: end, go on as the successor that stood by, or go on
    from the newest checkpoint, at once where the plan is fresh.

    Both attempts must have been metered up to `now` before.
    """
    assert job.attempt is not None
    taken = job.attempt
    errors = job.errors + reason.counts_as_error
    at, recoveries = retrying.next_launch(job, reason, now) if reason in retrying.BACKOFF else (now, ())
    job = replace(job, attempt=_closed(taken, reason, now), errors=errors, stop_by=None)
    if reason is EndReason.SUCCEEDED:
        return _over(job, State.SUCCEEDED, now)
    if job.state is State.CANCELLING:
        return _over(job, State.CANCELLED, now)
    if reason is EndReason.OUT_OF_MEMORY and (narrowed := _on_larger_machines(job, taken)) is not None:
        # What stands by was chosen before the memory ran out.
        job = without_successor(narrowed, EndReason.NOT_NEEDED, now)
    elif reason is EndReason.OUT_OF_MEMORY:
        return _over(job, State.FAILED, now)
    if not retrying.goes_on(job, reason, errors):
        return _over(job, State.FAILED, now)
    job = replace(job, stop_reason=None, recoveries=recoveries, not_before=at)
    if job.successor is not None:
        return _promoted(job, now)
    if reason is EndReason.SPOT_INTERRUPTED and has_fitting_candidate(job, now, other_than=taken.placement):
        job = avoid(job, taken.placement, now, TAKEN_SECONDS)
    job = replace(job, waiting_since=None)
    if is_fresh(job.plan, now) and has_fitting_candidate(job, now):
        return replace(job.to(State.QUEUED), due_at=at)
    return replace(job.to(State.PLANNING), due_at=max(at, now + timedelta(seconds=REPLAN_SECONDS)))


def _over(job: Job, state: State, now: datetime) -> Job:
    return replace(without_successor(job.to(state), EndReason.NOT_NEEDED, now), due_at=None)


def _promoted(job: Job, now: datetime) -> Job:
    """The successor is the current attempt from now on; where its launch was not recorded yet, that is repeated."""
    assert job.attempt is not None
    assert job.successor is not None
    state = State.RUNNING if job.successor.machine_id else State.LAUNCHING
    return replace(
        job.to(state),
        attempt=job.successor,
        successor=None,
        closed=(*job.closed, job.attempt),
        not_before=None,
        waiting_since=None,
        told_at=now,
        due_at=now,
    )


def _on_larger_machines(job: Job, outgrown: Attempt) -> Job | None:
    """The job with a plan of larger machines only; None: there is none, or it had its second try."""
    usable_bytes = outgrown.planned.usable_bytes if outgrown.planned is not None else 0
    if job.plan is None or job.outgrown_bytes or not usable_bytes:
        return None
    plan = _large_enough(job.plan, usable_bytes)
    return None if plan is None else replace(job, plan=plan, outgrown_bytes=usable_bytes)


def is_fresh(plan: events.PlanProposed | None, now: datetime) -> bool:
    """Whether a launch may go by this plan without asking the optimizer again."""
    if plan is None or not plan.HasField("proposed_at"):
        return False
    return (now - plan.proposed_at.ToDatetime(tzinfo=UTC)).total_seconds() <= FRESH_PLAN_SECONDS
