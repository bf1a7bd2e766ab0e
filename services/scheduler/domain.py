"""A job's life: states, attempts, reasons for an end, money. Values in, values out; the clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from types import MappingProxyType

from sskai.events import v1 as events

NANO = 1_000_000_000
SECONDS_PER_HOUR = 3600

# SIGTERM to SIGKILL where no notice sets the limit: cancelling, budget stops, moves to on-demand. A save takes seconds.
DRAIN_SECONDS = 60.0
# How long a requeued job waits for a new plan before it goes on with the alternates of the old one.
REPLAN_SECONDS = 3.0
# After so long without any plan the user is told what the job waits for.
PLAN_PATIENCE_SECONDS = 30.0


class State(StrEnum):
    PLANNING = "planning"  # waits for the optimizer
    QUEUED = "queued"  # planned; waits for its turn or for capacity
    LAUNCHING = "launching"  # an attempt has its number; its pod may or may not exist yet
    RUNNING = "running"
    DRAINING = "draining"  # told to save and stop
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return not NEXT_STATES[self]

    @property
    def has_attempt(self) -> bool:
        """A pod of the current attempt may be alive."""
        return self in (State.LAUNCHING, State.RUNNING, State.DRAINING, State.CANCELLING)


NEXT_STATES: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.PLANNING: frozenset({State.QUEUED, State.FAILED, State.CANCELLED}),
        State.QUEUED: frozenset({State.LAUNCHING, State.FAILED, State.CANCELLED}),
        State.LAUNCHING: frozenset(
            {
                State.RUNNING,
                State.DRAINING,
                State.QUEUED,
                State.PLANNING,
                State.CANCELLING,
                State.SUCCEEDED,
                State.FAILED,
            }
        ),
        State.RUNNING: frozenset({State.DRAINING, State.PLANNING, State.CANCELLING, State.SUCCEEDED, State.FAILED}),
        State.DRAINING: frozenset({State.PLANNING, State.CANCELLING, State.SUCCEEDED, State.FAILED}),
        State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED}),
        State.SUCCEEDED: frozenset(),
        State.FAILED: frozenset(),
        State.CANCELLED: frozenset(),
    }
)


class EndReason(Enum):
    """Why an attempt ended: the reason is the datum, whether to retry and what to advise follow from it."""

    SUCCEEDED = ("succeeded", False, "")
    SPOT_INTERRUPTED = ("spot-interrupted", True, "")
    MACHINE_LOST = ("machine-lost", True, "")
    NO_CAPACITY = ("no-capacity", True, "Allow more regions, instance types or on-demand, or a longer retry.duration.")
    DEADLINE_AT_RISK = ("deadline-at-risk", True, "")
    HUNG = ("hung", True, "Look at the log for where it stood still: sskai jobs logs JOB_ID.")
    ERROR = (
        "error",
        True,
        "Look at the log: sskai jobs logs JOB_ID. If the same error came each time, it is in the job.",
    )
    OUT_OF_MEMORY = ("out-of-memory", False, "Choose a larger machine, a shorter sequence_length or a smaller batch.")
    NAN_LOSS = ("nan-loss", False, "Lower hyperparameters.learning_rate, and look at the rows that are named.")
    DATASET = ("dataset", False, "Mend the dataset as the detail says, and upload it as a new version.")
    USER_ERROR = ("user-error", False, "Change the job as the detail says, and submit it again.")
    BUDGET_EXHAUSTED = ("budget-exhausted", False, "Raise budget.total_usd; the newest checkpoint is kept.")
    CANCELLED = ("cancelled", False, "")

    def __init__(self, word: str, retries: bool, advice: str) -> None:
        self.word = word
        self.retries = retries
        self.advice = advice

    @property
    def counts_as_error(self) -> bool:
        """Whether it uses up `retry.max_restarts_on_errors`: what the market does to a job is not the job's fault."""
        return self in (EndReason.ERROR, EndReason.HUNG)

    @classmethod
    def of(cls, word: str) -> EndReason:
        """The reason a trainer told; a word that is not known is an error."""
        return next((reason for reason in cls if reason.word == word), cls.ERROR)


