"""The spot policy against on-demand, greedy, Uniform Progress and the omniscient bound, on recorded markets.

`make bench NAME=spot_policy`; parts of it with ARGS="single multi others speed". The records are split by time: the
shipped priors were learnt from the first half of each (`services/scheduler/data/spot_priors.json` says from which), and
windows lie in the second half. No policy sees anything from before its window. Each run is 48 h of work; deadlines of
52, 70 and 92 h by restart overheads of 0.05, 0.1, 0.2 and 0.4 h make twelve settings. Progress goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, figure, print_report
from services.scheduler import availability
from services.scheduler.lab import comparing, replaying
from services.scheduler.lab.replaying import GREEDY, LOOKAHEAD, ON_DEMAND, UNIFORM, Result
from services.scheduler.lab.simulator import Work
from services.scheduler.lab.traces import Trace, groups, read_all
from services.scheduler.policy import Action, Lookahead, Situation, Zone

RECORDS = Path(os.environ.get("SSKAI_SPOT_RECORDS", Path(__file__).parents[2] / "shared" / "data" / "spot-traces"))
FITTED_SHARE = 0.5
SETTINGS = [Work(48, deadline, restart) for deadline in (52, 70, 92) for restart in (0.05, 0.1, 0.2, 0.4)]
NAMES = [LOOKAHEAD, UNIFORM, GREEDY, ON_DEMAND]
GAP_GOAL = 0.55
DECISION_GOAL_MS, JOBS, TICK_SECONDS = 1.0, 10_000, 60.0


def single(windows: int) -> list[Figure]:
    """Each zone alone, of the records of single machines."""
    return _compared("single zone", _replayed(_records("availability/1-node"), "single", windows))


def multi(windows: int) -> list[Figure]:
    """All zones that were recorded together, where there are several."""
    together = [trace for zones in groups(_records("availability/1-node")) if len(zones) > 1 for trace in zones]
    return _compared("several zones", _replayed(together, "multi", windows))


def others(windows: int) -> list[Figure]:
    """Records of another kind: several nodes at once, and machines that were held, with prices. Not part of the goals'
    averages, but no deadline may be missed there either."""
    figures: list[Figure] = []
    for folder, need in (("availability/16-node", 8), ("preemption/4-node", 4), ("preemption/1-node", 1)):
        results = _replayed(_records(folder, need), "single", max(2, windows // 2))
        ours, uniform = (statistics.fmean(one.outcomes[name].ratio for one in results) for name in (LOOKAHEAD, UNIFORM))
        how = f"{len(results)} windows, {need} instances at once; settings that the second half is long enough for"
        figures.append(_misses(folder, results))
        name = f"{folder}: mean cost over that of Uniform Progress"
        figures.append(figure(name, ours / uniform, "ratio", 1.0, "lower", how=how))
    return figures


def speed() -> list[Figure]:
    """One decision with its table made, and ten thousand live jobs decided anew, tables included."""
    lookahead, rng = Lookahead(availability.shipped()), np.random.default_rng(1)
    situations = [_situation(rng, lookahead) for _ in range(JOBS)]
    started = time.process_time()
    for situation in situations:
        lookahead.decide(situation)
    cold = time.process_time() - started
    took = []
    for situation in situations[:2000]:
        lookahead.decide(situation)  # which makes its table, where it has none
        begun = time.perf_counter()
        lookahead.decide(situation)
        took.append((time.perf_counter() - begun) * 1000)
    how = f"{JOBS} jobs of 0.2 to 200 h on 1 to 6 zones, restarts of 30 s to 10 min; a tick of 60 s"
    return [
        figure("one decision, median", statistics.median(took), "ms", DECISION_GOAL_MS, "lower", how=how),
        figure("one decision, p99", statistics.quantiles(took, n=100)[98], "ms", DECISION_GOAL_MS, "lower", how=how),
        figure(
            "10,000 live jobs decided anew",
            cold,
            "s of one core",
            TICK_SECONDS,
            "lower",
            how=f"{how}; from nothing, tables included",
        ),
    ]


def _situation(rng: np.random.Generator, lookahead: Lookahead) -> Situation:
    model = lookahead.model
    work = float(np.exp(rng.uniform(np.log(0.2), np.log(200)))) * 3600
    restart = float(np.exp(rng.uniform(np.log(30), np.log(600))))
    left = work * rng.uniform(0.05, 1)
    zones, price = [], rng.uniform(0.25, 0.4)
    for number in range(int(rng.integers(1, 7))):
        available = bool(rng.random() < 0.6)
        belief = model.seen(model.moved(model.seen(model.stationary, available), rng.uniform(0, 36000)), available)
        zones.append(Zone(f"zone-{number}", available, price * rng.uniform(0.95, 1.2), belief))
    # Of live jobs most run on spot, in a zone that was the cheapest when they were launched.
    up = sorted((zone for zone in zones if zone.available), key=lambda zone: zone.price * rng.uniform(1, 1.1))
    kinds = [Action.SPOT, Action.ON_DEMAND, None]
    running = kinds[int(rng.choice(3, p=[0.8, 0.1, 0.1]))] if up else None
    return Situation(
        elapsed_seconds=work - left,
        deadline_seconds=(work + 3 * restart) * rng.uniform(1.05, 2),
        work_seconds=work,
        work_left_seconds=left,
        restart_seconds=restart,
        running_on=running,
        running_zone=up[0].name if running is Action.SPOT else "",
        zones=tuple(zones),
        on_demand_price=1.0,
        tick_seconds=TICK_SECONDS,
    )


def _records(folder: str, need: int = 1) -> list[Trace]:
    return [trace for trace in read_all(RECORDS, need) if trace.name.startswith(folder)]


def _replayed(records: Sequence[Trace], zones: replaying.Zones, count: int) -> list[Result]:
    todo = [
        window
        for work in SETTINGS
        for window in replaying.windows(records, work, zones=zones, count=count, first_share=FITTED_SHARE)
    ]
    started = time.monotonic()

    def progress(done: int, of: int) -> None:
        if done % 20 == 0 or done == of:
            print(f"  {zones}: {done} of {of} windows, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

    return replaying.replay(todo, NAMES, progress=progress)


def _compared(what: str, results: list[Result]) -> list[Figure]:
    rows = comparing.table(results, NAMES)
    closed = [row["gap_closed"] for row in rows]
    peer = {
        f"{row['deadline_hours']:g} h, {row['restart_overhead_hours']:g} h": {
            "on-demand": round(row[ON_DEMAND], 4),
            "greedy": round(row[GREEDY], 4),
            "uniform progress": round(row[UNIFORM], 4),
            "ours": round(row[LOOKAHEAD], 4),
            "omniscient": round(row["omniscient"], 4),
            "gap closed": round(row["gap_closed"], 3),
        }
        for row in rows
    }
    how = f"{len(results)} windows in the second half of the records, 12 settings"
    return [
        _misses(what, results),
        figure(
            f"{what}: share of the gap between Uniform Progress and the omniscient bound that is closed, mean",
            statistics.fmean(closed),
            "share",
            GAP_GOAL,
            "higher",
            peer=peer,
            how=how,
        ),
        figure(f"{what}: the same, worst setting", min(closed), "share", None, "higher", how=how),
        figure(
            f"{what}: settings in which it is dearer than Uniform Progress",
            sum(row[LOOKAHEAD] >= row[UNIFORM] for row in rows),
            "of 12",
            0,
            "equal",
            how=how,
        ),
    ]


def _misses(what: str, results: Sequence[Result]) -> Figure:
    missed = sum(result.outcomes[LOOKAHEAD].missed for result in results)
    peer = {name: sum(result.outcomes[name].missed for result in results) for name in (UNIFORM, GREEDY)}
    unit = f"of {len(results)} windows"
    return figure(f"{what}: deadline misses", missed, unit, 0, "equal", peer=peer, how="peer: their misses")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="of single, multi, others, speed; all if none is named")
    parser.add_argument("--windows", type=int, default=6, help="per record and setting")
    options = parser.parse_args()
    parts = {
        "single": lambda: single(options.windows),
        "multi": lambda: multi(options.windows),
        "others": lambda: others(options.windows),
        "speed": speed,
    }
    wanted = options.parts or list(parts)
    if unknown := sorted(set(wanted) - parts.keys()):
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(parts)}")
    if not RECORDS.is_dir() and set(wanted) != {"speed"}:
        sys.exit(f"no records at {RECORDS}: say where they are with SSKAI_SPOT_RECORDS, or measure only `speed`")
    print_report("spot_policy", [one for part in wanted for one in parts[part]()])


if __name__ == "__main__":
    main()
