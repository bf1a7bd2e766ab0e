"""How long a decision over the whole catalogue takes, how many replans a minute one core makes, and whether replays are
equal to the bit."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import replace

from benchmarks.figures import Figure, figure
from benchmarks.optimizer.savings import NOW, REQUEST, market
from services.optimizer import domain, messages, replay, snapshot
from services.optimizer.memory import ModelProfile
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.values import Assumptions, History, Plan, Refusal
from services.optimizer.work import OBJECTIVES

CALLS = 400
REPLAN_SECONDS = 10.0
REPLAYS = 1000
ASSUMPTIONS = Assumptions(max_workers=64)  # as the service's settings are
IDENTITY = {"job_id": "job", "tenant_id": "tenant", "plan_id": "plan", "preview": False, "after_attempt": 1}


def figures(known: dict[str, ModelProfile]) -> list[Figure]:
    everything = market()
    profiles = list(known.values())
    taken = sorted(_milliseconds(everything, profiles[n % len(profiles)]) for n in range(CALLS))
    how = f"{CALLS} plans of one job, {len(everything.offers)} offers, {len(everything.machines)} types, 6 regions"
    replans = _replans_per_minute(everything, profiles)
    equal, refusals = _equal_replays(everything, profiles)
    return [
        figure("plan-latency-p50", statistics.median(taken), "ms", 20, "lower", how=how),
        figure("plan-latency-p99", taken[int(CALLS * 0.99) - 1], "ms", 60, "lower", how=how),
        figure(
            "replans-per-minute",
            replans,
            "1/min",
            1000,
            "higher",
            how=f"decide, freeze with hash, build and serialise the event, one core, {REPLAN_SECONDS:g} s",
        ),
        figure(
            "replays-equal",
            equal,
            f"of {REPLAYS}",
            REPLAYS,
            "equal",
            how=f"random jobs, decided again from their stored texts; {refusals} of them refusals",
        ),
    ]


def _milliseconds(everything: Market, profile: ModelProfile) -> float:
    began = time.perf_counter()
    domain.plan(
        REQUEST,
        profile,
        machines=everything.machines,
        offers=everything.offers,
        assumptions=ASSUMPTIONS,
        now=NOW,
        history=History(),
    )
    return (time.perf_counter() - began) * 1e3


def _replans_per_minute(everything: Market, profiles: list[ModelProfile]) -> float:
    assert everything.hash  # once per price change
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < REPLAN_SECONDS:
        history = History(steps_done=done % 1000, spent_usd=0.01 * (done % 100))
        inputs = Inputs(replace(REQUEST, budget_usd=100.0), profiles[done % len(profiles)], ASSUMPTIONS, NOW, history)
        _stored(inputs, everything)
        done += 1
    return 60 * done / (time.perf_counter() - began)


def _equal_replays(everything: Market, profiles: list[ModelProfile]) -> tuple[int, int]:
    dice = random.Random(0)
    equal = refusals = 0
    for _ in range(REPLAYS):
        inputs = _random_inputs(dice, profiles)
        text, event = _stored(inputs, everything)
        again = replay.decide(text, everything.text)
        equal += _event(again.outcome, again.inputs, again.market) == event
        refusals += isinstance(again.outcome, Refusal)
    return equal, refusals


def _random_inputs(dice: random.Random, profiles: list[ModelProfile]) -> Inputs:
    rows = dice.randrange(10, 200_000)
    request = replace(
        REQUEST,
        rows=rows,
        estimated_tokens=rows * dice.randrange(20, 500),
        objective=dice.choice(OBJECTIVES[:2]),
        spot_policy=dice.choice(("auto", "spot", "on-demand")),
        budget_usd=dice.choice((None, dice.uniform(0.01, 100))),
        batch_size=dice.choice((None, 1, 8, 64)),
    )
    history = History(dice.randrange(100), dice.random(), save_seconds=dice.choice((0.0, dice.random())))
    assumptions = Assumptions(max_workers=dice.choice((1, 8, 64)), objects_region=dice.choice(("", "us-east-1")))
    return Inputs(request, dice.choice(profiles), assumptions, NOW, history)


def _stored(inputs: Inputs, everything: Market) -> tuple[str, bytes]:
    outcome = domain.plan(
        inputs.request,
        inputs.profile,
        machines=everything.machines,
        offers=everything.offers,
        assumptions=inputs.assumptions,
        now=inputs.now,
        history=inputs.history,
    )
    text, _ = snapshot.freeze(inputs, everything)
    return text, _event(outcome, inputs, everything)


def _event(outcome: Plan | Refusal, inputs: Inputs, everything: Market) -> bytes:
    if isinstance(outcome, Refusal):
        return messages.refused(outcome, inputs.now, **IDENTITY).SerializeToString(deterministic=True)
    told = messages.proposed(outcome, inputs, everything, snapshot_hash="hash", cause="requeued", **IDENTITY)
    return told.SerializeToString(deterministic=True)