class IllegalTransitionError(Exception):
    """A bug: a job was moved along no arrow of NEXT_STATES."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job's pod. Its number is the fence: it only rises."""

    number: int
    placement: events.Placement
    started_at: datetime
    machine_id: str = ""
    launched_at: datetime | None = None
    metered_until: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str = ""
    first_step: int | None = None  # the first step it told
    last_step: int = 0
    drain_signalled: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Everything the scheduler knows of one job. Money in nano-USD, times aware and in UTC."""

    job_id: str
    tenant_id: str
    spec: events.JobSpec
    submitted_at: datetime
    state: State = State.PLANNING
    plan: events.PlanProposed | None = None
    attempt: Attempt | None = None
    attempts: int = 0  # the highest number given so far
    steps_saved: int = 0
    steps_told: int = 0
    told_at: datetime | None = None  # when the trainer last told anything
    checkpoint_uri: str = ""
    spent_nano_usd: int = 0
    intervals: int = 0
    traceparent: str = ""  # of the submission: what happens later belongs to the same trace
    errors: int = 0
    stop_reason: EndReason | None = None  # why it drains
    stop_by: datetime | None = None  # when draining turns into killing
    waiting_since: datetime | None = None
    held_rule: str = ""
    admitted: bool = False
    due_at: datetime | None = None
    denied_until: Mapping[str, datetime] = field(default_factory=dict)
    step_seconds: float = 0.0

    def to(self, state: State) -> Job:
        """Move along one arrow of NEXT_STATES; anything else is a bug."""
        if state not in NEXT_STATES[self.state]:
            raise IllegalTransitionError(f"job {self.job_id}: {self.state} -> {state}")
        return replace(self, state=state)

    @property
    def budget_nano_usd(self) -> int | None:
        return round(self.spec.budget_usd * NANO) if self.spec.HasField("budget_usd") else None

    @property
    def deadline(self) -> datetime | None:
        return self.spec.deadline.ToDatetime(tzinfo=UTC) if self.spec.HasField("deadline") else None

    def is_current(self, attempt: int) -> bool:
        """Whether what this attempt tells may change anything: older ones are fenced, ended jobs absorb."""
        return (
            not self.state.ended
            and self.attempt is not None
            and self.attempt.number == attempt
            and self.state.has_attempt
        )


def offer_of(placement: events.Placement) -> str:
    """The offer's name, `cloud/region/zone/instance_type/capacity`, as PriceObserved and CapacityDenied carry it."""
    kind = "spot" if placement.capacity_type == events.CAPACITY_TYPE_SPOT else "on-demand"
    return f"{placement.cloud}/{placement.region}/{placement.zone}/{placement.instance_type}/{kind}"


def submitted(event: events.JobSubmitted, now: datetime, traceparent: str) -> Job:
    """A new job, waiting for its plan."""
    return Job(
        event.job_id,
        event.tenant_id,
        event.spec,
        submitted_at=event.submitted_at.ToDatetime(tzinfo=UTC),
        waiting_since=now,
        traceparent=traceparent,
        due_at=now + timedelta(seconds=PLAN_PATIENCE_SECONDS),
    )


def planned(job: Job, plan: events.PlanProposed, now: datetime) -> Job:
    """The plan to launch by. A queued job takes a newer one; a running one keeps its own.

    A plan comes within milliseconds: after an error it does not cut the backoff short.
    """
    if job.state is State.PLANNING:
        failed = job.attempt is not None and EndReason.of(job.attempt.end_reason or "succeeded").counts_as_error
        due_at = max(now, job.due_at) if failed and job.due_at else now
        return replace(job.to(State.QUEUED), plan=plan, due_at=due_at, held_rule="")
    if job.state is State.QUEUED:
        return replace(job, plan=plan, due_at=now)
    return job


def is_answer(job: Job, after_attempt: int) -> bool:
    """Whether a plan made after that attempt still fits: it must not be older than what happened since."""
    return job.state in (State.PLANNING, State.QUEUED) and after_attempt >= (job.plan.after_attempt if job.plan else 0)


def begin_attempt(job: Job, placement: events.Placement, now: datetime) -> Job:
    """Give out the next fence before anything is launched, so that a crash in between repeats the same launch."""
    number = job.attempts + 1
    return replace(
        job.to(State.LAUNCHING),
        attempts=number,
        attempt=Attempt(number, placement, started_at=now),
        due_at=now,
        held_rule="",
    )


def launched(job: Job, machine_id: str, launched_at: datetime, now: datetime, metering_seconds: float) -> Job:
    """The pod of the current attempt exists; its machine is paid for from `launched_at`."""
    assert job.attempt is not None
    attempt = replace(job.attempt, machine_id=machine_id, launched_at=launched_at, metered_until=launched_at)
    moved = job.to(State.RUNNING) if job.state is State.LAUNCHING else job
    due = now if moved.state is not State.RUNNING else now + timedelta(seconds=metering_seconds)
    return replace(moved, attempt=attempt, told_at=now, due_at=due, waiting_since=None)


