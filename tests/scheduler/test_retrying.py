"""When a job is tried again, by tables and in any order of misfortunes."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler import retrying, transitions
from services.scheduler.domain import EndReason, Job, State
from services.scheduler.retrying import BACKOFF, HOUR, MAX_FRUITLESS_RECOVERIES_PER_HOUR
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.scheduler.examples import START, candidate, placement, proposed, running_job

RECOVERABLE = [reason for reason in EndReason if reason.retries and reason is not EndReason.OUT_OF_MEMORY]


def launch_again(job: Job, now: datetime) -> Job:
    """The next attempt, whenever it is allowed."""
    if job.state is State.PLANNING:
        job = transitions.planned(job, proposed(after_attempt=job.attempts), now)
    begun = transitions.begin_attempt(job, candidate(placement()), now)
    return transitions.launched(begun, f"m-{begun.attempts}", now, now, 5)


def waits(reason: EndReason, times: int) -> list[float]:
    """Seconds before each of the next launches, when nothing gets on."""
    job, now, found = running_job(), START, []
    for _ in range(times):
        job = transitions.attempt_ended(job, reason, now)
        assert job.due_at is not None
        found.append((job.due_at - now).total_seconds())
        now = job.due_at
        job = launch_again(job, now)
    return found


def test_the_markets_first_interruption_is_answered_at_once_and_the_next_ones_ever_later() -> None:
    first, second, third, fourth = waits(EndReason.SPOT_INTERRUPTED, 4)
    assert first == 0
    assert 4 <= second <= 6
    assert 8 <= third <= 12
    assert fourth > 3000, "three recoveries an hour without a newer checkpoint are enough"


def test_errors_are_tried_again_ever_later_until_the_job_file_has_enough() -> None:
    job, now, pauses = running_job(), START, []
    while True:
        job = transitions.attempt_ended(job, EndReason.ERROR, now)
        if job.state is State.FAILED:
            break
        assert job.due_at is not None
        pauses.append((job.due_at - now).total_seconds())
        now = job.due_at
        job = launch_again(job, now)
    assert len(pauses) == retrying.DEFAULT_MAX_ERRORS
    assert pauses == sorted(pauses)
    assert 4 <= pauses[0] <= 6


def test_progress_opens_the_window_anew() -> None:
    """25 interruptions in a row cost a job that gets on nothing but the restarts themselves."""
    job, now = running_job(), START
    for number in range(1, 26):
        now += timedelta(seconds=60)
        told = events.CheckpointCommitted(job_id="job_1", attempt=number, step=number)
        job = transitions.checkpointed(job, told, now)
        job = transitions.attempt_ended(job, EndReason.SPOT_INTERRUPTED, now)
        assert job.not_before == now
        job = launch_again(job, now)


def test_a_checkpoint_of_a_step_that_was_saved_before_is_no_progress() -> None:
    job = transitions.saved(running_job(), 10)
    job = launch_again(transitions.attempt_ended(job, EndReason.ERROR, START), START)
    again = transitions.checkpointed(job, events.CheckpointCommitted(job_id="job_1", attempt=2, step=10), START)
    assert (again.errors, again.recoveries) == (job.errors, job.recoveries)
    assert job.errors == 1


@given(
    st.lists(st.tuples(st.sampled_from(RECOVERABLE), st.floats(0, 1500)), min_size=4, max_size=40),
    st.booleans(),
)
def test_a_job_that_does_not_get_on_recovers_at_most_three_times_an_hour(
    story: list[tuple[EndReason, float]], fresh: bool
) -> None:
    job, now, launches = running_job(at=START if fresh else START - timedelta(days=1)), START, []
    job.spec.retry.max_restarts_on_errors = 1000
    for reason, ran_seconds in story:
        now += timedelta(seconds=ran_seconds)
        job = transitions.attempt_ended(job, reason, now)
        assert job.due_at is not None
        assert job.not_before is not None
        assert job.due_at >= job.not_before >= now
        now = job.due_at
        if retrying.counts_as_recovery(reason):
            launches.append(job.not_before)
        job = launch_again(job, now)
    limit = MAX_FRUITLESS_RECOVERIES_PER_HOUR
    for earlier, later in zip(launches, launches[limit:], strict=False):
        assert later - earlier >= HOUR


def test_a_deadline_is_not_waited_away() -> None:
    job, now = running_job(), START
    assert job.plan is not None
    job.plan.point_of_no_return.CopyFrom(timestamp(START + timedelta(minutes=20)))
    for _ in range(3):
        job = launch_again(transitions.attempt_ended(job, EndReason.MACHINE_LOST, now), now)
    job = transitions.attempt_ended(job, EndReason.MACHINE_LOST, now)
    assert job.not_before == START + timedelta(minutes=20)


@pytest.mark.parametrize("reason", BACKOFF)
@given(st.integers(1, 500), st.floats(0, 1, exclude_max=True))
def test_waits_double_up_to_a_limit_and_are_spread_by_a_fifth(reason: EndReason, tries: int, draw: float) -> None:
    backoff = BACKOFF[reason]
    seconds, next_seconds = backoff.seconds(tries, draw), backoff.seconds(tries + 1, draw)
    assert 0 <= seconds <= backoff.most_seconds * 1.2
    assert seconds <= next_seconds
    assert 0.8 * backoff.seconds(tries, 0.5) <= seconds <= 1.2 * backoff.seconds(tries, 0.5) + 1e-9


def test_the_spread_depends_on_the_job_and_the_attempt_alone() -> None:
    draws = [retrying.draw(f"job_{job}", attempt) for job in range(20) for attempt in range(20)]
    assert draws == [retrying.draw(f"job_{job}", attempt) for job in range(20) for attempt in range(20)]
    assert len(set(draws)) == len(draws)
    assert 0.4 < sum(draws) / len(draws) < 0.6


@pytest.mark.parametrize("reason", [reason for reason in EndReason if reason.retries])
def test_every_reason_that_is_retried_has_its_backoff(reason: EndReason) -> None:
    assert reason in BACKOFF


LISTS = [
    ([], EndReason.SPOT_INTERRUPTED, State.QUEUED),
    (["interruption"], EndReason.SPOT_INTERRUPTED, State.QUEUED),
    (["interruption"], EndReason.MACHINE_LOST, State.QUEUED),
    (["no-capacity", "error"], EndReason.SPOT_INTERRUPTED, State.FAILED),
    (["no-capacity", "interruption"], EndReason.ERROR, State.FAILED),
    (["no-capacity", "interruption"], EndReason.HUNG, State.FAILED),
    (["no-capacity", "interruption"], EndReason.OUT_OF_MEMORY, State.FAILED),
    (["no-capacity"], EndReason.DEADLINE_AT_RISK, State.QUEUED),  # the scheduler's own wish
    ([], EndReason.USER_ERROR, State.FAILED),
    ([], EndReason.NAN_LOSS, State.FAILED),
]


@pytest.mark.parametrize(("listed", "reason", "state"), LISTS)
def test_what_the_job_file_does_not_list_fails_the_job(listed: list[str], reason: EndReason, state: State) -> None:
    job = running_job()
    job.spec.retry.on_events.extend(listed)
    job.spec.retry.max_restarts_on_errors = 3
    ended = transitions.attempt_ended(job, reason, START)
    assert ended.state is state
    assert state is not State.FAILED or reason.advice


def test_without_a_wait_for_capacity_a_plan_without_offers_is_the_end() -> None:
    job = running_job()
    assert job.plan is not None
    job.spec.retry.on_events.extend(["interruption"])
    states = []
    for one in job.plan.candidates:
        queued = transitions.attempt_ended(job, EndReason.DEADLINE_AT_RISK, START) if job.state.has_attempt else job
        job = transitions.denied(transitions.begin_attempt(queued, one, START), START, 60)
        states.append(job.state)
    assert states == [State.QUEUED, State.QUEUED, State.FAILED]


def test_an_offer_is_left_alone_for_longer_with_each_round_of_denials() -> None:
    job = transitions.attempt_ended(running_job(), EndReason.DEADLINE_AT_RISK, START)
    assert job.plan is not None
    rounds = []
    for _ in range(6):
        for one in job.plan.candidates:
            job = transitions.denied(transitions.begin_attempt(job, one, START), START, 60)
        rounds.append(min((at - START).total_seconds() for at in job.denied_until.values()))
    assert 48 <= rounds[0] <= 72
    for earlier, later in itertools.pairwise(rounds[:4]):
        assert later > earlier
    assert rounds[-1] <= 720
    assert transitions.launched(transitions.begin_attempt(job, one, START), "m", START, START, 5).denials == 0


def test_out_of_memory_is_tried_once_more_on_a_larger_machine_of_the_plan() -> None:
    job = running_job()
    plan = proposed(at=START)
    plan.candidates[2].usable_bytes = 80 * 2**30
    job = transitions.planned(job, plan, START)
    again = transitions.attempt_ended(job, EndReason.OUT_OF_MEMORY, START)
    assert again.state is State.QUEUED
    assert again.plan is not None
    assert [one.usable_bytes for one in again.plan.candidates] == [80 * 2**30]
    # What the optimizer plans anew does not bring the small machines back.
    newer = transitions.planned(again, plan, START)
    assert newer.plan is not None
    assert [one.usable_bytes for one in newer.plan.candidates] == [80 * 2**30]
    assert transitions.planned(again, proposed(), START).plan == again.plan
    largest = transitions.begin_attempt(newer, newer.plan.candidates[0], START)
    assert transitions.attempt_ended(largest, EndReason.OUT_OF_MEMORY, START).state is State.FAILED


def test_out_of_memory_on_the_largest_machine_of_the_plan_is_the_end() -> None:
    assert transitions.attempt_ended(running_job(), EndReason.OUT_OF_MEMORY, START).state is State.FAILED


@pytest.mark.parametrize(
    ("age_seconds", "state", "due_seconds"),
    [(0, State.QUEUED, 0), (599, State.QUEUED, 0), (601, State.PLANNING, transitions.REPLAN_SECONDS)],
)
def test_a_fresh_plan_serves_for_the_next_launch(age_seconds: float, state: State, due_seconds: float) -> None:
    now = START + timedelta(seconds=age_seconds)
    job = transitions.attempt_ended(running_job(), EndReason.SPOT_INTERRUPTED, now)
    assert job.state is state
    assert job.due_at == now + timedelta(seconds=due_seconds)


def test_the_offer_that_was_taken_is_left_alone_where_the_plan_knows_another() -> None:
    job = transitions.attempt_ended(running_job(), EndReason.SPOT_INTERRUPTED, START)
    assert list(job.denied_until) == ["aws/us-east-1/use1-az1/g5.xlarge/spot"]
    alone = running_job()
    assert alone.plan is not None
    del alone.plan.candidates[1:]
    job = transitions.attempt_ended(alone, EndReason.SPOT_INTERRUPTED, START)
    assert (job.state, dict(job.denied_until)) == (State.QUEUED, {})
