"""A job's account: which paid machine time was useful, which was lost, and what the work would have cost on demand.

Money is whole nano-USD and time is whole microseconds until the receipt is written, so sums are exact and do not
depend on the order in which the facts arrived.

Every attempt's metered time M is cut in three, in this order of certainty:

    head      start of the first row -> the first step began    (start-up: weights, data, evaluation before)
    training  executed steps x seconds per step, at most M - head               (what the trainer told)
    tail      what is left                (saving, waiting for the end, evaluation after, publishing)

and training again in two. A step is lost when a later attempt resumed below it and so did it again:

    lost steps of a = last step of a - max(first step of a, lowest step that a later attempt resumed from), at least 0

    useful   = the training time of steps that were not lost;  lost = that of the others
    overhead = all heads and tails;                            useful + lost + overhead = metered time, exactly

The same work on demand is one uninterrupted run: all useful time, one start-up (the head of the first attempt that
made a step) and one end (the tail of the last attempt), each at the on-demand price of the machine it ran on.
A lost second costs what its attempt paid for it on average.

    restart  = overhead - (that one start-up and one end)           what interruptions cost beside lost work
    waiting  = submission to end, less the time in which any machine was metered
    saving   = 1 - paid / the same work on demand
    naive    = 1 - paid / what the first plan predicted of one well-known machine on demand (PlanProposed.naive)
    saved    = that prediction's time - submission to end           negative: cheaper, and later

Both references are told: the first is this job's own work at list price, counted from what it did; the second is a
prediction of what somebody would have rented who does not plan. Only a job that succeeded is compared with the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import groupby
from typing import Any

_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS_PER_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One metered interval of a machine at one price."""

    interval: int
    attempt: int
    started_at: datetime
    ended_at: datetime
    amount_nano_usd: int
    on_demand_nano_usd: int

    @property
    def microseconds(self) -> int:
        return (self.ended_at - self.started_at) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """What is known of an attempt's steps. Every method may be called in any order and any number of times."""

    attempt: int
    resumed: tuple[int, datetime] | None = None  # a later attempt's checkpoint, and when its first new step was done
    first_step: tuple[int, datetime] | None = None  # the lowest step that was told, and when it was done
    last_step: tuple[int, datetime] | None = None
    step_seconds: tuple[int, float] | None = None  # the newest median, with the step at which it was told
    stopped: bool = False  # drained or lost
    requeued: bool = False
    finished: bool = False

    def stepped(self, step: int, at: datetime, step_seconds: float = 0.0) -> AttemptLog:
        """`step` steps were done at `at`; the median of the last ones took `step_seconds` (0: not told)."""
        if step <= 0:
            return self
        here = (step, at)
        pace = (step, step_seconds) if step_seconds > 0 else None
        return replace(
            self,
            # Of two reports of the same step the earlier one is nearer to when the step was done.
            first_step=min(self.first_step or here, here),
            last_step=max(self.last_step or here, here, key=lambda told: (told[0], -told[1].timestamp())),
            step_seconds=max((told for told in (self.step_seconds, pace) if told), default=None),
        )

    def resumed_from(self, step: int, at: datetime) -> AttemptLog:
        """The attempt went on from `step` and made its first new step at `at`."""
        return replace(self.stepped(step + 1, at), resumed=(step, at))

    @property
    def from_step(self) -> int | None:
        """The step after which this attempt began; None: a later attempt that has made no step (yet)."""
        if self.attempt == 1:
            return 0
        return self.resumed[0] if self.resumed else None

    @property
    def first_made(self) -> tuple[int, datetime] | None:
        """The first step that this attempt is known to have made, and when."""
        # A later attempt also tells the step of the checkpoint that it loads, before it makes any.
        return (self.resumed[0] + 1, self.resumed[1]) if self.resumed else self.first_step

    @property
    def executed_steps(self) -> int:
        if self.last_step is None or self.from_step is None:
            return 0
        return max(0, self.last_step[0] - self.from_step)

    @property
    def seconds_per_step(self) -> Fraction:
        """The told median; without one, the mean between the first and the last told step."""
        if self.step_seconds:
            return Fraction(self.step_seconds[1])
        first, last = self.first_made, self.last_step
        if first and last and last[0] > first[0]:
            return _seconds(last[1] - first[1]) / (last[0] - first[0])
        return Fraction(0)

    def first_step_began_after(self, start: datetime) -> Fraction | None:
        """Seconds from `start` to the beginning of the first step; None when no step was made."""
        if self.first_made is None or self.from_step is None or self.executed_steps == 0:
            return None
        step, at = self.first_made
        return _seconds(at - start) - (step - self.from_step) * self.seconds_per_step


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a job cost and why. Sums of money are exact; useful + lost + overhead = machine up to a float's last bit."""

    intervals: int
    attempts: int
    interruptions: int
    machine_seconds: float
    useful_seconds: float
    lost_seconds: float
    overhead_seconds: float
    paid_nano_usd: int
    lost_nano_usd: int
    on_demand_nano_usd: int
    saving_fraction: float  # 1 - paid / on demand; 0 where nothing would have been paid
    restart_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    waiting_seconds: float = 0.0
    naive_nano_usd: int | None = None
    naive_seconds: float | None = None
    naive_instance_type: str = ""
    naive_saving_fraction: float | None = None
    time_saved_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """What the account knows of a job beside its machines. `naive`: of its first plan, as `naive_choice` has it."""

    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    succeeded: bool = False
    naive: Mapping[str, Any] | None = None