def denied(job: Job, now: datetime, denial_seconds: float) -> Job:
    """The offer had no machine: leave it alone for a while, take an alternate at once."""
    assert job.attempt is not None
    offer = offer_of(job.attempt.placement)
    until = {name: at for name, at in job.denied_until.items() if at > now}
    until[offer] = now + timedelta(seconds=denial_seconds)
    return replace(
        job.to(State.QUEUED), attempt=None, denied_until=until, due_at=now, waiting_since=job.waiting_since or now
    )


def progressed(job: Job, event: events.AttemptProgressed, now: datetime) -> Job:
    """A heartbeat of the current attempt."""
    assert job.attempt is not None
    attempt = job.attempt
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
    newer = event.step >= job.steps_saved
    return replace(
        job,
        told_at=now,
        steps_saved=max(job.steps_saved, event.step),
        checkpoint_uri=event.uri if newer else job.checkpoint_uri,
    )


def drain(job: Job, reason: EndReason, now: datetime, stop_by: datetime) -> Job:
    """Ask the attempt to save and stop; a second request changes nothing."""
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
    return replace(job.to(State.CANCELLING), stop_reason=EndReason.CANCELLED, stop_by=stop_by, due_at=now)


def attempt_ended(job: Job, reason: EndReason, now: datetime) -> Job:
    """Close the current attempt and decide what the job does next: end, or go on from its newest checkpoint.

    The metering of the attempt must have been done up to `now` before.
    """
    assert job.attempt is not None
    attempt = replace(job.attempt, ended_at=now, end_reason=reason.word)
    errors = job.errors + reason.counts_as_error
    job = replace(job, attempt=attempt, errors=errors, stop_by=None)
    if reason is EndReason.SUCCEEDED:
        return replace(job.to(State.SUCCEEDED), due_at=None)
    if job.state is State.CANCELLING:
        return replace(job.to(State.CANCELLED), due_at=None)
    if not reason.retries or errors > max_errors(job.spec):
        return replace(job.to(State.FAILED), due_at=None)
    # More patience after each error; the market's interruptions are answered at once.
    wait = REPLAN_SECONDS + (min(60.0, 2.0**errors) if reason.counts_as_error else 0.0)
    return replace(job.to(State.PLANNING), stop_reason=None, waiting_since=now, due_at=now + timedelta(seconds=wait))


def max_errors(spec: events.JobSpec) -> int:
    """Restarts allowed after errors of the job itself; 3 where the job file does not say."""
    return spec.retry.max_restarts_on_errors if spec.HasField("retry") else 3


def interval_nano_usd(price_usd_per_hour: float, seconds: float) -> int:
    """Price times time, in whole nano-USD, rounded half up."""
    return int(price_usd_per_hour * NANO * seconds / SECONDS_PER_HOUR + 0.5)


def meter(job: Job, until: datetime) -> tuple[Job, events.SpendRecorded | None]:
    """The ledger row from the last metered moment to `until`; None when no time passed or nothing was launched."""
    attempt = job.attempt
    if attempt is None or attempt.metered_until is None or until <= attempt.metered_until:
        return job, None
    seconds = (until - attempt.metered_until).total_seconds()
    placement = attempt.placement
    amount = interval_nano_usd(placement.price_usd_per_hour, seconds)
    row = events.SpendRecorded(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        interval=job.intervals + 1,
        attempt=attempt.number,
        machine_id=attempt.machine_id,
        placement=placement,
        started_at=attempt.metered_until,
        ended_at=until,
        price_usd_per_hour=placement.price_usd_per_hour,
        amount_nano_usd=amount,
        on_demand_nano_usd=interval_nano_usd(placement.on_demand_price_usd_per_hour, seconds),
    )
    return (
        replace(
            job,
            intervals=job.intervals + 1,
            spent_nano_usd=job.spent_nano_usd + amount,
            attempt=replace(attempt, metered_until=until),
        ),
        row,
    )


def budget_left_nano_usd(job: Job) -> int | None:
    return None if job.budget_nano_usd is None else job.budget_nano_usd - job.spent_nano_usd


def must_stop_for_budget(job: Job, metering_seconds: float) -> bool:
    """Whether going on for one more metering interval could leave too little for the last checkpoint and the export."""
    left = budget_left_nano_usd(job)
    if left is None or job.attempt is None:
        return False
    reserve = interval_nano_usd(job.attempt.placement.price_usd_per_hour, metering_seconds + DRAIN_SECONDS)
    return left <= reserve


def has_looked_long_enough(job: Job, now: datetime) -> bool:
    """Whether `retry.duration` of the job file is over and nothing was found to run on."""
    limit = job.spec.retry.duration_seconds
    return bool(limit) and job.waiting_since is not None and (now - job.waiting_since).total_seconds() > limit
