"""The transition table, money and fences, without any I/O."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler import domain
from services.scheduler.domain import NEXT_STATES, EndReason, IllegalTransitionError, Job, State
from tests.scheduler.examples import START, placement, proposed, submitted


def running_job(price: float = 0.36) -> Job:
    job = domain.planned(domain.submitted(submitted(), START, ""), proposed(), START)
    return domain.launched(domain.begin_attempt(job, placement(price=price), START), "m-1", START, START, 5)


@pytest.mark.parametrize("state", State)
def test_ended_states_absorb_and_all_others_can_end(state: State) -> None:
    reachable, frontier = set(), {state}
    while frontier:
        reachable |= frontier
        frontier = {next_state for one in frontier for next_state in NEXT_STATES[one]} - reachable
    assert any(one.ended for one in reachable)
    assert state.ended == (state in (State.SUCCEEDED, State.FAILED, State.CANCELLED))


def test_a_bug_names_the_arrow_that_does_not_exist() -> None:
    with pytest.raises(IllegalTransitionError, match="job job_1: running -> queued"):
        running_job().to(State.QUEUED)


@given(
    st.lists(st.floats(0.001, 900), min_size=1, max_size=30),
    st.floats(0.001, 100, allow_nan=False, allow_infinity=False),
)
def test_metering_leaves_no_gap_and_its_sum_is_the_spend(seconds: list[float], price: float) -> None:
    job, now, rows = running_job(price), START, []
    for passed in seconds:
        now += timedelta(seconds=passed)
        job, row = domain.meter(job, now)
        rows += [row] if row else []
    assert sum(row.amount_nano_usd for row in rows) == job.spent_nano_usd
    for earlier, later in itertools.pairwise(rows):
        assert earlier.ended_at == later.started_at
    total = (now - START).total_seconds()
    assert job.spent_nano_usd == pytest.approx(price * 1e9 * total / 3600, abs=len(rows))


@pytest.mark.parametrize(
    ("reason", "waits"), [(EndReason.SPOT_INTERRUPTED, False), (EndReason.MACHINE_LOST, False), (EndReason.ERROR, True)]
)
def test_errors_are_tried_again_ever_later_and_interruptions_at_once(reason: EndReason, waits: bool) -> None:
    job, pauses = running_job(), []
    for number in range(1, 4):
        ended = domain.attempt_ended(job, reason, START)
        queued = domain.planned(ended, proposed(after_attempt=number), START)
        assert queued.due_at is not None
        pauses.append((queued.due_at - START).total_seconds())
        job = domain.launched(domain.begin_attempt(queued, placement(), START), f"m-{number}", START, START, 5)
    assert pauses == sorted(pauses)
    assert (pauses[0] > 1) is waits
    assert (pauses[2] > pauses[0]) is waits


@pytest.mark.parametrize("reason", EndReason)
def test_every_failure_that_is_not_retried_gives_advice(reason: EndReason) -> None:
    if not reason.retries and reason not in (EndReason.SUCCEEDED, EndReason.CANCELLED):
        assert reason.advice
    assert EndReason.of(reason.word) is reason


def test_an_unknown_word_of_a_trainer_is_an_error() -> None:
    assert EndReason.of("sunspots") is EndReason.ERROR


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_a_committed_step_never_goes_back(steps: list[int]) -> None:
    from sskai.events import v1 as events

    job, highest = running_job(), 0
    for step in steps:
        job = domain.checkpointed(job, events.CheckpointCommitted(job_id="job_1", attempt=1, step=step), START)
        highest = max(highest, step)
        assert job.steps_saved == highest
