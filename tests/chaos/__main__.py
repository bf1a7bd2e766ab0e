"""`python -m tests.chaos --seconds 1800 --seed 1`: a soak of the real processes. Exit code 1: a violation."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tests.chaos.history import percentiles
from tests.chaos.run import Options, Report, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of storm (1800)")
    parser.add_argument("--seed", type=int, default=None, help="of every draw (a new one)")
    parser.add_argument("--jobs-a-minute", type=float, default=20.0)
    parser.add_argument("--between-faults", type=float, default=4.0, help="seconds, on average (4)")
    parser.add_argument("--rounds", type=int, default=2, help="of each part dying alone, after the storm (2)")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end; progress goes to stderr")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    _say(f"seed {seed}")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that the broker is away is no news here
    folder = Path(tempfile.mkdtemp(prefix="sskai-chaos-"))
    options = Options(
        arguments.seconds,
        seed,
        arguments.jobs_a_minute,
        mean_between_faults=arguments.between_faults,
        rounds=arguments.rounds,
    )
    with redirect_stdout(sys.stderr):  # what the stack's own parts print is progress
        report = asyncio.run(_until_told(run(options, folder, _say)))
    print(json.dumps(report.document(), indent=1) if arguments.json else table(report))
    if report.violations:
        _say(f"logs, the database and the pods' logs are kept in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _until_told(work: Coroutine[Any, Any, Report]) -> Report:
    """SIGTERM ends it as Ctrl-C does: nothing is left running."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def table(report: Report) -> str:
    """The report for somebody who reads it."""
    rows = [
        ("jobs accepted (202)", str(report.jobs)),
        *((f"  {state}", str(count)) for state, count in sorted(report.ends.items())),
        ("lost", str(report.lost)),
        ("stuck", str(report.stuck)),
        ("refused for good", str(len(report.refused))),
        ("requests asked again", str(report.unanswered_requests)),
        ("slowest answer", f"{report.slowest_answer_seconds} s"),
        ("faults", str(sum(report.faults.values()))),
        *((f"  {kind}", str(count)) for kind, count in report.faults.items()),
        ("full disk", report.full_disk),
        ("at rest after", f"{report.rest_seconds} s"),
        ("in the storm, after a kill", _times(report.after_kill_seconds)),
        ("in the storm, store back", _times(report.after_outage_seconds)),
        ("alone, after a kill", _times(percentiles([one for each in report.alone.kills.values() for one in each]))),
        *((f"  {service}", ", ".join(map(str, seconds))) for service, seconds in report.alone.kills.items()),
        ("alone, store back", _times(percentiles([one for each in report.alone.outages.values() for one in each]))),
        *((f"  {store}", ", ".join(map(str, seconds))) for store, seconds in report.alone.outages.items()),
        ("alone, room on the disk", _times(percentiles(report.alone.disks))),
        ("  answers while it was full", ", ".join(f"{n} of {code}" for code, n in report.alone.full_answers.items())),
        ("events told", str(report.events)),
        ("dead letters", str(report.dead_letters)),
        ("errors of the harness", str(len(report.harness_errors))),
        ("violations", str(len(report.violations))),
    ]
    lines = [f"{name:26} {value}" for name, value in rows]
    return "\n".join([*lines, *report.harness_errors, *report.violations])


def _times(found: dict[str, float | int | None]) -> str:
    if not found["count"]:
        return "none measured"
    return f"p50 {found['p50']} s, p99 {found['p99']} s, longest {found['max']} s, of {found['count']}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
