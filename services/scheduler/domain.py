"""A job's life as values: states, attempts, and the reasons for an end. What moves a job is in `transitions.py`,
`standby.py`, `retrying.py` and `money.py`; all of them take the clock as an argument and do no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, StrEnum
from types import MappingProxyType

from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

SECONDS_PER_HOUR = 3600


class State(StrEnum):
    PLANNING = "planning"  # waits for the optimizer
    QUEUED = "queued"  # planned; waits for its turn or for capacity
    LAUNCHING = "launching"  # an attempt has its number; its pod may or may not exist yet
    RUNNING = "running"
    DRAINING = "draining"  # told to save and stop; a successor may stand by
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


# The only place that says where a job may go; the README's diagram is drawn from it (tools/state_diagram.py).
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
        State.RUNNING: frozenset(
            {State.DRAINING, State.QUEUED, State.PLANNING, State.CANCELLING, State.SUCCEEDED, State.FAILED}
        ),
        # Onwards to launching or running: a successor stood by and is the current attempt now.
        State.DRAINING: frozenset(
            {
                State.LAUNCHING,
                State.RUNNING,
                State.QUEUED,
                State.PLANNING,
                State.CANCELLING,
                State.SUCCEEDED,
                State.FAILED,
            }
        ),
        State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED}),
        State.SUCCEEDED: frozenset(),
        State.FAILED: frozenset(),
        State.CANCELLED: frozenset(),
    }
)


class EndReason(Enum):
    """Why an attempt ended: the reason is the datum. What follows from it: whether to try again, and under which of the
    job file's `retry.on_events` ("": always); what to advise."""

    SUCCEEDED = ("succeeded", False, "", "")
    SPOT_INTERRUPTED = (
        "spot-interrupted",
        True,
        "interruption",
        "Add interruption to retry.on_events, or set spot_policy to on-demand.",
    )
    MACHINE_LOST = ("machine-lost", True, "interruption", "Add interruption to retry.on_events.")
    NO_CAPACITY = (
        "no-capacity",
        True,
        "no-capacity",
        "Allow more regions, instance types or on-demand, or a longer retry.duration.",
    )
    DEADLINE_AT_RISK = ("deadline-at-risk", True, "", "")
    CHEAPER_ELSEWHERE = ("cheaper-elsewhere", True, "", "")
    HUNG = ("hung", True, "error", "Look at the log for where it stood still: sskai jobs logs JOB_ID.")
    NEVER_STARTED = (
        "never-started",
        True,
        "error",
        "Its pod told nothing: look whether the image can be pulled and the broker be reached from there.",
    )
    ERROR = (
        "error",
        True,
        "error",
        "Look at the log: sskai jobs logs JOB_ID. If the same error came each time, it is in the job.",
    )
    # Once more, on a larger machine of the plan: `transitions.attempt_ended`.
    OUT_OF_MEMORY = (
        "out-of-memory",
        True,
        "error",
        "Choose a larger machine, a shorter sequence_length or a smaller batch.",
    )
    NAN_LOSS = ("nan-loss", False, "", "Lower hyperparameters.learning_rate, and look at the rows that are named.")
    DATASET = ("dataset", False, "", "Mend the dataset as the detail says, and upload it as a new version.")
    USER_ERROR = ("user-error", False, "", "Change the job as the detail says, and submit it again.")
    BUDGET_EXHAUSTED = ("budget-exhausted", False, "", "Raise budget.total_usd; the newest checkpoint is kept.")
    CANCELLED = ("cancelled", False, "", "")
    NOT_NEEDED = ("not-needed", False, "", "Nothing: it stood by for an attempt that ended the job.")

    def __init__(self, word: str, retries: bool, on_event: str, advice: str) -> None:
        self.word = word
        self.retries = retries
        self.on_event = on_event
        self.advice = advice

    @property
    def counts_as_error(self) -> bool:
        """Whether it uses up `retry.max_restarts_on_errors`: what the market does to a job is not the job's fault."""
        return self in (EndReason.ERROR, EndReason.HUNG, EndReason.NEVER_STARTED)

    @classmethod
    def of(cls, word: str) -> EndReason:
        """The reason a trainer told; a word that is not known is an error."""
        return next((reason for reason in cls if reason.word == word), cls.ERROR)


