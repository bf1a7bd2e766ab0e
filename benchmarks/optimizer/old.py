"""How long a decision takes over the whole catalogue, and what planning by the whole job saves. Prints one JSON object.

Latency: one `domain.plan` call on SmolLM2-135M with every offer of the catalogue, profile known. Freezing its inputs
into canonical text with a hash is measured apart. Savings: the same jobs priced by the same estimates on the choice and
on two peers that a person could pick without a planner: the cheapest on-demand placement, and the cheapest spot machine
*by the hour* that holds the model. These are estimates on catalogue prices, not bills.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from services.optimizer import catalogue, domain, snapshot
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.values import Assumptions, Candidate, History, Offer, Plan, Refusal
from services.optimizer.work import ModelProfile, Request

CALLS = 200
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

# What the profiling worker counts for SmolLM2-135M (256 tokens) and Llama 3 8B (1,024 tokens); LoRA rank 8, all layers.
SMALL = ModelProfile(134_515_008, 2_442_240, 30, 604_523_520.0, 382_548_004, 50_331_648)
MIDDLE = ModelProfile(8_030_261_248, 20_971_520, 32, 31_704_547_328.0, 12_345_155_620, 525_336_576)
REQUEST = Request("lora", 8, 400, 100_000, 20_000, 0.05, 8192)
JOBS = {
    "small": (REQUEST, SMALL),
    "small, a million rows": (replace(REQUEST, rows=1_000_000, estimated_tokens=50_000_000), SMALL),
    "8 billion parameters": (replace(REQUEST, rows=10_000, estimated_tokens=2_000_000), MIDDLE),
}


def attempt(request: Request, profile: ModelProfile, offers: Sequence[Offer]) -> Plan | Refusal:
    machines = catalogue.snapshot().machines
    return domain.plan(
        request, profile, machines=machines, offers=offers, assumptions=Assumptions(), now=NOW, history=History()
    )


def decide(request: Request, profile: ModelProfile) -> Plan:
    outcome = attempt(request, profile, catalogue.snapshot().offers)
    assert isinstance(outcome, Plan), outcome
    return outcome


def milliseconds(call: Callable[[], object]) -> list[float]:
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1e3)
    return sorted(taken)


def figure(name: str, value: float, unit: str, goal: float | None, better: str, **more: Any) -> dict[str, Any]:
    met = None if goal is None else (value <= goal if better == "lower" else value >= goal)
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "better": better, "met": met, **more}


def latency() -> list[dict[str, Any]]:
    known = catalogue.snapshot()
    market = Market(known.machines, known.offers)
    inputs = Inputs(REQUEST, SMALL, Assumptions(), NOW, History())
    first = time.perf_counter()
    market_bytes = len(market.text)
    market_ms = (time.perf_counter() - first) * 1e3
    decision = milliseconds(lambda: decide(REQUEST, SMALL))
    freezing = milliseconds(lambda: snapshot.freeze(inputs, market))
    how = f"{CALLS} calls, {len(known.offers)} offers, {len(known.machines)} types"
    p99 = int(CALLS * 0.99) - 1
    return [
        figure("plan-latency-p50", statistics.median(decision), "ms", 20, "lower", peer=None, how=how),
        figure("plan-latency-p99", decision[p99], "ms", None, "lower", peer=None, how=how),
        figure("snapshot-latency-p50", statistics.median(freezing), "ms", None, "lower", peer=None, how=how),
        figure(
            "market-text", market_ms, "ms", None, "lower", peer=None, how=f"once per price change; {market_bytes} bytes"
        ),
    ]


def savings() -> list[dict[str, Any]]:
    figures = []
    for name, (request, profile) in JOBS.items():
        chosen = decide(request, profile).candidates[0]
        on_demand = decide(replace(request, spot_policy="on-demand"), profile).candidates[0]
        by_the_hour = cheapest_hour(request, profile)
        for peer, other in (("cheapest on demand", on_demand), ("cheapest spot hour that fits", by_the_hour)):
            figures.append(
                figure(
                    f"saving: {name}",
                    1 - chosen.total_usd.expected / other.total_usd.expected,
                    "fraction",
                    None,
                    "higher",
                    peer=f"{peer}: {described(other)}",
                    how=f"estimates on catalogue prices; chosen {described(chosen)}",
                )
            )
    return figures


def cheapest_hour(request: Request, profile: ModelProfile) -> Candidate:
    """The spot offer with the lowest hourly price on which the job runs at all."""
    spot = [each for each in catalogue.snapshot().offers if each.capacity_type == "spot"]
    for offer in sorted(spot, key=lambda each: each.price_usd_per_hour):
        outcome = attempt(request, profile, [offer])
        if isinstance(outcome, Plan):
            return outcome.candidates[0]
    raise LookupError("the model fits on no spot machine")


def described(candidate: Candidate) -> str:
    return (
        f"{candidate.offer.key} {candidate.total_usd.expected:.4g} USD in {candidate.completion.hours.expected:.3g} h"
    )


def main() -> None:
    report = {
        "benchmark": "optimizer",
        "figures": latency() + savings(),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