def complete(rows: Iterable[Row], metered_intervals: int) -> bool:
    """Whether every row that the scheduler metered has arrived."""
    return set(range(1, metered_intervals + 1)) <= {row.interval for row in rows}


def receipt(rows: Sequence[Row], logs: Sequence[AttemptLog], life: Life = Life()) -> Receipt:
    """The receipt of a job's rows (each interval once) and its attempts' logs, both in any order."""
    by_number = {log.attempt: log for log in logs}
    ordered = sorted(rows, key=lambda row: (row.attempt, row.interval))
    shares = [
        _share(list(of_attempt), by_number.get(number, AttemptLog(number)), _resumed_below(logs, number))
        for number, of_attempt in groupby(ordered, key=lambda row: row.attempt)
    ]
    paid = sum(row.amount_nano_usd for row in rows)
    on_demand = _on_demand_nano_usd(shares)
    machine = sum((share.machine for share in shares), Fraction(0))
    useful = sum((share.useful for share in shares), Fraction(0))
    lost = sum((share.lost for share in shares), Fraction(0))
    needed = _needed_overhead(shares)
    told = Receipt(
        intervals=len(rows),
        attempts=len({row.attempt for row in rows} | by_number.keys()),
        interruptions=sum(log.stopped and log.requeued for log in logs),
        machine_seconds=float(machine),
        useful_seconds=float(useful),
        lost_seconds=float(lost),
        overhead_seconds=float(machine - useful - lost),
        paid_nano_usd=paid,
        lost_nano_usd=_half_up(sum((share.lost * share.price for share in shares), Fraction(0))),
        on_demand_nano_usd=on_demand,
        saving_fraction=1 - paid / on_demand if on_demand else 0.0,
        restart_seconds=float(machine - useful - lost - needed),
    )
    return _compared(_timed(told, rows, life), life)


