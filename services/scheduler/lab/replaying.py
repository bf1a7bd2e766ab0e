"""Policies on records, window by window: costs over on-demand, the omniscient bound, misses, restarts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from services.scheduler import availability
from services.scheduler.availability import Model
from services.scheduler.lab import baselines
from services.scheduler.lab.bound import omniscient_usd
from services.scheduler.lab.simulator import Outcome, Policy, Work, simulate
from services.scheduler.lab.traces import Trace, groups, starts
from services.scheduler.policy import Lookahead, decide

Zones: TypeAlias = Literal["single", "multi"]

LOOKAHEAD, ON_DEMAND, GREEDY, UNIFORM = "lookahead", "on-demand", "greedy", "uniform-progress"
POLICIES = (LOOKAHEAD, UNIFORM, GREEDY, ON_DEMAND)


@dataclass(frozen=True)
class Window:
    """A piece of the records that one job runs on."""

    zones: tuple[Trace, ...]
    start_tick: int
    work: Work

    @property
    def name(self) -> str:
        return self.zones[0].name if len(self.zones) == 1 else f"{self.zones[0].group} ({len(self.zones)} zones)"


@dataclass(frozen=True)
class Result:
    """One window: what each policy did, and the least that was possible. `omniscient`: over the on-demand cost."""

    name: str
    start_hours: float
    work: Work
    outcomes: dict[str, Outcome]
    omniscient: float | None


def windows(
    traces: Iterable[Trace], work: Work, *, zones: Zones, count: int, first_share: float = 0.0, last_share: float = 1.0
) -> Iterator[Window]:
    """Evenly spaced windows that lie within a share of each record; none of a record that is too short for one."""
    for together in groups(traces):
        for chosen in [[trace] for trace in together] if zones == "single" else [together]:
            ticks = min(len(trace) for trace in chosen)
            length = math.ceil(work.deadline_hours * 3600 / chosen[0].gap_seconds) + 1
            for start in starts(int(ticks * last_share), length, count, int(ticks * first_share)):
                yield Window(tuple(trace.cut(start, start + length) for trace in chosen), start, work)


def replay(
    todo: Sequence[Window],
    policies: Sequence[str],
    *,
    priors: Model | None = None,
    bound: bool = True,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> list[Result]:
    """Run the policies on all windows, on all cores. Windows of one setting stand together: they share tables."""
    processes = processes or os.cpu_count() or 1
    arguments = [(window, tuple(policies), priors, bound) for window in todo]
    results: list[Result] = []
    if processes == 1 or len(todo) < 2:
        answers: Iterable[Result] = map(_run, arguments)
        return _gather(answers, results, len(todo), progress)
    with ProcessPoolExecutor(processes) as pool:
        return _gather(pool.map(_run, arguments, chunksize=2), results, len(todo), progress)


def _gather(
    answers: Iterable[Result], results: list[Result], total: int, progress: Callable[[int, int], None]
) -> list[Result]:
    for answer in answers:
        results.append(answer)
        progress(len(results), total)
    return results


def _run(argument: tuple[Window, tuple[str, ...], Model | None, bool]) -> Result:
    window, names, priors, bound = argument
    work, zones = window.work, window.zones
    model = priors or availability.shipped()
    outcomes = {}
    for name in names:
        beliefs = model if name == LOOKAHEAD else None
        outcomes[name] = simulate(policy(name, priors), zones, work, beliefs)
    least = omniscient_usd(zones, work) / work.on_demand_usd if bound else None
    start_hours = window.start_tick * zones[0].gap_seconds / 3600
    return Result(window.name, start_hours, work, outcomes, least)


def policy(name: str, priors: Model | None = None) -> Policy:
    """A policy by its name. Raises KeyError."""
    if name == LOOKAHEAD:
        lookahead = _lookahead(None if priors is None else priors.to_json())
        return lambda situation: decide(situation, lookahead)
    return {
        ON_DEMAND: baselines.on_demand_only,
        GREEDY: baselines.greedy,
        UNIFORM: baselines.uniform_progress,
    }[name]


@lru_cache(maxsize=4)
def _lookahead(priors: str | None) -> Lookahead:
    """One per process and priors, so that windows share tables."""
    return Lookahead(availability.shipped() if priors is None else availability.parse_priors(priors))


def summary(results: Sequence[Result], name: str) -> dict[str, Any]:
    """Means over windows of one policy: cost over on-demand, misses, restarts, share of the gap that it closed."""
    outcomes = [result.outcomes[name] for result in results]
    mean = sum(outcome.ratio for outcome in outcomes) / len(outcomes)
    least = [result.omniscient for result in results if result.omniscient is not None]
    document: dict[str, Any] = {
        "policy": name,
        "windows": len(outcomes),
        "mean_cost_over_on_demand": mean,
        "omniscient_cost_over_on_demand": sum(least) / len(least) if least else None,
        "deadline_misses": sum(outcome.missed for outcome in outcomes),
        "restarts": sum(max(0, outcome.launches - 1) for outcome in outcomes),
        "interruptions": sum(outcome.interruptions for outcome in outcomes),
    }
    if least and all(UNIFORM in result.outcomes for result in results):
        document["gap_to_omniscient_closed"] = gap_closed(results, name)
    return document


def gap_closed(results: Sequence[Result], name: str) -> float | None:
    """Share of the distance between Uniform Progress and the omniscient bound, of the means; None: there is none."""
    uniform = sum(result.outcomes[UNIFORM].ratio for result in results)
    ours = sum(result.outcomes[name].ratio for result in results)
    least = sum(result.omniscient or 0.0 for result in results)
    return (uniform - ours) / (uniform - least) if uniform - least > 1e-9 else None


def per_window(results: Sequence[Result], name: str) -> list[dict[str, Any]]:
    """One row per start: where, when, and how it went."""
    rows = []
    for result in results:
        outcome = asdict(result.outcomes[name])
        outcome.pop("actions")
        rows.append(
            {"trace": result.name, "start_hours": result.start_hours, **outcome, "omniscient_ratio": result.omniscient}
        )
    return rows
