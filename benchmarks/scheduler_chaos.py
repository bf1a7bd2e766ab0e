"""What a job notices of a scheduler that is killed and stopped 500 times, and of a cloud that does not answer.

`make bench NAME=scheduler_chaos ARGS="--faults 500 --seed 1"` prints one JSON object; progress goes to standard error.
The harness, and what counts as a violation, are those of the tests: `tests/scheduler/chaos.py`, `chaos_checks.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, figure, print_report
from tests.scheduler.chaos import LEASE_SECONDS, ORPHANS_LIMIT_SECONDS, REPLICAS, Report, Storm, chaos

FAILED_STATUS_CALLS = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sskai-chaos-") as folder:
        Path(folder).chmod(0o755)  # the database runs as a user of its own
        away, storm = asyncio.run(_run(Path(folder), arguments.faults, arguments.seed))
    for violation in storm.violations:
        _say(violation)
    print_report("scheduler_chaos", _figures(away, storm), violations=storm.violations[:50])


async def _run(folder: Path, faults: int, seed: int) -> tuple[Report, Report]:
    async with chaos(folder, _say) as world:
        # A loop that fails waits up to 5 s before its next try: the jobs must outlast 25 of them.
        away = await world.cloud_away(failed_calls=FAILED_STATUS_CALLS, steps=1200)
        _say(f"{away.failed_status_calls} failed status calls: {away.relaunches_while_away} relaunches")
        return away, await world.blow(Storm(faults, seed))


def _figures(away: Report, storm: Report) -> list[Figure]:
    how = (
        f"{storm.kills} kill -9 and {storm.stops} SIGSTOP on {REPLICAS} replicas with leases of {LEASE_SECONDS:g} s; "
        f"{storm.jobs} jobs, {storm.attempts} attempts, {storm.interruptions} machines taken by the market"
    )
    away_how = f"{away.failed_status_calls} status calls answered with 503 while {away.jobs} jobs ran"
    return [
        figure("faults", storm.kills + storm.stops, "faults", None, "higher", how=how),
        figure("violations", len(storm.violations), "violations", 0, "equal", how=how),
        figure("attempts-of-one-job-writing-at-once", len(storm.overlaps), "attempts", 0, "equal", how=how),
        figure("attempts-after-the-work-was-done", len(storm.false_recoveries), "attempts", 0, "equal", how=how),
        figure("orphans-gone-after", storm.orphans_gone_seconds, "s", ORPHANS_LIMIT_SECONDS, "lower", how=how),
        figure("relaunches-after-failed-status-calls", away.relaunches_while_away, "", 0, "equal", how=away_how),
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
