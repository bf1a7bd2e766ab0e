"""A stored decision made again, as it was and as other policies would have made it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.optimizer import catalogue, domain, replay, snapshot
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.values import Assumptions, History, Plan
from services.optimizer.work import OBJECTIVES, Request
from tests.optimizer.made import LLAMA_8B, NOW, REQUEST, SMOLLM2_PROFILE, asking, decide, measured

KNOWN = catalogue.snapshot()
MARKET = Market(KNOWN.machines, KNOWN.offers)
LONG = asking(rows=20_000, estimated_tokens=8_000_000)


def frozen(request: Request = LONG, history: History | None = None) -> str:
    return snapshot.freeze(Inputs(request, LLAMA_8B, Assumptions(), NOW, history or History()), MARKET)[0]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 10**6),
    objective=st.sampled_from(OBJECTIVES),
    budget=st.none() | st.floats(0.001, 1e3),
    ratio=st.floats(-1, 1),
    workers=st.sampled_from([1, 8, 64]),
)
def test_any_decision_comes_out_equal_to_the_bit(
    rows: int, objective: str, budget: float | None, ratio: float, workers: int
) -> None:
    request = asking(rows=rows, estimated_tokens=rows * 77, objective=objective, budget_usd=budget)
    history = History(measured=(measured(ratio, 3, family="g5", hardware="A10G"),), save_seconds=abs(ratio))
    assumptions = Assumptions(max_workers=workers)
    inputs = Inputs(request, SMOLLM2_PROFILE, assumptions, NOW, history)
    text, _ = snapshot.freeze(inputs, MARKET)
    again = replay.decide(text, MARKET.text)
    assert repr(again.outcome) == repr(decide(request, assumptions=assumptions, history=history))
    assert again.inputs == inputs


@pytest.mark.parametrize("policy", sorted(replay.POLICIES))
def test_each_policy_decides(policy: str) -> None:
    outcome = replay.decide(frozen(), MARKET.text, policy).outcome
    assert isinstance(outcome, Plan)
    ours = replay.chosen(replay.decide(frozen(), MARKET.text).outcome)
    theirs = outcome.candidates[0]
    assert ours is not None
    if policy != "spot":  # which waits where auto falls back to on demand
        assert theirs.total_usd.expected >= ours.total_usd.expected * (1 - 1e-9), "we take the cheapest of all"
    if policy in ("on-demand", "naive"):
        assert theirs.offer.capacity_type == "on-demand"
    if policy == "fastest":
        assert theirs.completion.hours.expected < ours.completion.hours.expected


def test_a_difference_is_said_in_time_and_money() -> None:
    ours = replay.chosen(replay.decide(frozen(), MARKET.text).outcome)
    naive = replay.chosen(replay.decide(frozen(), MARKET.text, "naive").outcome)
    first, *_ = replay.differences(ours, naive, "naive")
    assert first.startswith("naive takes aws/")
    assert "g5.xlarge/on-demand" in first
    assert first.endswith("more")
    assert replay.differences(ours, ours, "cheapest") == ()
    assert "nothing" in replay.differences(ours, None, "spot")[0]
    assert "was refused" in replay.differences(None, ours, "spot")[0]


def test_an_unknown_policy_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"policy 'magic' is not known; known are cheapest, cheapest-hour"):
        replay.decide(frozen(), MARKET.text, "magic")


def test_inputs_of_another_version_are_refused_and_not_guessed() -> None:
    older = json.loads(frozen(REQUEST))
    del older["profile"]["float32"]
    with pytest.raises(ValueError, match="float32"):
        replay.decide(json.dumps(older), MARKET.text)


def test_a_forged_market_is_refused() -> None:
    cheaper = Market(KNOWN.machines, tuple(replace(each, price_usd_per_hour=0.001) for each in KNOWN.offers))
    with pytest.raises(ValueError, match="not the one"):
        replay.decide(frozen(), cheaper.text)


def test_the_planner_has_a_version() -> None:
    assert domain.PLANNER_VERSION
