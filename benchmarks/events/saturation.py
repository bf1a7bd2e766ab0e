"""How many events a second one process handles for good when more wait than it can take, and two of them.

The events lie on the broker before the processes start, one in fifty of them twice. Each is one inbox row, one change
of a row and one outbox row in one transaction, its answer goes to the broker, its offset is committed afterwards. The
rate counts from a second after the last process has begun until the first has nothing left.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from benchmarks.events.parts import LOOK_SECONDS, Parts, cpu_seconds, load, process, say
from benchmarks.figures import Figure, figure
from sskai import contract
from sskai.broker_admin import read_records
from sskai.bus import Publisher
from sskai.events import v1 as events
from sskai.local.processes import wait_until

GOAL_PER_SECOND, GOAL_RATIO = 1_500, 1.4
KEYS = 1_000
TOPIC, ANSWERS = "sskai.jobs.v1", "sskai.plans.v1"
LIMIT_SECONDS = 300


async def feed(bootstrap: str, count: int) -> int:
    """Publish the events, each fiftieth twice; returns how many records that were."""
    publisher = Publisher(bootstrap, "feed")
    published = 0
    for first in range(0, count, 500):
        told = [_event(number) for number in range(first, min(count, first + 500))]
        told += told[::50]
        await publisher.publish_all(told)
        published += len(told)
    await publisher.stop()
    return published


def _event(number: int) -> contract.Envelope:
    message = events.JobRequeued(job_id=f"job_{number % KEYS}", tenant_id="tenant", attempt=number, reason="lost")
    return contract.Envelope(message, f"evt_{number}", "scheduler", datetime.now(UTC))


def measure(around: Parts, processes: int, count: int) -> dict[str, Any]:
    """One run with so many processes, on parts that nothing has used."""
    records = asyncio.run(feed(around.bootstrap, count))
    files = [around.folder / f"handled-{number}.json" for number in range(processes)]
    with ExitStack() as stack:
        running = [
            stack.enter_context(process(around, "receiver", file, instance=str(number)))
            for number, file in enumerate(files)
        ]
        watched = {"receivers": running, "postgres": [around.database], "kafka": [around.broker]}
        before = {name: sum(map(cpu_seconds, those)) for name, those in watched.items()}
        already = around.ask("SELECT coalesce(sum(handled), 0) FROM optimizer.effects")
        wait_until(lambda: not _to_do(around, count), LIMIT_SECONDS, LOOK_SECONDS)
        drained = time.monotonic()
        cpu = {name: sum(map(cpu_seconds, those)) - before[name] for name, those in watched.items()}
    handled = [json.loads(file.read_text()) for file in files]
    counted = count - int(already)
    found = {
        "processes": processes,
        "events": count,
        "records": records,
        "per_second": round(_rate(handled), 1),
        "per_second_until_all_answers_are_published": round(count / (drained - min(one[0][1] for one in handled)), 1),
        "by_process": [len(one) for one in handled],
        "cpu_milliseconds_each": {name: round(seconds / counted * 1e3, 3) for name, seconds in cpu.items()},
        **_effects(around, count),
    }
    say(f"saturation: {json.dumps(found)}")
    return found


def _to_do(around: Parts, count: int) -> bool:
    handled = around.ask("SELECT coalesce(sum(handled), 0) FROM optimizer.effects")
    return bool(handled < count or around.ask("SELECT count(*) FROM optimizer.outbox"))


def _rate(handled: list[list[list[float]]]) -> float:
    begun = max(min(at for _, at in one) for one in handled) + 1.0
    ended = min(max(at for _, at in one) for one in handled)
    within = sum(begun <= at <= ended for one in handled for _, at in one)
    return within / (ended - begun)


def _effects(around: Parts, count: int) -> dict[str, int]:
    """What is wrong with the effects: each key's count and sum, and the answers by their numbers."""
    wrong_keys = around.ask(
        f"SELECT count(*) FROM generate_series(0, {KEYS - 1}) AS k LEFT JOIN optimizer.effects AS e "
        f"ON e.job_id = 'job_' || k WHERE (e.handled, e.total::numeric) IS DISTINCT FROM ("
        f"(SELECT count(*) FROM generate_series(k, {count - 1}, {KEYS}) AS n), "
        f"(SELECT sum(n) FROM generate_series(k, {count - 1}, {KEYS}) AS n))"
    )
    answers = asyncio.run(read_records(around.bootstrap, ANSWERS, limit=2 * count, seconds=60))
    ids = {}
    for answer in answers:
        envelope = contract.decode(answer.value, answer.headers)
        ids[envelope.id] = envelope.message.plan_id  # type: ignore[attr-defined]
    plans = list(ids.values())
    return {
        "keys_with_wrong_effects": int(wrong_keys),
        "answers_lost": count - len(set(plans)),
        "answers_twice": len(plans) - len(set(plans)),
    }


def peers(around: Parts, count: int) -> dict[str, Any]:
    """The floor on the records that lie there."""
    without = load("peers", around.bootstrap, TOPIC, count)
    inserting = load("peers", around.bootstrap, TOPIC, min(count, 10_000), around.database_url)
    return {"aiokafka, no database": without, "aiokafka, one INSERT a message": inserting}


def figures(one: dict[str, Any], two: dict[str, Any] | None, floor: dict[str, Any]) -> list[Figure]:
    how = f"{one['events']} events waiting on 12 partitions, 1 in 50 twice; inbox, state and outbox in one transaction"
    told = [
        figure(
            "events_per_second_one_process", one["per_second"], "1/s", GOAL_PER_SECOND, "higher", peer=floor, how=how
        )
    ]
    runs = [one]
    if two:
        ratio = two["per_second"] / one["per_second"]
        told.append(figure("two_processes_over_one", ratio, "x", GOAL_RATIO, "higher", how="on the same two cores"))
        runs.append(two)
    wrong = ("keys_with_wrong_effects", "answers_lost", "answers_twice")
    return told + [figure(name, sum(run[name] for run in runs), "", 0, "equal", how=how) for name in wrong]
