"""What the policy is asked about a job, and which candidate its answer is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.scheduler import money, placing, transitions
from services.scheduler.domain import EndReason, Job
from services.scheduler.market import Market
from services.scheduler.policy import Action, Decision, SpotPolicy, shipped
from services.scheduler.settings import Settings
from sskai.cluster import offer_of
from sskai.events import v1 as events
from tests.scheduler.examples import START, candidate, placement, progressed, proposed, running_job, submitted

SETTINGS, LOOKAHEAD = Settings(), shipped()
UNSEEN = Market(LOOKAHEAD.model, {})
FIRST, SECOND = (offer_of(placement(zone=zone)) for zone in ("use1-az1", "use1-az2"))


def queued(*candidates: events.Candidate, **wishes: float) -> Job:
    plan = proposed()
    if candidates:
        del plan.candidates[:]
        plan.candidates.extend(candidates)
    return transitions.planned(transitions.submitted(submitted(**wishes), START, ""), plan, START)  # type: ignore[arg-type]


def seen(market: Market, offer: str, available: bool) -> Market:
    sight = market.seen(offer, available, START)
    assert sight is not None
    return Market(market.model, {**market.sights, offer: sight})


def test_work_is_counted_in_time_of_the_machine_that_is_fallen_back_on() -> None:
    """A spot machine half as fast is worth half its price; a gang costs all its machines."""
    asked = placing.situation(
        queued(
            candidate(placement(price=0.30), step_seconds=72),
            candidate(placement(zone="use1-az2", price=0.10), step_seconds=18, machines=4),
            candidate(placement(spot=False, zone="*", price=1.08), step_seconds=36),
        ),
        START,
        SETTINGS,
        UNSEEN,
    )
    assert asked.work_left_seconds == pytest.approx(100 * 36)
    assert {zone.name: zone.price for zone in asked.zones} == pytest.approx({FIRST: 0.60, SECOND: 0.20})
    assert asked.on_demand_price == pytest.approx(1.08)


def test_a_slower_pace_than_planned_is_taken_over_to_the_fallback() -> None:
    job = running_job()
    job = transitions.progressed(job, progressed(1, 50), START + timedelta(minutes=60))
    asked = placing.situation(replace(job, step_seconds=72.0), START + timedelta(minutes=60), SETTINGS, UNSEEN)
    assert asked.work_left_seconds == pytest.approx(50 * 72)
    assert (asked.running_on, asked.restart_left_seconds) == (Action.SPOT, 0)


def test_a_deadline_leaves_room_for_a_drain_and_a_slow_start() -> None:
    asked = placing.situation(queued(deadline_hours=3), START, SETTINGS, UNSEEN)
    assert asked.deadline_seconds == pytest.approx(3 * 3600 - asked.restart_seconds - money.DRAIN_SECONDS)
    assert placing.situation(queued(), START, SETTINGS, UNSEEN).deadline_seconds is None


@pytest.mark.parametrize(
    ("kinds", "policy"),
    [((True, False), SpotPolicy.AUTO), ((True, True), SpotPolicy.SPOT), ((False, False), SpotPolicy.ON_DEMAND)],
)
def test_what_was_not_planned_is_not_waited_for(kinds: tuple[bool, ...], policy: SpotPolicy) -> None:
    job = queued(*(candidate(placement(spot=spot)) for spot in kinds))
    assert placing.situation(job, START, SETTINGS, UNSEEN).spot_policy is policy


def test_a_denied_offer_is_down_and_the_other_is_chosen() -> None:
    job = queued()
    first = placing.choose(job, START, SETTINGS, UNSEEN, LOOKAHEAD)
    assert first.candidate is not None
    assert offer_of(first.candidate.placement) == FIRST
    job = transitions.avoid(job, first.candidate.placement, START, 60)
    second = placing.choose(job, START, SETTINGS, UNSEEN, LOOKAHEAD)
    assert second.candidate is not None
    assert offer_of(second.candidate.placement) == SECOND
    later = START + timedelta(seconds=61)
    again = placing.choose(job, later, SETTINGS, UNSEEN, LOOKAHEAD)
    assert again.candidate is not None
    assert offer_of(again.candidate.placement) == FIRST


def test_without_a_plan_or_a_machine_a_job_is_held_by_a_rule() -> None:
    unplanned = transitions.submitted(submitted(), START, "")
    assert placing.choose(unplanned, START, SETTINGS, UNSEEN, LOOKAHEAD).rule == "no-plan"
    job = queued(candidate(placement(spot=False)))
    job = transitions.avoid(job, placement(spot=False), START, 60)
    held = placing.choose(job, START, SETTINGS, UNSEEN, LOOKAHEAD)
    assert (held.candidate, held.rule) == (None, "no-capacity")
    waiting = queued(deadline_hours=9)
    for zone in ("use1-az1", "use1-az2"):
        waiting = transitions.avoid(waiting, placement(zone=zone), START, 60)
    assert placing.choose(waiting, START, SETTINGS, UNSEEN, LOOKAHEAD).rule == "waiting-for-spot"


def test_a_job_on_demand_moves_only_where_it_is_sure_of_a_machine() -> None:
    job = running_job(placement(spot=False, zone="*", price=1.08))
    asked = placing.situation(job, START, SETTINGS, UNSEEN)
    assert not asked.has_spot, "nobody has seen a machine there"
    market = seen(seen(UNSEEN, FIRST, True), SECOND, False)
    asked = placing.situation(job, START, SETTINGS, market)
    assert {zone.name: zone.available for zone in asked.zones} == {FIRST: True, SECOND: False}
    assert placing.decide(job, START, SETTINGS, market, LOOKAHEAD).action is Action.SPOT


@pytest.mark.parametrize(
    ("spot", "decision", "reason"),
    [
        (True, Decision(Action.SPOT, "", FIRST), None),
        (True, Decision(Action.SPOT, "", SECOND), EndReason.CHEAPER_ELSEWHERE),
        (True, Decision(Action.ON_DEMAND, ""), EndReason.DEADLINE_AT_RISK),
        (True, Decision(Action.WAIT, ""), None),
        (False, Decision(Action.ON_DEMAND, ""), None),
        (False, Decision(Action.SPOT, "", FIRST), EndReason.CHEAPER_ELSEWHERE),
        (False, Decision(Action.WAIT, ""), None),
    ],
)
def test_when_a_running_job_moves(spot: bool, decision: Decision, reason: EndReason | None) -> None:
    job = running_job(placement(spot=spot))
    assert placing.reason_to_move(job, decision) is reason
