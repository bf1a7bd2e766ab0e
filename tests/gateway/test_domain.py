"""The read model of a job: whatever the order and however often events come, it says the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway import endpoints
from services.gateway.curves import MAX_POINTS, Curve
from services.gateway.domain import JobView, follow
from services.gateway.endpoints import EndpointView
from services.gateway.plain import plain
from sskai.contract import timestamp
from sskai.events import v1 as events

START = datetime(2026, 11, 24, tzinfo=UTC)
J = {"job_id": "job_1", "tenant_id": "tenant_a"}


def at(seconds: float) -> Timestamp:
    return timestamp(START + timedelta(seconds=seconds))


def progressed(attempt: int, step: int, seconds: float, loss: float = 1.0) -> events.AttemptProgressed:
    return events.AttemptProgressed(
        **J, attempt=attempt, phase="training", step=step, total_steps=100, loss=loss, eta_seconds=9, at=at(seconds)
    )


PLANNED = events.PlanProposed(**J, plan_id="plan_1", candidates=[events.Candidate()], proposed_at=at(1))
ADMITTED = events.JobAdmitted(**J, plan_id="plan_1", admitted_at=at(2))
HELD = events.JobHeld(**J, rule="no-capacity", detail="none free", held_at=at(3))
STARTED = events.AttemptStarted(**J, attempt=1, machine_id="m-1", started_at=at(4))
PROGRESS = [progressed(1, step, 4 + step, 3 - step / 100) for step in range(1, 61)]
CHECKPOINT = events.CheckpointCommitted(**J, attempt=1, step=40, uri="s3://x", cause="interval", at=at(45))
LOST = events.AttemptLost(**J, attempt=1, machine_id="m-1", reason="spot-interrupted", at=at(70))
REQUEUED = events.JobRequeued(**J, reason="spot-interrupted", attempt=1, steps_done=40, requeued_at=at(71))
LOST_STANDING_BY = events.AttemptLost(**J, attempt=2, machine_id="m-2", reason="error", at=at(60))
REPLANNED = events.PlanProposed(**J, plan_id="plan_2", after_attempt=1, proposed_at=at(72))
RESTARTED = events.AttemptStarted(**J, attempt=2, machine_id="m-2", started_at=at(80))
RESUMED = events.AttemptResumed(
    **J, attempt=2, from_attempt=1, from_step=40, lost_steps=20, gap_seconds=18.5, at=at(88)
)
PROGRESS_2 = [progressed(2, step, 50 + step, 2 - step / 100) for step in range(41, 101)]
FINISHED = events.AttemptFinished(**J, attempt=2, succeeded=True, at=at(160))
SUCCEEDED = events.JobSucceeded(**J, attempt=2, eval_loss_before=3, eval_loss_after=1, steps=100, ended_at=at(161))
LIFE: list[Message] = [
    *(PLANNED, ADMITTED, HELD, STARTED, *PROGRESS, CHECKPOINT, LOST, REQUEUED, REPLANNED),
    *(RESTARTED, RESUMED, *PROGRESS_2, FINISHED, SUCCEEDED),
]


def view_of(*told: Message) -> JobView:
    return reduce(follow, told, JobView())


STATES = [
    ([], "submitted"),
    ([PLANNED], "queued"),
    ([PLANNED, ADMITTED], "queued"),
    ([PLANNED, HELD], "held"),
    ([HELD, STARTED], "running"),
    ([STARTED, HELD], "running"),
    ([STARTED, LOST], "running"),
    ([STARTED, LOST, REQUEUED], "queued"),
    ([STARTED, REQUEUED, RESTARTED], "running"),
    ([RESTARTED, REQUEUED, STARTED], "running"),
    ([STARTED, RESTARTED, LOST_STANDING_BY], "running"),
    ([STARTED, RESTARTED, LOST_STANDING_BY, REQUEUED], "queued"),
    ([STARTED, events.JobCancelRequested(**J, requested_at=at(9))], "cancelling"),
    ([SUCCEEDED, progressed(2, 99, 159), HELD, REQUEUED], "succeeded"),
    ([STARTED, events.JobFailed(**J, reason="out-of-memory", ended_at=at(9))], "failed"),
    ([events.JobCancelled(**J, ended_at=at(9)), STARTED], "cancelled"),
    ([SUCCEEDED, events.JobFailed(**J, ended_at=at(500))], "succeeded"),
    ([events.PlanProposed(**J, plan_id="p", preview=True)], "submitted"),
]


@pytest.mark.parametrize(("told", "state"), STATES)
def test_the_state_is_drawn_from_the_facts(told: list[Message], state: str) -> None:
    assert view_of(*told).state == state


def test_the_newest_hold_says_until_when_whichever_came_first() -> None:
    first = events.JobHeld(**J, rule="quota", detail="full", held_at=at(3), since=at(1), position=4)
    later = events.JobHeld(
        **J,
        rule="quota",
        detail="full",
        held_at=at(70),
        since=at(1),
        position=2,
        expected_start=at(100),
        earliest_start=at(80),
        latest_start=at(200),
    )
    for told in ([first, later], [later, first]):
        hold = view_of(PLANNED, *told).hold
        assert hold
        assert (hold.rule, hold.position, hold.since) == ("quota", 2, START + timedelta(seconds=1))
        assert hold.expected_start == START + timedelta(seconds=100)
        assert hold.latest_start == START + timedelta(seconds=200)
    unsaid = view_of(HELD).hold
    assert unsaid
    assert (unsaid.expected_start, unsaid.since, unsaid.position) == (None, None, 0)


def test_a_whole_life_is_told() -> None:
    view = view_of(*LIFE)
    assert view.plan_id == "plan_2"
    assert view.attempts[1].outcome == "lost"
    assert (view.attempts[2].outcome, view.attempts[2].lost_steps, view.attempts[2].gap_seconds) == (
        "finished",
        20,
        18.5,
    )
    assert view.end
    assert view.end.eval_loss_after == 1
    losses = dict(view.losses())
    assert list(losses) == list(range(1, 101)), "each step once: what was lost is replaced by what was done again"
    assert losses[40] == pytest.approx(2.6)
    assert losses[41] == pytest.approx(1.59)


@settings(max_examples=60)
@given(seed=st.integers(), duplicates=st.integers(0, 40))
def test_order_and_repetition_change_nothing(seed: int, duplicates: int) -> None:
    chance = random.Random(seed)
    told = [*LIFE, *chance.choices(LIFE, k=duplicates)]
    chance.shuffle(told)
    view = view_of(*told)
    expected = view_of(*LIFE)
    assert view.model_dump() == {**expected.model_dump(), "attempts": view.model_dump()["attempts"]}
    assert view.state == expected.state
    assert view.losses() == expected.losses()
    assert {n: a.model_dump() for n, a in view.attempts.items()} == {
        n: a.model_dump() for n, a in expected.attempts.items()
    }


def test_what_a_fenced_attempt_tells_late_is_not_the_jobs_progress() -> None:
    view = view_of(STARTED, RESTARTED, RESUMED, progressed(2, 45, 95), progressed(1, 60, 99))
    newest = view.newest_attempt
    assert newest
    assert newest.progress
    assert (newest.number, newest.progress.step) == (2, 45)
    assert max(step for step, _ in view.losses()) == 45


@given(steps=st.lists(st.integers(1, 5_000), unique=True, min_size=1, max_size=600), seed=st.integers())
def test_a_curve_is_bounded_and_does_not_depend_on_order(steps: list[int], seed: int) -> None:
    def curve(order: list[int]) -> Curve:
        return reduce(lambda so_far, step: so_far.add(step, step / 7), order, Curve())

    shuffled = steps.copy()
    random.Random(seed).shuffle(shuffled)
    drawn = curve(sorted(steps))
    assert curve(shuffled) == drawn
    assert len(drawn.points) <= MAX_POINTS
    if len(steps) <= MAX_POINTS:
        assert [step for step, _ in drawn.points.values()] == sorted(steps)


def test_numbers_that_are_none_are_shown_as_none() -> None:
    view = view_of(progressed(1, 5, 5, float("nan")))
    assert view.attempts[1].progress
    assert view.attempts[1].progress.loss is None
    shown = plain(events.Candidate(expected_interruptions=float("inf"), placement=events.Placement(capacity_type=2)))
    assert shown["expected_interruptions"] is None
    assert shown["placement"]["capacity_type"] == "on-demand"
    spec = plain(events.JobSpec(env={"A": "b"}, budget_usd=3, deadline=at(0)))
    assert (spec["env"], spec["budget_usd"], spec["deadline"]) == ({"A": "b"}, 3.0, "2026-11-24T00:00:00Z")
    assert plain(events.JobSpec())["budget_usd"] is None


E = {"endpoint_id": "endpoint_1", "tenant_id": "tenant_a"}
READY = events.EndpointReady(**E, ready_at=at(5), load_seconds=2)
FAILED = events.EndpointFailed(**E, reason="no weights", failed_at=at(3))
ASKED = events.EndpointDeletionRequested(**E, requested_at=at(7))
GONE = events.EndpointDeleted(**E, deleted_at=at(8))


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([], "requested"),
        ([FAILED], "failed"),
        ([FAILED, READY], "ready"),
        ([READY, FAILED], "ready"),
        ([READY, events.EndpointFailed(**E, failed_at=at(6))], "failed"),
        ([ASKED, READY], "deleting"),
        ([GONE, ASKED, READY], "deleted"),
    ],
)
def test_an_endpoints_state_is_drawn_from_the_facts(told: list[Message], state: str) -> None:
    assert reduce(endpoints.follow, told, EndpointView()).state == state
