"""One run: start, storm, rest, judgement."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from sskai.broker_admin import AdminError
from tests.chaos import history
from tests.chaos.checks import Watch, check_invariants
from tests.chaos.faults import Log, Storm
from tests.chaos.recovery import Recovery, measure
from tests.chaos.stack import Stack
from tests.chaos.users import Users

REST_GOAL_SECONDS = 60.0
# Machines are shared: how long rest takes is told, and only what takes this long counts as stuck.
REST_LIMIT_SECONDS = 240.0
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """`seconds` of storm. The longest single fault is a tenth of it, and half a minute at most."""

    seconds: float
    seed: int
    jobs_a_minute: float = 20.0
    unended_at_most: int = 8
    mean_between_faults: float = 4.0
    rounds: int = 0  # of each service and store dying alone, after the storm

    @property
    def longest_fault_seconds(self) -> float:
        return min(30.0, max(4.0, self.seconds / 10))


@dataclass(frozen=True)
class Report:
    """`lost`: accepted and unknown to the scheduler. `stuck`: not ended when the limit was over."""

    seed: int
    seconds: float
    jobs: int
    ends: dict[str, int]
    lost: int
    stuck: int
    refused: list[str]
    unanswered_requests: int
    slowest_answer_seconds: float
    faults: dict[str, int]
    full_disk: str
    rest_seconds: float
    after_kill_seconds: dict[str, Any]
    after_outage_seconds: dict[str, Any]
    alone: Recovery
    events: int
    dead_letters: int
    harness_errors: list[str]
    violations: list[str]

    def document(self) -> dict[str, Any]:
        return asdict(self)


async def run(options: Options, folder: Path, say: Callable[[str], None]) -> Report:
    """`folder`: empty, and open to the database's user. Leaves nothing running, whatever happens."""
    folder.chmod(0o755)
    stack = Stack(folder, random.Random(options.seed))
    try:
        began = time.monotonic()
        await stack.start()
        users = Users(stack.place, random.Random(options.seed + 1))
        await asyncio.to_thread(users.prepare, folder)
        say(f"everything runs after {time.monotonic() - began:.0f} s, in {stack.home}")
        return await _storm(options, stack, users, say)
    finally:
        await stack.stop()


async def _storm(options: Options, stack: Stack, users: Users, say: Callable[[str], None]) -> Report:
    watch = Watch(stack, users)
    storm = Storm(stack, random.Random(options.seed + 2), options.longest_fault_seconds, users.of_tenants)
    watching = asyncio.create_task(watch.run())
    telling = asyncio.create_task(_tell(say, users, watch, storm.log))
    try:
        await asyncio.gather(
            storm.blow(options.seconds, options.mean_between_faults),
            users.submit(options.seconds, options.jobs_a_minute, watch.unended, options.unended_at_most),
        )
        await storm.end()
        await users.answered()
        say("the faults are over")
        telling.cancel()
        moving, rest_seconds = await _rest(watch, say)
    finally:
        telling.cancel()
        watching.cancel()
        await asyncio.gather(telling, watching, return_exceptions=True)
    say(f"at rest after {rest_seconds:.1f} s" if not moving else f"not at rest: {'; '.join(moving)[:2000]}")
    known = await history.read(stack.bootstrap, watch.database.connection)
    found = await asyncio.to_thread(check_invariants, watch, known, storm.log, stack.pods, moving)
    alone = Recovery()
    if options.rounds and users.acknowledged and not found:
        say("each service and each store dies alone, and the disk is full")
        alone = await measure(stack, watch.database, users, options.rounds)
    watch.database.close()
    return _report(options, stack, users, watch, storm.log, known, rest_seconds, alone, found)


async def _rest(watch: Watch, say: Callable[[str], None]) -> tuple[list[str], float]:
    """What still moves when the limit is over, and how long it took."""
    began = told = time.monotonic()
    moving = ["nobody looked"]
    while moving and time.monotonic() - began < REST_LIMIT_SECONDS:
        with suppress(psycopg.OperationalError, AdminError, OSError):
            moving = await watch.moving()
        if moving and time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            say(f"{told - began:.0f} s later: {'; '.join(moving)[:300]}")
        await asyncio.sleep(0.2)
    return moving, time.monotonic() - began


async def _tell(say: Callable[[str], None], users: Users, watch: Watch, log: Log) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(log.counts.items()))
        say(
            f"{time.monotonic() - began:5.0f} s: {len(users.acknowledged)} jobs, {watch.unended()} not ended; "
            f"{log.counts.total()} faults ({faults}); {len(watch.invariants.violations)} violations"
        )


def _report(
    options: Options,
    stack: Stack,
    users: Users,
    watch: Watch,
    log: Log,
    known: history.History,
    rest_seconds: float,
    alone: Recovery,
    found: list[str],
) -> Report:
    states = {job_id: watch.states.get(job_id, "lost") for job_id in users.acknowledged}
    return Report(
        seed=options.seed,
        seconds=options.seconds,
        jobs=len(states),
        ends=dict(Counter(state for state in states.values() if state != "lost")),
        lost=sum(state == "lost" for state in states.values()),
        stuck=watch.unended(),
        refused=users.refused,
        unanswered_requests=users.unanswered,
        slowest_answer_seconds=round(max((one.answered_seconds for one in users.acknowledged.values()), default=0), 1),
        faults=dict(sorted(log.counts.items())),
        full_disk="tried" if stack.disk.mounted else f"left out: {stack.disk.why_not}",
        rest_seconds=round(rest_seconds, 1),
        after_kill_seconds=history.percentiles(known.after_kills(log.kills)),
        after_outage_seconds=history.percentiles(known.after_outages(log.outages)),
        alone=alone,
        events=len(known.told),
        dead_letters=len(known.letters),
        harness_errors=log.errors,
        violations=found,
    )
