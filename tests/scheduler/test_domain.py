"""The transition table, money and fences, without any I/O."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler import launching, money, placing, transitions
from services.scheduler.domain import NEXT_STATES, EndReason, IllegalTransitionError, State
from services.scheduler.market import Market
from services.scheduler.policy import shipped
from services.scheduler.settings import Settings
from sskai.events import v1 as events
from tests.scheduler.examples import START, candidate, placement, proposed, running_job, submitted


@pytest.mark.parametrize("state", State)
def test_ended_states_absorb_and_all_others_can_end(state: State) -> None:
    reachable, frontier = set(), {state}
    while frontier:
        reachable |= frontier
        frontier = {next_state for one in frontier for next_state in NEXT_STATES[one]} - reachable
    assert any(one.ended for one in reachable)
    assert state.ended == (state in (State.SUCCEEDED, State.FAILED, State.CANCELLED))


def test_a_bug_names_the_arrow_that_does_not_exist() -> None:
    with pytest.raises(IllegalTransitionError, match="job job_1: running -> cancelled"):
        running_job().to(State.CANCELLED)


@given(
    st.lists(st.floats(0.001, 900), min_size=1, max_size=30),
    st.floats(0.001, 100, allow_nan=False, allow_infinity=False),
    st.integers(1, 8),
)
def test_metering_leaves_no_gap_and_its_sum_is_the_spend(seconds: list[float], price: float, machines: int) -> None:
    job, now, rows = running_job(placement(price=price), machines=machines), START, []
    for passed in seconds:
        now += timedelta(seconds=passed)
        job, row = money.meter(job, now)
        rows += row
    assert sum(row.amount_nano_usd for row in rows) == job.spent_nano_usd
    assert {row.price_usd_per_hour for row in rows} == {price * machines}
    for earlier, later in itertools.pairwise(rows):
        assert earlier.ended_at == later.started_at
    total = (now - START).total_seconds()
    assert job.spent_nano_usd == pytest.approx(price * machines * 1e9 * total / 3600, abs=len(rows))


@pytest.mark.parametrize("reason", EndReason)
def test_every_failure_that_is_not_retried_gives_advice(reason: EndReason) -> None:
    if not reason.retries and reason not in (EndReason.SUCCEEDED, EndReason.CANCELLED):
        assert reason.advice
    assert EndReason.of(reason.word) is reason


def test_an_unknown_word_of_a_trainer_is_an_error() -> None:
    assert EndReason.of("sunspots") is EndReason.ERROR


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_a_committed_step_never_goes_back(steps: list[int]) -> None:
    job, highest = running_job(), 0
    for step in steps:
        told = events.CheckpointCommitted(job_id="job_1", attempt=1, step=step, uri=f"s3://sskai/c-{step}")
        job = transitions.checkpointed(job, told, START)
        highest = max(highest, step)
        assert (job.steps_saved, job.checkpoint_uri) == (highest, f"s3://sskai/c-{highest}")


def test_a_gang_is_planned_by_its_offer_and_its_number_of_machines() -> None:
    """Two candidates may share an offer; a newer plan must not change what a running attempt is."""
    job = transitions.planned(transitions.submitted(submitted(), START, ""), proposed(), START)
    assert job.plan is not None
    gang, alone = candidate(placement(), machines=4), candidate(placement())
    gang.micro_batch_size, alone.micro_batch_size = 1, 16
    for best, other in ((gang, alone), (alone, gang)):
        plan = proposed()
        del plan.candidates[:]
        plan.candidates.extend([best, other])
        planned = transitions.planned(job, plan, START)
        chosen = placing.choose(planned, START, Settings(), Market(shipped().model, {}), shipped())
        assert chosen.candidate is not None
        begun = transitions.begin_attempt(planned, chosen.candidate, START)
        begun = replace(begun, plan=proposed())
        assert begun.attempt is not None
        pod = launching.pod(begun, begun.attempt, Settings())
        assert pod.machines == best.machine_count
        assert json.loads(pod.env["SSKAI_PLAN"])["micro_batch_size"] == best.micro_batch_size


def test_the_pod_is_told_of_parts_and_packed_sequences() -> None:
    split = candidate(placement(), machines=1)
    split.shard, split.workers = True, 8
    plan = proposed()
    plan.profile.packed_sequences = 42
    del plan.candidates[:]
    plan.candidates.append(split)
    job = transitions.planned(transitions.submitted(submitted(), START, ""), plan, START)
    chosen = placing.choose(job, START, Settings(), Market(shipped().model, {}), shipped())
    assert chosen.candidate is not None
    begun = transitions.begin_attempt(job, chosen.candidate, START)
    assert begun.attempt is not None
    env = launching.pod(begun, begun.attempt, Settings()).env
    told = json.loads(env["SSKAI_PLAN"])
    assert (told["shard"], told["packed_sequences"], env["SSKAI_TRAINER_WORKERS"]) == (True, 42, "8")


@pytest.mark.parametrize(("hours", "days"), [(0.1, 1), (100, 1 + 12.5), (10_000, 30)])
def test_a_pod_outlives_its_plan_but_not_everything(hours: float, days: float) -> None:
    assert launching.lifetime_seconds(candidate(placement(), hours=hours)) == pytest.approx(days * 86_400, rel=0.02)


def test_a_drain_ends_before_the_money_does() -> None:
    """A notice may leave two minutes; a budget may leave ten seconds."""
    job = running_job(placement(price=3600.0))  # a dollar a second
    job.spec.budget_usd = 10.0
    stop_by = START + timedelta(seconds=120)
    draining = transitions.drain(job, EndReason.SPOT_INTERRUPTED, START, stop_by)
    assert money.stop_within_budget(draining, START).stop_by == START + timedelta(seconds=10)
    job.spec.budget_usd = 200.0
    assert money.stop_within_budget(draining, START).stop_by == stop_by


@pytest.mark.parametrize(("state", "stop_by_seconds"), [("running", 60), ("draining", 20)])
def test_cancelling_does_not_give_more_time_than_the_machine_has(state: str, stop_by_seconds: int) -> None:
    job = running_job()
    if state == "draining":
        job = transitions.drain(job, EndReason.SPOT_INTERRUPTED, START, START + timedelta(seconds=20))
    cancelled = transitions.cancel(job, START)
    assert cancelled.state is State.CANCELLING
    assert cancelled.stop_by == START + timedelta(seconds=stop_by_seconds)


def test_an_earlier_notice_shortens_a_drain_and_a_later_one_does_not_lengthen_it() -> None:
    job = transitions.drain(running_job(), EndReason.DEADLINE_AT_RISK, START, START + timedelta(seconds=60))
    for seconds, left in ((120, 60), (39, 39), (50, 39)):
        job = transitions.drain(job, EndReason.SPOT_INTERRUPTED, START, START + timedelta(seconds=seconds))
        assert job.stop_by == START + timedelta(seconds=left)
    assert job.stop_reason is EndReason.DEADLINE_AT_RISK
