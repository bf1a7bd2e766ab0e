"""Events in any order, twice, late, or from attempts that were fenced long ago: what must hold, whatever comes.

The handlers' and loops' decisions without their database: the same pure functions, in the same combinations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from google.protobuf.message import Message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.scheduler import availability, endings, money, placing, standby, starting, transitions
from services.scheduler.domain import Attempt, EndReason, Job, State
from services.scheduler.market import Market
from services.scheduler.policy import shipped
from services.scheduler.settings import Settings
from sskai.cluster import Machine
from sskai.events import v1 as events
from tests.scheduler.examples import START, progressed, proposed, submitted

SETTINGS = Settings()
LOOKAHEAD = shipped()
MARKET = Market(availability.shipped(), {})
ENDS = (events.JobSucceeded, events.JobFailed, events.JobCancelled)
# Who speaks: the attempt with the highest number, or one so far behind it, or (-1) one that does not exist.
behind = st.sampled_from([0, 0, 1, 1, 2, 5, -1])
TOLD_REASONS = [EndReason.ERROR, EndReason.OUT_OF_MEMORY] * 8 + [
    one for one in EndReason if one is not EndReason.NOT_NEEDED
]
seconds = st.sampled_from([0.0, 0.5, 3.0, 20.0, 130.0, 700.0, 4000.0])


class AJobInAnyOrder(RuleBasedStateMachine):
    """Messages that the rules throw; `self.writers` is who the object store's fences would let write."""

    job: Job

    @initialize(
        budget=st.sampled_from([None, None, 5.0, 0.02]),
        listed=st.sampled_from([[], [], [], ["interruption"], ["no-capacity", "error"]]),
        max_errors=st.sampled_from([0, 3, 100]),
    )
    def submit(self, budget: float | None, listed: list[str], max_errors: int) -> None:
        self.now = START
        self.told: list[Message] = []
        self.fences: list[int] = []
        self.saved: dict[int, Attempt] = {}  # the table of attempts
        event = submitted(budget_usd=budget)
        event.spec.retry.on_events.extend(listed)
        event.spec.retry.max_restarts_on_errors = max_errors
        self.job = transitions.submitted(event, self.now, "")

    # The world

    @rule(passed=seconds)
    def time_passes(self, passed: float) -> None:
        self.now += timedelta(seconds=passed)

    @rule(after=st.integers(0, 12), fresh=st.booleans(), larger=st.booleans())
    def plan(self, after: int, fresh: bool, larger: bool) -> None:
        plan = proposed(after_attempt=after, at=self.now if fresh else None)
        if larger:
            plan.candidates[2].usable_bytes *= 4
        if not self.job.state.ended and transitions.is_answer(self.job, after):
            self._becomes(transitions.planned(self.job, plan, self.now))

    @rule()
    def a_turn_in_which_all_goes_well(self) -> None:
        """What most of a job's life is made of; the other rules are what goes wrong."""
        if self.job.state in (State.PLANNING, State.QUEUED):
            self.plan(self.job.attempts, True, False)
        if self.job.state is State.QUEUED:
            self.launch()
        self.drive_draining()
        for attempt in list(self.job.live_attempts()):
            machine = Machine(f"m-{attempt.number}", self.now)
            number = attempt.number
            self._decides(lambda job, number=number, machine=machine: self._started(job, number, machine))

    @rule()
    def a_notice_that_leaves_time(self) -> None:
        """The current attempt drains, and with some luck another one stands by."""
        self.a_turn_in_which_all_goes_well()
        current = self.job.attempt
        if current is not None and self.job.state is State.RUNNING:
            stop_by = self.now + timedelta(seconds=120)
            self._decides(lambda job: endings.noticed(job, current, stop_by, self.now))
            self.a_turn_in_which_all_goes_well()

    @rule(
        end=st.sampled_from(["drained", "lost", "taken over", "succeeded", "failed", "cancelled"]),
        step=st.integers(0, 100),
    )
    def an_end_while_one_stands_by(self, end: str, step: int) -> None:
        """Left to chance, the two hardly ever meet."""
        self.a_notice_that_leaves_time()
        current, successor = self.job.attempt, self.job.successor
        if current is None or successor is None:
            return
        back = self.job.attempts - current.number
        if end == "drained":
            self.drained(back, step)
        elif end == "lost":
            self.lost(back, EndReason.MACHINE_LOST)
        elif end == "taken over":
            self.checkpoint(0, step)
        elif end == "succeeded":
            self.finished(back, EndReason.SUCCEEDED)
        elif end == "failed":
            self.finished(back, EndReason.NAN_LOSS)
        else:
            self.cancel(True)
        goes_on = end in ("drained", "lost", "taken over")
        assert self.job.is_current(successor.number) is goes_on
        assert not self.job.stands_by(successor.number)
        assert (self.saved[current.number].ended_at is None) is (end == "cancelled"), "asked to save and stop"

    @precondition(lambda self: bool(self.saved))
    @rule()
    def every_launch_is_answered_again(self) -> None:
        """By another machine than the first time, as a list that lags may have it: the first one stands."""
        before = {number: (one.machine_id, one.launched_at, one.metered_until) for number, one in self.saved.items()}
        for number, (machine_id, *_rest) in before.items():
            if machine_id:
                self._decides(lambda job, number=number: self._started(job, number, Machine("m-other", self.now)))
                one = self.saved[number]
                assert (one.machine_id, one.launched_at, one.metered_until) == before[number]

    @precondition(lambda self: self.job.state is State.PLANNING and self.job.plan is not None)
    @rule()
    def plan_is_late(self) -> None:
        assert self.job.plan is not None
        self._becomes(transitions.planned(self.job, self.job.plan, self.now))

    @precondition(lambda self: self.job.state is State.QUEUED)
    @rule()
    def launch(self) -> None:
        if self.job.not_before is not None and self.job.not_before > self.now:
            return
        choice = placing.choose(self.job, self.now, SETTINGS, MARKET, LOOKAHEAD)
        if choice.candidate is not None:
            candidate = choice.candidate
            self._becomes(transitions.begin_attempt(self.job, candidate, self.now))

    @precondition(lambda self: bool(self.fences))
    @rule(data=st.data(), answer=st.sampled_from(["started", "denied"] * 5 + ["refused"]))
    def cluster_answers(self, data: st.DataObject, answer: str) -> None:
        """For any number that was ever given out: launches are repeated, and answers come late."""
        number = data.draw(st.sampled_from(self.fences))
        if answer == "started":
            machine = Machine(f"m-{number}", self.now)
            self._decides(lambda job: self._started(job, number, machine))
        elif answer == "denied":
            self._decides(lambda job: starting.denied(job, number, "none", self.now, SETTINGS))
        else:
            self._decides(lambda job: starting.refused(job, number, "set the secret", self.now))

    @rule(back=behind, notice_seconds=st.sampled_from([0.0, 4.0, 39.0, 120.0]))
    def notice(self, back: int, notice_seconds: float) -> None:
        number = self.job.attempts - back
        attempt = self._live(number)
        if attempt is not None and attempt.machine_id:
            stop_by = self.now + timedelta(seconds=notice_seconds)
            self._decides(lambda job: endings.noticed(job, attempt, stop_by, self.now))

    @rule()
    def drive_running(self) -> None:
        job, rows = money.meter(self.job, self.now)
        if job.state is State.RUNNING:
            self._becomes(job, rows)
            if money.must_stop_for_budget(job, SETTINGS.metering_seconds):
                stop_by = self.now + timedelta(seconds=money.DRAIN_SECONDS)
                self._becomes(transitions.drain(job, EndReason.BUDGET_EXHAUSTED, self.now, stop_by))

    @rule()
    def drive_draining(self) -> None:
        job = self.job
        if job.state not in (State.DRAINING, State.CANCELLING) or job.attempt is None or not job.attempt.machine_id:
            return
        if job.stop_by is not None and self.now >= job.stop_by:
            reason = job.stop_reason or EndReason.SPOT_INTERRUPTED
            self._decides(lambda job: endings.end_attempt(job, reason, self.now))
            return
        job = money.stop_within_budget(transitions.drain_signalled(job), self.now)
        if standby.is_wanted(job, self.now):
            choice = placing.choose(standby.as_if_free(job, self.now), self.now, SETTINGS, MARKET, LOOKAHEAD)
            if choice.candidate is not None:
                candidate = choice.candidate
                assert candidate.placement != self.job.attempt.placement  # type: ignore[union-attr]
                if standby.is_affordable(job, candidate, self.now, SETTINGS.metering_seconds):
                    job = standby.reserved(job, candidate, self.now)
        self._becomes(job)

    # What attempts and users tell

    @rule(back=behind, step=st.integers(0, 100))
    def progress(self, back: int, step: int) -> None:
        number = self.job.attempts - back
        if self.job.is_current(number):
            self._becomes(transitions.progressed(self.job, progressed(number, step), self.now))
        elif self.job.stands_by(number):
            self._becomes(standby.heard(self.job, self.now))

    @rule(back=behind, step=st.integers(0, 100))
    def checkpoint(self, back: int, step: int) -> None:
        number = self.job.attempts - back
        if self._writes(number):
            told = events.CheckpointCommitted(job_id="job_1", attempt=number, step=step, uri=f"c-{step}")
            self._becomes(transitions.checkpointed(self.job, told, self.now))

    @rule(back=behind, step=st.integers(0, 100))
    def drained(self, back: int, step: int) -> None:
        number = self.job.attempts - back
        if self.job.stands_by(number):
            self._decides(lambda job: endings.end_successor(job, EndReason.SPOT_INTERRUPTED, self.now))
        elif self.job.is_current(number):
            job = transitions.saved(self.job, step)
            reason = job.stop_reason or EndReason.SPOT_INTERRUPTED
            self._decides(lambda _: endings.end_attempt(job, reason, self.now))

    @rule(back=behind, reason=st.sampled_from(TOLD_REASONS))
    def finished(self, back: int, reason: EndReason) -> None:
        number = self.job.attempts - back
        succeeded = reason is EndReason.SUCCEEDED
        if not succeeded and self.job.stands_by(number):
            self._decides(lambda job: endings.end_successor(job, reason, self.now))
        elif self._writes(number):
            word = events.AttemptFinished(job_id="job_1", attempt=number, succeeded=succeeded, reason=reason.word)
            self._decides(lambda job: endings.end_attempt(job, reason, self.now, finished=word))

    @rule(back=behind, reason=st.sampled_from([EndReason.SPOT_INTERRUPTED, EndReason.MACHINE_LOST, EndReason.ERROR]))
    def lost(self, back: int, reason: EndReason) -> None:
        number = self.job.attempts - back
        if self.job.stands_by(number):
            self._decides(lambda job: endings.end_successor(job, reason, self.now))
        elif self.job.is_current(number):
            self._decides(lambda job: endings.end_attempt(job, job.stop_reason or reason, self.now))

    @rule(really=st.sampled_from([True] + [False] * 9))
    def cancel(self, really: bool) -> None:
        if really and not self.job.state.ended:
            self._decides(lambda job: endings.cancel(job, self.now))

    # What must hold

    @invariant()
    def one_end(self) -> None:
        ends = [one for one in self.told if isinstance(one, ENDS)]
        assert len(ends) == self.job.state.ended
        if ends:
            assert not list(self.job.live_attempts()), "nothing may run after the end"
            assert all(attempt.ended_at is not None for attempt in self.saved.values())
            assert ends[0].metered_intervals == self.job.intervals

    @invariant()
    def fences_rise_and_two_attempts_live_at_most(self) -> None:
        assert self.fences == list(range(1, self.job.attempts + 1))
        live = list(self.job.live_attempts())
        assert len(live) <= 2
        assert all(attempt.ended_at is None for attempt in live)
        if self.job.successor is not None:
            assert self.job.state is State.DRAINING
            assert self.job.attempt is not None
            assert self.job.successor.number == self.job.attempts > self.job.attempt.number
        unended = {number for number, attempt in self.saved.items() if attempt.ended_at is None}
        assert unended == {attempt.number for attempt in live}

    @invariant()
    def each_start_is_told_once_and_each_end_of_it_too(self) -> None:
        started = [one.attempt for one in self.told if isinstance(one, events.AttemptStarted)]
        assert len(started) == len(set(started))
        lost = [one.attempt for one in self.told if isinstance(one, events.AttemptLost)]
        assert len(lost) == len(set(lost))
        dropped = [
            number
            for number, attempt in self.saved.items()
            if attempt.end_reason == EndReason.NOT_NEEDED.word and attempt.machine_id
        ]
        assert set(dropped) <= set(lost), "whoever follows attempts hears that a successor was not needed"

    @invariant()
    def every_second_is_paid_once(self) -> None:
        rows = [one for one in self.told if isinstance(one, events.SpendRecorded)]
        assert [row.interval for row in rows] == list(range(1, self.job.intervals + 1))
        assert sum(row.amount_nano_usd for row in rows) == self.job.spent_nano_usd
        paid_until: dict[int, datetime] = {}
        for row in rows:
            since, until = row.started_at.ToDatetime(), row.ended_at.ToDatetime()
            assert since < until
            assert paid_until.get(row.attempt, since) == since
            paid_until[row.attempt] = until
        for number, attempt in self.saved.items():
            if attempt.ended_at is not None and number in paid_until:
                assert paid_until[number] == attempt.ended_at.replace(tzinfo=None), "paid to the end, and no further"

    @invariant()
    def nothing_is_due_for_a_job_that_ended(self) -> None:
        assert (self.job.due_at is None) == self.job.state.ended

    # Means

    def _writes(self, number: int) -> bool:
        """What `handlers._writer` does: a successor that tells of a write has taken over."""
        if self.job.stands_by(number):
            self._decides(lambda job: endings.taken_over(job, self.now))
        return self.job.is_current(number)

    def _started(self, job: Job, number: int, machine: Machine) -> tuple[Job, list[Message]]:
        return starting.started(job, number, machine, self.now, SETTINGS)

    def _live(self, number: int) -> Attempt | None:
        return next((one for one in self.job.live_attempts() if one.number == number), None)

    def _decides(self, decide: Callable[[Job], tuple[Job, list[Message]]]) -> None:
        job, told = decide(self.job)
        self._becomes(job, told)

    def _becomes(self, job: Job, told: list[Message] | list[events.SpendRecorded] | None = None) -> None:
        """As the store saves: the job, its attempts, and those that this decision closed."""
        assert job.steps_saved >= self.job.steps_saved
        assert job.spent_nano_usd >= self.job.spent_nano_usd
        if job.attempts > self.job.attempts:
            self.fences.append(job.attempts)
        for attempt in (*job.closed, job.attempt, job.successor):
            if attempt is not None:
                before = self.saved.get(attempt.number)
                assert before is None or before.ended_at is None or before.ended_at == attempt.ended_at
                self.saved[attempt.number] = attempt
        self.told += told or []
        self.job = replace(job, closed=())


AJobInAnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
test_a_job_in_any_order = AJobInAnyOrder.TestCase