class IllegalTransitionError(Exception):
    """A bug: a job was moved along no arrow of NEXT_STATES."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job's pod, or of its gang of pods. Its number is the fence: it only rises."""

    number: int
    placement: events.Placement
    started_at: datetime
    planned: events.Candidate | None = None  # what was planned for this placement; None: of an older release
    machine_id: str = ""
    member_ids: tuple[str, ...] = ()  # the machines as a cloud's notice names them; at least `machine_id` once launched
    launched_at: datetime | None = None
    metered_until: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str = ""
    first_step: int | None = None  # the first step it told
    last_step: int = 0
    heard_at: datetime | None = None  # when it last told anything: its lease
    drain_signalled: bool = False
    pending: str = ""  # what its pod waits for, in the cluster's words
    lost: int = 0  # machines of its gang that are no more, while the others go on

    @property
    def machines(self) -> int:
        """As it was launched."""
        return max(1, self.planned.machine_count) if self.planned is not None else 1

    def is_first(self, machine_id: str) -> bool:
        """Whether this is its only machine, or that of rank 0: it ends with it."""
        return machine_id in (self.machine_id, *self.member_ids[:1])


@dataclass(frozen=True, slots=True)
class Job:
    """Everything the scheduler knows of one job. Money in nano-USD, times aware and in UTC."""

    job_id: str
    tenant_id: str
    spec: events.JobSpec
    submitted_at: datetime
    state: State = State.PLANNING
    plan: events.PlanProposed | None = None
    attempt: Attempt | None = None  # the current one, or the last that ended
    successor: Attempt | None = None  # loads beside a draining attempt and takes over when that has ended
    closed: tuple[Attempt, ...] = ()  # others that ended in this decision: to be written, and not read again
    attempts: int = 0  # the highest number given so far
    steps_saved: int = 0
    steps_told: int = 0
    told_at: datetime | None = None  # when the trainer last told anything
    checkpoint_uri: str = ""
    spent_nano_usd: int = 0
    intervals: int = 0
    traceparent: str = ""  # of the submission: what happens later belongs to the same trace
    # What has been tried in vain since the newest checkpoint; `retrying.py`.
    errors: int = 0
    recoveries: tuple[datetime, ...] = ()
    denials: int = 0  # since the last launch
    not_before: datetime | None = None  # no launch before then
    outgrown_bytes: int = 0  # of a worker's memory: a machine with so much was too small
    stop_reason: EndReason | None = None  # why it drains
    stop_by: datetime | None = None  # when draining turns into killing
    waiting_since: datetime | None = None  # since when it looks for a machine with its place; None: it does not
    admitted: bool = False
    due_at: datetime | None = None
    denied_until: Mapping[str, datetime] = field(default_factory=dict)
    step_seconds: float = 0.0
    # What it has reserved of the budgets that it is under, spend included; None: it is under none, or has not asked.
    limit_nano_usd: int | None = None
    ask_number: int = 0  # of its newest request for more
    asking: bool = False  # which has no answer yet, or was declined and stands open
    ask_detail: str = ""  # why it was declined

    def to(self, state: State) -> Job:
        """Move along one arrow of NEXT_STATES; anything else is a bug."""
        if state not in NEXT_STATES[self.state]:
            raise IllegalTransitionError(f"job {self.job_id}: {self.state} -> {state}")
        return replace(self, state=state)

    @property
    def budget_nano_usd(self) -> int | None:
        return round(self.spec.budget_usd * NANO_PER_USD) if self.spec.HasField("budget_usd") else None

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

    def stands_by(self, attempt: int) -> bool:
        """Whether this attempt is the successor of the current one."""
        return self.successor is not None and self.successor.number == attempt

    def live_attempts(self) -> Iterator[Attempt]:
        """The attempts that a pod may run for now: the current one, and one that stands by."""
        if self.attempt is not None and self.state.has_attempt:
            yield self.attempt
        if self.successor is not None:
            yield self.successor


def budget_left_nano_usd(job: Job) -> int | None:
    """Of its own budget."""
    return None if job.budget_nano_usd is None else job.budget_nano_usd - job.spent_nano_usd


def money_left_nano_usd(job: Job) -> int | None:
    """Until it has to stop: of its own budget, and of what it has reserved of others'."""
    limits = [limit for limit in (job.budget_nano_usd, job.limit_nano_usd) if limit is not None]
    return min(limits) - job.spent_nano_usd if limits else None