def _timed(told: Receipt, rows: Sequence[Row], life: Life) -> Receipt:
    """With how long it took, and how much of that it stood without a machine."""
    if life.submitted_at is None or life.ended_at is None:
        return told
    elapsed = max(0, (life.ended_at - life.submitted_at) // _MICROSECOND)
    spans = [
        ((row.started_at - life.submitted_at) // _MICROSECOND, (row.ended_at - life.submitted_at) // _MICROSECOND)
        for row in rows
    ]
    running = _union([(max(0, start), min(elapsed, end)) for start, end in spans])
    return replace(
        told,
        elapsed_seconds=elapsed / _MICROSECONDS_PER_SECOND,
        waiting_seconds=max(0, elapsed - running) / _MICROSECONDS_PER_SECOND,
    )


def _union(spans: Iterable[tuple[int, int]]) -> int:
    """How much is covered by any of the spans: an attempt that drains and its successor run at once."""
    total, until = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total


def _compared(told: Receipt, life: Life) -> Receipt:
    """With the naive choice, where the work was done and its plan named one."""
    if not life.naive or not life.succeeded:
        return told
    cost, seconds = int(life.naive["nano_usd"]), float(life.naive["seconds"])
    return replace(
        told,
        naive_nano_usd=cost,
        naive_seconds=seconds,
        naive_instance_type=life.naive["instance_type"],
        naive_saving_fraction=1 - told.paid_nano_usd / cost if cost else 0.0,
        time_saved_seconds=seconds - told.elapsed_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Share:
    """One attempt's metered seconds in parts, and its mean prices in nano-USD a second."""

    machine: Fraction
    head: Fraction
    useful: Fraction
    lost: Fraction
    price: Fraction
    on_demand_price: Fraction

    @property
    def tail(self) -> Fraction:
        return self.machine - self.head - self.useful - self.lost


def _share(rows: Sequence[Row], log: AttemptLog, resumed_below: int | None) -> _Share:
    machine = sum((Fraction(row.microseconds, _MICROSECONDS_PER_SECOND) for row in rows), Fraction(0))
    began_after = log.first_step_began_after(min(row.started_at for row in rows))
    head = machine if began_after is None else min(max(began_after, Fraction(0)), machine)
    training = min(log.executed_steps * log.seconds_per_step, machine - head)
    lost_steps = 0
    if resumed_below is not None and log.last_step is not None and log.from_step is not None:
        lost_steps = max(0, log.last_step[0] - max(log.from_step, resumed_below))
    lost = training * lost_steps / log.executed_steps if log.executed_steps else Fraction(0)
    per_second = 1 / machine if machine else Fraction(0)
    return _Share(
        machine=machine,
        head=head,
        useful=training - lost,
        lost=lost,
        price=sum(row.amount_nano_usd for row in rows) * per_second,
        on_demand_price=sum(row.on_demand_nano_usd for row in rows) * per_second,
    )


def _resumed_below(logs: Sequence[AttemptLog], attempt: int) -> int | None:
    """The lowest step from which an attempt after this one made steps; None: nobody did anything again."""
    later = [
        log.from_step for log in logs if log.attempt > attempt and log.executed_steps and log.from_step is not None
    ]
    return min(later, default=None)


def _needed_overhead(shares: Sequence[_Share]) -> Fraction:
    """Of one uninterrupted run, in seconds: the first start-up and the last end. Without any step all is start-up."""
    trained = [share for share in shares if share.useful or share.lost]
    if not trained:
        return shares[-1].machine if shares else Fraction(0)
    return trained[0].head + trained[-1].tail


def _on_demand_nano_usd(shares: Sequence[_Share]) -> int:
    trained = [share for share in shares if share.useful or share.lost]
    if not trained:  # nothing but start-up: the same start-up, once
        return _half_up(shares[-1].machine * shares[-1].on_demand_price) if shares else 0
    useful = sum((share.useful * share.on_demand_price for share in shares), Fraction(0))
    start = trained[0].head * trained[0].on_demand_price
    end = trained[-1].tail * trained[-1].on_demand_price
    return _half_up(useful + start + end)


def _half_up(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


def _seconds(duration: timedelta) -> Fraction:
    return Fraction(duration // _MICROSECOND, _MICROSECONDS_PER_SECOND)
