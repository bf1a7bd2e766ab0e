"""The decision: what it promises holds, what it refuses it explains, and equal inputs decide equally."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.optimizer import catalogue, domain, snapshot
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.throughput import Measured
from services.optimizer.values import Assumptions, History, Offer, Plan, Refusal
from services.optimizer.work import Request
from tests.optimizer.made import NOW, REQUEST, SMOLLM2_PROFILE, asking, decide, planned, refused

HUGE = replace(SMOLLM2_PROFILE, parameters=10**12)


def test_the_cheapest_placement_of_the_whole_job_comes_first() -> None:
    plan = planned()
    totals = [candidate.total_usd.expected for candidate in plan.candidates]
    spot = [each for each in plan.candidates if each.offer.capacity_type == "spot"]
    assert plan.fitting == len(catalogue.snapshot().offers)
    assert len(plan.candidates) == domain.MAX_CANDIDATES
    assert totals == sorted(totals)
    assert spot
    assert plan.candidates[0].offer.instance_type in plan.explanation


def test_the_fastest_is_not_slower_than_the_cheapest() -> None:
    fastest = planned(asking(objective="fastest")).candidates[0]
    cheapest = planned().candidates[0]
    assert fastest.completion.hours.expected < cheapest.completion.hours.expected
    assert fastest.total_usd.expected > cheapest.total_usd.expected


def test_a_plan_on_spot_holds_an_on_demand_machine_to_fall_back_to() -> None:
    plan = planned()
    assert plan.candidates[0].offer.capacity_type == "spot"
    assert any(candidate.offer.capacity_type == "on-demand" for candidate in plan.candidates)


@pytest.mark.parametrize("policy", ["spot", "on-demand"])
def test_a_spot_policy_is_obeyed(policy: str) -> None:
    assert {each.offer.capacity_type for each in planned(asking(spot_policy=policy)).candidates} == {policy}


REFUSALS = {
    "zero budget": (asking(budget_usd=0.0), "budget", "nothing is left"),
    "negative budget": (asking(budget_usd=-1.0), "budget", "nothing is left"),
    "tiny budget": (asking(budget_usd=0.0001), "budget", "costs up to"),
    "past deadline": (asking(deadline=(NOW - timedelta(hours=3)).isoformat()), "deadline", "passed 3.0 h ago"),
    "short deadline": (asking(deadline=(NOW + timedelta(seconds=60)).isoformat()), "deadline", "60 s are left"),
    "unknown accelerator": (asking(accelerators="TPUv9:1"), "resources", "known are A100"),
    "nonsense size": (asking(cpus="four"), "resources", "write 4, 4+ or 2..8"),
    "too many cpus": (asking(cpus="1000+"), "resources", "vCPUs"),
    "unknown region": (asking(regions=("mars-1",)), "resources", "mars-1"),
    "unknown type": (asking(instance_types=("x99.large",)), "resources", "x99.large"),
    "price ceiling": (asking(max_price_usd_per_hour=0.01), "resources", "over max_price 0.01"),
    "no rows": (asking(rows=0, estimated_tokens=0), "resources", "no rows"),
}


@pytest.mark.parametrize(("request_", "reason", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_names_what_binds_and_what_to_do(request_: Request, reason: str, words: str) -> None:
    refusal = refused(request_)
    assert refusal.reason == reason
    assert words in refusal.detail
    assert refusal.advice


def test_a_model_that_fits_nowhere_is_refused_with_the_bytes_it_lacks() -> None:
    refusal = refused(profile=HUGE)
    assert refusal.reason == "memory"
    assert "GiB for one sequence" in refusal.detail


def test_a_refusal_tells_of_the_offer_that_came_closest() -> None:
    cheapest = min(planned().candidates, key=lambda each: each.total_usd.high)
    refusal = refused(asking(budget_usd=cheapest.total_usd.high * 0.3))
    assert refusal.reason == "budget"
    assert cheapest.offer.key in refusal.detail


def test_what_is_not_offered_is_rejected_and_said_last() -> None:
    plan = planned(asking(max_price_usd_per_hour=0.2), assumptions=Assumptions(("c5.*", "m5.*")))
    reasons = [rejection.misfit.reason for rejection in plan.rejections]
    assert {each.offer.instance_type.partition(".")[0] for each in plan.candidates} <= {"c5", "m5"}
    assert reasons == sorted(reasons, key=["max-price", "not-offered"].index)
    assert len(reasons) <= domain.MAX_REJECTIONS


def test_a_region_that_is_not_used_is_not_offered() -> None:
    plan = planned(assumptions=Assumptions(regions=("eu-west-1",)))
    assert {each.offer.region for each in plan.candidates} == {"eu-west-1"}


@pytest.mark.parametrize(
    ("accelerators", "expected"),
    [("L4:1", {("L4", 1)}), ("l4:1, A10G:1", {("L4", 1), ("A10G", 1)}), ("T4:4+", {("T4", 4), ("T4", 8)})],
)
def test_accelerators_are_what_was_asked_for(accelerators: str, expected: set[tuple[str, int]]) -> None:
    machines = catalogue.snapshot().machines
    found = {
        (machines[each.offer.instance_type].accelerator_name, machines[each.offer.instance_type].accelerator_count)
        for each in planned(asking(accelerators=accelerators)).candidates
    }
    assert found
    assert found <= expected


def test_no_accelerator_can_be_asked_for() -> None:
    assert all(not each.pace.machine.accelerator_name for each in planned(asking(accelerators="none")).candidates)


def test_a_denied_offer_makes_way_for_another_zone() -> None:
    first = planned().candidates[0].offer.key
    plan = planned(history=History(denied=(first,)))
    assert first not in {each.offer.key for each in plan.candidates}
    assert first in {each.offer.key for each in plan.rejections if each.misfit.reason == "denied"}


def test_when_everything_was_denied_the_plan_waits_for_it_instead_of_giving_up() -> None:
    only = (planned().candidates[0].offer,)
    plan = planned(offers=only, history=History(denied=(only[0].key,)))
    assert [each.offer.key for each in plan.candidates] == [only[0].key]


def test_a_later_plan_is_for_what_is_left_and_keeps_the_micro_batch() -> None:
    first = planned(asking(batch_size=8))
    rest = planned(asking(batch_size=8), history=History(steps_done=100, micro_batch_size=2))
    assert rest.work.total_steps == first.work.total_steps
    assert rest.work.steps_left == first.work.total_steps - 100
    assert rest.work.learning_rate == first.work.learning_rate
    assert {each.pace.micro_batch_size for each in rest.candidates} == {2}


@pytest.mark.parametrize("share", [0.99, 0.6])
def test_a_slow_day_has_to_end_before_the_deadline_and_within_the_budget(share: float) -> None:
    """Judged by the 95th percentile: enough for it is enough, less is not."""
    only = (planned().candidates[0].offer,)
    best = planned(offers=only).candidates[0]
    seconds, dollars = best.completion.hours.high * 3600, best.total_usd.high

    def by(seconds_left: float, budget_usd: float) -> Plan | Refusal:
        deadline = (NOW + timedelta(seconds=seconds_left)).isoformat()
        return decide(asking(deadline=deadline, budget_usd=budget_usd), offers=only)

    assert isinstance(by(seconds + 1, dollars), Plan)
    for outcome, reason in ((by(seconds * share, dollars), "deadline"), (by(seconds + 1, dollars * share), "budget")):
        assert isinstance(outcome, Refusal)
        assert outcome.reason == reason


def test_money_that_is_spent_cannot_be_spent_again() -> None:
    budget = planned().candidates[0].total_usd.high * 1.01
    assert isinstance(decide(asking(budget_usd=budget)), Plan)
    assert refused(asking(budget_usd=budget), history=History(spent_usd=budget / 2)).reason == "budget"


def test_measured_steps_move_the_estimate_and_narrow_it() -> None:
    slow = Measured("c5.xlarge", "cpu", "lora", count=20, mean_log_ratio=1.0)  # e times slower than predicted
    only = asking(instance_types=("c5.xlarge",))
    before = planned(only).candidates[0].pace.step_seconds
    after = planned(only, history=History(measured=(slow,))).candidates[0].pace.step_seconds
    assert after.expected / before.expected == pytest.approx(2.718, rel=0.05)
    assert after.high / after.low < before.high / before.low


usd = st.floats(0.001, 100)
hours = st.floats(0.01, 100)


@settings(max_examples=60, deadline=None)
@given(
    budget=usd, deadline_hours=hours, rows=st.integers(1, 100_000), objective=st.sampled_from(["cheapest", "fastest"])
)
def test_no_candidate_breaks_the_deadline_or_the_budget(
    budget: float, deadline_hours: float, rows: int, objective: str
) -> None:
    outcome = decide(
        asking(
            rows=rows,
            estimated_tokens=rows * 50,
            budget_usd=budget,
            deadline=(NOW + timedelta(hours=deadline_hours)).isoformat(),
            objective=objective,
        )
    )
    if isinstance(outcome, Refusal):
        assert outcome.reason in {"budget", "deadline"}
        assert outcome.detail
        return
    for candidate in outcome.candidates:
        assert candidate.total_usd.low <= candidate.total_usd.expected <= candidate.total_usd.high <= budget
        assert candidate.completion.hours.low <= candidate.completion.hours.expected
        assert candidate.completion.hours.expected <= candidate.completion.hours.high <= deadline_hours
        assert 1 <= candidate.completion.checkpoint_interval_steps <= outcome.work.total_steps


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 300), factor=st.floats(0.1, 1.0), objective=st.sampled_from(["cheapest", "fastest"]))
def test_a_cheaper_price_never_ranks_worse(index: int, factor: float, objective: str) -> None:
    offers = tuple(each for each in catalogue.snapshot().offers if each.region == "us-west-2")
    index %= len(offers)
    one = offers[index]
    cheaper = replace(one, price_usd_per_hour=one.price_usd_per_hour * factor)
    request = asking(objective=objective)

    def rank(among: tuple[Offer, ...]) -> int:
        keys = [each.offer.key for each in planned(request, offers=among).candidates]
        return keys.index(one.key) if one.key in keys else len(keys)

    assert rank((*offers[:index], cheaper, *offers[index + 1 :])) <= rank(offers)


@pytest.mark.parametrize("request_", [REQUEST, asking(budget_usd=0.5, objective="fastest"), asking(budget_usd=0.0)])
def test_a_stored_decision_is_decided_again_equal_to_the_bit(request_: Request) -> None:
    known = catalogue.snapshot()
    market = Market(known.machines, known.offers)
    history = History(10, 0.1, 4, (known.offers[3].key,), (Measured("c5.xlarge", "cpu", "lora", 3, 0.1234567890123),))
    inputs = Inputs(request_, SMOLLM2_PROFILE, Assumptions(("c5.*", "g*")), NOW, history)
    text, sha256 = snapshot.freeze(inputs, market)
    arguments = snapshot.thaw(text, market.text)
    assert repr(domain.plan(**arguments)) == repr(decide(request_, assumptions=inputs.assumptions, history=history))
    again = Inputs(*(arguments[name] for name in ("request", "profile", "assumptions", "now", "history")))
    assert snapshot.freeze(again, Market(arguments["machines"], arguments["offers"])) == (text, sha256)


def test_a_snapshot_on_another_market_is_not_replayed() -> None:
    known = catalogue.snapshot()
    market = Market(known.machines, known.offers)
    text, _ = snapshot.freeze(Inputs(REQUEST, SMOLLM2_PROFILE, Assumptions(), NOW, History()), market)
    with pytest.raises(ValueError, match="not the one"):
        snapshot.thaw(text, Market(known.machines, known.offers[1:]).text)
