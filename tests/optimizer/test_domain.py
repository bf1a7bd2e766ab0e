"""The decision: what it promises holds, what it refuses it explains, and equal inputs decide equally."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.optimizer import catalogue, domain, snapshot
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.values import Assumptions, History, Offer, Plan, Refusal
from services.optimizer.work import OBJECTIVES, Request
from tests.optimizer.made import (
    LLAMA_8B,
    LLAMA_8B_FULL,
    NOW,
    REQUEST,
    SMOLLM2_FULL,
    SMOLLM2_PROFILE,
    asking,
    decide,
    measured,
    planned,
    refused,
)

HUGE = replace(
    SMOLLM2_PROFILE,
    float32=replace(SMOLLM2_PROFILE.float32, weight_bytes=4 * 10**12),
    bfloat16=replace(SMOLLM2_PROFILE.bfloat16, weight_bytes=2 * 10**12),
)


def test_the_cheapest_placement_of_the_whole_job_comes_first() -> None:
    plan = planned()
    totals = [candidate.total_usd.expected for candidate in plan.candidates[: domain.MAX_RANKED]]
    spot = [each for each in plan.candidates if each.offer.capacity_type == "spot"]
    assert plan.fitting == len(catalogue.snapshot().offers)
    assert len(totals) == domain.MAX_RANKED
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
    slow = measured(1.0, 20, tokens=8 * 80)  # e times slower than predicted, at this job's own micro-batches
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
    history = History(10, 0.1, 4, (known.offers[3].key,), (measured(0.1234567890123, 3),))
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


def test_the_pareto_front_leaves_out_what_another_beats_in_both() -> None:
    plan = planned(profile=LLAMA_8B, request=asking(rows=20_000, estimated_tokens=8_000_000))
    front = [each for each in plan.candidates if each.on_pareto_front]
    assert plan.candidates[0] in front
    assert len(front) >= 3
    for one in front:
        assert not any(
            other.total_usd.expected < one.total_usd.expected
            and other.completion.hours.expected < one.completion.hours.expected
            for other in plan.candidates
        )


def test_dollars_and_hours_are_the_sums_of_their_parts() -> None:
    plan = planned(assumptions=Assumptions(objects_region="eu-west-1"))
    for each in plan.candidates:
        dollars = each.usd
        parts = dollars.compute + dollars.on_demand_fallback + dollars.storage + dollars.egress
        assert parts == pytest.approx(each.total_usd.expected)
        assert (dollars.egress > 0) == (each.offer.region != "eu-west-1")
        assert (dollars.on_demand_fallback > 0) == (each.offer.capacity_type == "spot")
        assert each.on_demand_total_usd >= each.total_usd.expected * 0.999


@pytest.mark.parametrize(
    ("objective", "given_", "reason"),
    [
        ("cheapest-within-deadline", {}, "deadline"),
        ("fastest-within-budget", {}, "budget"),
    ],
)
def test_an_objective_within_something_needs_it(objective: str, given_: dict[str, float], reason: str) -> None:
    refusal = refused(asking(objective=objective, **given_))
    assert refusal.reason == reason
    assert "Give" in refusal.advice


def test_the_fastest_within_a_budget_spends_it_on_time() -> None:
    cheapest = planned().candidates[0]
    budget = cheapest.total_usd.high * 3
    fastest = planned(asking(objective="fastest-within-budget", budget_usd=budget)).candidates[0]
    assert fastest.total_usd.high <= budget
    assert fastest.completion.hours.expected < cheapest.completion.hours.expected


def test_the_cheapest_within_a_deadline_is_dearer_only_if_it_must_be() -> None:
    job = asking(rows=20_000, estimated_tokens=8_000_000)
    free = planned(job, profile=LLAMA_8B).candidates[0]
    tight = (NOW + timedelta(hours=free.completion.hours.high * 0.8)).isoformat()
    plan = planned(replace(job, objective="cheapest-within-deadline", deadline=tight), profile=LLAMA_8B)
    assert plan.candidates[0].total_usd.expected > free.total_usd.expected
    assert plan.candidates[0].completion.hours.high <= free.completion.hours.high * 0.8


def test_the_point_of_no_return_leaves_a_slow_day_on_demand() -> None:
    deadline = NOW + timedelta(hours=5)
    plan = planned(asking(deadline=deadline.isoformat()))
    steady = [each.completion.hours.high for each in plan.candidates if each.offer.capacity_type == "on-demand"]
    turn = datetime.fromisoformat(plan.point_of_no_return)
    assert NOW < turn <= deadline - timedelta(hours=min(steady)) + timedelta(seconds=1)
    assert planned().point_of_no_return == ""


def test_spot_without_checkpoints_is_refused_and_auto_stays_off_spot() -> None:
    refusal = refused(asking(checkpoints=False, spot_policy="spot"))
    assert "spot without checkpoints" in refusal.detail
    assert "checkpoint.interval" in refusal.advice
    plan = planned(asking(checkpoints=False))
    assert {each.offer.capacity_type for each in plan.candidates} == {"on-demand"}
    assert {each.completion.checkpoint_interval_steps for each in plan.candidates} == {plan.work.total_steps}


BIG = asking(rows=50_000, estimated_tokens=25_000_000, batch_size=64)


def test_one_worker_is_planned_unless_the_trainer_can_do_with_more() -> None:
    alone = planned(BIG, profile=LLAMA_8B)
    assert {(each.pace.machines, each.pace.workers) for each in alone.candidates} == {(1, 1)}
    many = planned(replace(BIG, objective="fastest"), profile=LLAMA_8B, assumptions=Assumptions(max_workers=64))
    assert many.candidates[0].pace.workers > 8
    assert many.candidates[0].completion.hours.expected < alone.candidates[0].completion.hours.expected / 4


@pytest.mark.parametrize(("nodes", "counts"), [("1", {1}), ("2", {2}), ("2+", {2, 4, 8}), ("1..2", {1, 2})])
def test_the_number_of_machines_is_what_was_asked_for(nodes: str, counts: set[int]) -> None:
    plan = planned(replace(BIG, nodes=nodes), profile=LLAMA_8B, assumptions=Assumptions(max_workers=64))
    assert {each.pace.machines for each in plan.candidates} <= counts


def test_more_machines_than_the_trainer_can_use_are_refused() -> None:
    assert "nodes" in refused(replace(BIG, nodes="2+"), profile=LLAMA_8B).detail


GANGS = Assumptions(max_workers=64)


def test_every_machine_of_a_group_is_paid_and_any_loss_stops_all() -> None:
    alone, pairs = (
        {
            each.offer.key: each
            for each in planned(replace(BIG, nodes=nodes), profile=LLAMA_8B, assumptions=GANGS).candidates
        }
        for nodes in ("1", "2")
    )
    both = alone.keys() & pairs.keys()
    assert both
    for key in both:
        assert pairs[key].usd_per_hour == 2 * alone[key].usd_per_hour
        assert pairs[key].completion.interruptions_per_hour == alone[key].completion.interruptions_per_hour


def test_an_offer_makes_one_candidate_however_many_machines_are_weighed() -> None:
    for objective in OBJECTIVES[:2]:
        counts = [
            planned(replace(BIG, objective=objective), assumptions=Assumptions(max_workers=most)).fitting
            for most in (1, 64)
        ]
        assert counts[0] == counts[1]


def test_several_machines_are_taken_where_the_objective_is_better_for_it() -> None:
    """The cheapest has one; a deadline that one cannot keep takes as few as can; a small job gains nothing by them."""
    wish = replace(BIG, instance_types=("g6.xlarge",), spot_policy="on-demand")
    alone = planned(wish, profile=LLAMA_8B, assumptions=GANGS).candidates[0]
    assert alone.pace.machines == 1
    soon = (NOW + timedelta(hours=alone.completion.hours.high / 1.7)).isoformat()
    late = (NOW + timedelta(hours=alone.completion.hours.high * 1.1)).isoformat()
    counts = [
        planned(replace(wish, deadline=until), profile=LLAMA_8B, assumptions=GANGS).candidates[0].pace.machines
        for until in (late, soon)
    ]
    assert counts == [1, 2]
    fastest = replace(wish, objective="fastest")
    assert planned(fastest, profile=LLAMA_8B, assumptions=GANGS).candidates[0].pace.machines == 8
    small = planned(asking(objective="fastest", instance_types=("g6.xlarge",)), assumptions=GANGS)
    assert small.candidates[0].pace.machines == 1


def test_a_budget_that_eight_machines_would_break_takes_fewer() -> None:
    wish = replace(BIG, objective="fastest-within-budget", instance_types=("g6.xlarge",), spot_policy="on-demand")
    all_of_them = planned(replace(wish, budget_usd=1e6), profile=LLAMA_8B, assumptions=GANGS).candidates[0]
    tight = all_of_them.total_usd.high * 0.97
    fewer = planned(replace(wish, budget_usd=tight), profile=LLAMA_8B, assumptions=GANGS).candidates[0]
    assert fewer.pace.machines < all_of_them.pace.machines == 8
    assert fewer.total_usd.high <= tight


def test_this_computer_plays_several_machines_only_where_they_are_asked_for() -> None:
    local = tuple(
        replace(each, cloud="local", region="local", zone="*")
        for each in catalogue.snapshot().offers
        if each.key == "aws/us-east-1/*/m5.large/on-demand"
    )
    wish = asking(rows=50_000, estimated_tokens=25_000_000, objective="fastest")
    counts = [
        planned(replace(wish, nodes=nodes), offers=local, assumptions=GANGS).candidates[0].pace.machines
        for nodes in ("", "1..8", "2")
    ]
    assert counts == [1, 1, 2]


def test_machines_without_accelerators_have_one_worker_each() -> None:
    plan = planned(replace(BIG, accelerators="none", nodes="4"), assumptions=GANGS)
    assert {(each.pace.machines, each.pace.workers) for each in plan.candidates} == {(4, 4)}


def test_gradient_checkpointing_lets_a_model_fit_where_it_would_not() -> None:
    request = asking(sequence_length=1024, instance_types=("g5.xlarge",), spot_policy="on-demand")
    assert refused(replace(request, gradient_checkpointing=False), profile=LLAMA_8B).reason == "memory"
    chosen = planned(request, profile=LLAMA_8B)
    assert chosen.candidates[0].pace.checkpointing
    assert "gradient checkpointing" in chosen.explanation


def test_a_four_bit_base_needs_an_accelerator_and_less_of_it() -> None:
    request = asking(method="qlora", sequence_length=1024)
    assert all(each.pace.machine.accelerator_name for each in planned(request, profile=LLAMA_8B).candidates)
    small = replace(request, instance_types=("g4dn.xlarge",))
    assert planned(small, profile=LLAMA_8B).candidates
    assert refused(replace(small, method="lora"), profile=LLAMA_8B).reason == "memory"
    assert "4-bit" in refused(replace(request, accelerators="none"), profile=LLAMA_8B).detail


def test_a_refusal_for_memory_names_the_term_to_shrink() -> None:
    request = asking(method="full", instance_types=("g5.xlarge",))
    assert "weights" in refused(profile=HUGE).detail
    assert "are optimizer" in refused(request, profile=LLAMA_8B_FULL).detail


def test_full_training_is_planned_too() -> None:
    plan = planned(asking(method="full"), profile=SMOLLM2_FULL)
    assert plan.work.learning_rate == 2e-5
    assert plan.candidates[0].pace.footprint.optimizer_bytes > plan.candidates[0].pace.footprint.weight_bytes


def moved(offers: tuple[Offer, ...], key: str, factor: float) -> tuple[Offer, ...]:
    return tuple(
        replace(each, price_usd_per_hour=each.price_usd_per_hour * factor) if each.key == key else each
        for each in offers
    )


def test_a_price_has_to_move_far_before_a_plan_is_worth_changing() -> None:
    offers, request = catalogue.snapshot().offers, asking(rows=100_000, estimated_tokens=10_000_000)
    chosen = planned(request).candidates[0]

    def worth(factor: float) -> bool:
        return domain.worth_moving(chosen.key, planned(request, offers=moved(offers, chosen.offer.key, factor)))

    assert not worth(1.0)
    assert not worth(1.02)
    assert worth(3.0)
    assert not worth(0.5)
    without = tuple(each for each in offers if each.key != chosen.offer.key)
    assert domain.worth_moving(chosen.key, planned(request, offers=without))
