"""What planning by the whole job saves, on catalogue prices with all overheads counted, for six models in six regions.

The naive choice is what a person takes who does not plan: one g5.xlarge on demand. Both are priced by the same
estimates, which are no bills. One worker, as the trainer runs.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from datetime import UTC, datetime

from benchmarks.figures import Figure, figure
from benchmarks.optimizer.memory import configs, counted
from services.optimizer import catalogue, replay
from services.optimizer.memory import ModelProfile
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.values import Assumptions, Candidate, History, Plan
from services.optimizer.work import Request

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MODELS = (
    "smollm2-135m-instruct",
    "qwen2.5-0.5b-instruct",
    "qwen2.5-1.5b-instruct",
    "smollm2-1.7b-instruct",
    "mistral-7b-instruct-v0.3",
    "llama-3.1-8b-instruct",
)
LENGTH = 512
# 20,000 conversations of 400 tokens, three epochs.
REQUEST = Request("lora", 8, 20_000, 40_000_000, 8_000_000, 0.01, 8192, sequence_length=LENGTH)


def market() -> Market:
    known = catalogue.snapshot()
    return Market(known.machines, known.offers)


def profiles() -> dict[str, ModelProfile]:
    return {name: counted(configs()[name], "lora", LENGTH) for name in MODELS}


def figures(known: dict[str, ModelProfile]) -> list[Figure]:
    everything = market()
    pairs = [(name, region) for name in MODELS for region in sorted({offer.region for offer in everything.offers})]
    cells = {workers: [_cell(known[name], region, everything, workers) for name, region in pairs] for workers in (1, 8)}
    today = cells[1]
    to_naive = [1 - best.total_usd.expected / naive.total_usd.expected for best, naive, _ in today]
    to_itself = [1 - best.total_usd.expected / best.on_demand_total_usd for best, _, _ in today]
    dearer = sum(
        best.total_usd.expected > min(best.on_demand_total_usd, naive.total_usd.expected) * (1 + 1e-9)
        for best, naive, _ in today
    )
    examples = [f"{name} {region} -> {cell[0].offer.key}" for (name, region), cell in zip(pairs, today, strict=True)]
    how = f"{len(pairs)} (model, region) pairs, LoRA, 20,000 rows of 400 tokens, 3 epochs; {'; '.join(examples[::7])}"
    naive_peer, itself = f"{replay.NAIVE_TYPE} on demand in the region", "the chosen machine on demand"
    shared = "the same pairs, one worker as the trainer runs"
    report = [
        figure("saving-median", statistics.median(to_naive), "fraction", 0.60, "higher", peer=naive_peer, how=how),
        figure("saving-best", max(to_naive), "fraction", 0.85, "higher", peer=naive_peer, how=shared),
        figure("saving-median-same", statistics.median(to_itself), "fraction", 0.60, "higher", peer=itself, how=shared),
        figure("saving-best-same", max(to_itself), "fraction", 0.85, "higher", peer=itself, how=shared),
        figure("dearer-than-on-demand", dearer, "pairs", 0, "equal", peer="both of them", how=shared),
    ]
    for workers, row in cells.items():
        speedups = [speedup for _, _, speedup in row]
        slow = sorted({name for (name, _), speedup in zip(pairs, speedups, strict=True) if speedup < 2})
        report.append(
            figure(
                f"twice-as-fast-for-no-more, up to {workers} workers",
                sum(speedup >= 2 for speedup in speedups) / len(pairs),
                "fraction of pairs",
                0.95,
                "higher",
                peer=naive_peer,
                how=f"the fastest that costs no more; median {statistics.median(speedups):.1f} times as fast; "
                f"missed somewhere by {', '.join(slow)}",
            )
        )
    return report


def _cell(profile: ModelProfile, region: str, everything: Market, workers: int) -> tuple[Candidate, Candidate, float]:
    """The cheapest placement, the naive one, and how much faster one gets for no more than the naive one costs."""
    inputs = Inputs(replace(REQUEST, regions=(region,)), profile, Assumptions(max_workers=workers), NOW, History())
    plan = replay.POLICIES["cheapest"](inputs, everything)
    naive = replay.chosen(replay.POLICIES["naive"](inputs, everything))
    assert isinstance(plan, Plan)
    assert naive is not None, f"the model fits on no {replay.NAIVE_TYPE} in {region}"
    return plan.candidates[0], naive, _speedup(plan, naive)


def _speedup(plan: Plan, naive: Candidate) -> float:
    affordable = [each for each in plan.candidates if each.total_usd.expected <= naive.total_usd.expected]
    return naive.completion.hours.expected / min(each.completion.hours.expected for each in affordable)
