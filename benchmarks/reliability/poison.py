"""R11: records that no version of ours ever wrote, between good ones: set aside with a reason, and nobody waits.

One process takes 10,000 good events of 1,000 jobs and 1,000 bad records, at a rate that it can bear. Bad is what cannot
be decoded, is too large, or speaks of another tenant's job. Types that this version does not know are skipped by
design (an older consumer beside a newer producer), and are counted apart.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.events.parts import LOOK_SECONDS, Parts, parts, process
from benchmarks.figures import Figure, figure
from benchmarks.reliability.receiver import TABLE
from sskai import contract
from sskai.bus import MAX_RECORD_BYTES
from sskai.events import v1 as events
from sskai.local.processes import wait_until

GOOD, BAD, UNKNOWN, KEYS = 10_000, 1_000, 100, 1_000
PER_SECOND = 200.0
GOAL_ASIDE_SECONDS, GOAL_DELAY_SECONDS = 5.0, 2.0
LIMIT_SECONDS = 120.0
TOPIC = contract.topic_of(events.JobRequeued)


@dataclass(frozen=True)
class Sent:
    """One record; `number` of a good one, `kind` of a bad one."""

    record: contract.Record
    kind: str
    number: int = -1


def measure(seed: int = 1) -> tuple[list[Figure], dict[str, Any]]:
    with parts() as around:
        around.change(TABLE)
        file = around.folder / "handled.json"
        with process(around, "receiver", file, package="benchmarks.reliability") as receiver:
            pid = receiver.pid
            sent = asyncio.run(_send(around, _records(seed)))
            bad = sum(1 for one, _at in sent if one.kind not in ("good", "unknown type"))
            handled = "SELECT coalesce(sum(handled), 0) FROM optimizer.owned"
            wait_until(lambda: around.ask(handled) >= GOOD, LIMIT_SECONDS, LOOK_SECONDS)
            aside = asyncio.run(_dead_letters(around, bad))
            alive = receiver.is_running() and receiver.pid == pid
        return _figures(sent, dict(json.loads(file.read_text())), aside, alive)


def _records(seed: int) -> list[Sent]:
    """Good and bad ones, mixed; the first event of each job comes before any that is foreign to it."""
    dice = random.Random(seed)
    good = [Sent(_record(number, "tenant"), "good", number) for number in range(GOOD)]
    kinds = list(_BAD)
    bad = [Sent(_spoilt(kinds[number % len(kinds)], dice), kinds[number % len(kinds)]) for number in range(BAD)]
    bad += [Sent(_spoilt("unknown type", dice), "unknown type") for _ in range(UNKNOWN)]
    mixed = good[KEYS:] + bad
    dice.shuffle(mixed)
    return good[:KEYS] + mixed


def _record(number: int, tenant: str) -> contract.Record:
    message = events.JobRequeued(job_id=f"job_{number % KEYS}", tenant_id=tenant, attempt=number, reason="lost")
    return contract.encode(contract.Envelope(message, contract.new_id("evt"), "scheduler", datetime.now(UTC)))


def _headers(record: contract.Record, **changed: bytes) -> contract.Record:
    headers = [(name, changed.get(name.replace("-", "_"), value)) for name, value in record.headers]
    return contract.Record(record.topic, record.key, record.value, headers)


_BAD = ("no protobuf", "too large", "header not UTF-8", "unknown content type", "another tenant's job", "no headers")


def _spoilt(kind: str, dice: random.Random) -> contract.Record:
    record = _record(dice.randrange(KEYS), "tenant")
    if kind == "no protobuf":
        return contract.Record(record.topic, record.key, b"\xff" * dice.randrange(1, 200), record.headers)
    if kind == "too large":
        return contract.Record(record.topic, record.key, b"\0" * (contract.MAX_EVENT_BYTES + 1), record.headers)
    if kind == "header not UTF-8":
        return _headers(record, ce_id=b"\xff\xfe")
    if kind == "unknown content type":
        return _headers(record, content_type=b"application/x-java-serialized-object")
    if kind == "another tenant's job":
        return _record(dice.randrange(KEYS), "stranger")
    if kind == "no headers":
        return contract.Record(record.topic, record.key, record.value, [])
    return _headers(record, ce_type=b"sskai.events.v9.JobDreamt")


async def _send(around: Parts, records: list[Sent]) -> list[tuple[Sent, tuple[float, tuple[int, int]]]]:
    """Each when it is due: with the moment (monotonic seconds), and its partition and offset."""
    producer: Any = AIOKafkaProducer(
        bootstrap_servers=around.bootstrap, acks="all", max_request_size=MAX_RECORD_BYTES, linger_ms=0
    )
    await producer.start()
    begun, waiting = time.monotonic(), []
    try:
        for number, one in enumerate(records):
            await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
            record = one.record
            acknowledged = await producer.send(
                record.topic, value=record.value, key=record.key, headers=list(record.headers)
            )
            waiting.append((one, time.monotonic(), acknowledged))
        answers = [(one, at, await acknowledged) for one, at, acknowledged in waiting]
        return [(one, (at, (answer.partition, answer.offset))) for one, at, answer in answers]
    finally:
        await producer.stop()


async def _dead_letters(around: Parts, wanted: int) -> dict[tuple[int, int], tuple[float, str]]:
    """By partition and offset of the record: when it was set aside (monotonic seconds), and the reason."""
    consumer: Any = AIOKafkaConsumer(
        TOPIC + contract.DEAD_LETTER_SUFFIX,
        bootstrap_servers=around.bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    await consumer.start()
    to_monotonic = time.monotonic() - time.time()
    found: dict[tuple[int, int], tuple[float, str]] = {}
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while len(found) < wanted and time.monotonic() < deadline:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                for one in batch:
                    told = {name: value.decode(errors="replace") for name, value in one.headers}
                    place = (int(told["dlq_partition"]), int(told["dlq_offset"]))
                    found[place] = (one.timestamp / 1000 + to_monotonic, told["dlq_reason"])
    finally:
        await consumer.stop()
    return found


def _figures(
    sent: list[tuple[Sent, tuple[float, tuple[int, int]]]],
    handled: dict[int, float],
    aside: dict[tuple[int, int], tuple[float, str]],
    alive: bool,
) -> tuple[list[Figure], dict[str, Any]]:
    bad = [(one, at, aside.get(place)) for one, (at, place) in sent if one.kind not in ("good", "unknown type")]
    lateness = [found[0] - at for _, at, found in bad if found is not None]
    reasons = Counter(f"{one.kind}: {found[1] if found else 'NOT SET ASIDE'}" for one, _, found in bad)
    good = [(one.number, at, place) for one, (at, place) in sent if one.kind == "good"]
    delays = [handled[number] - at for number, at, _ in good if number in handled]
    wrongly = sum(place in aside for _, _, place in good)
    how = f"{GOOD} good and {len(bad)} bad records at {PER_SECOND:g}/s through one process"
    figures = [
        figure("R11 bad records not set aside", sum(one[2] is None for one in bad), "records", 0, "equal", how=how),
        figure("R11 slowest to be set aside", max(lateness), "s", GOAL_ASIDE_SECONDS, "lower", how=how),
        figure("R11 good events lost or set aside", len(good) - len(delays) + wrongly, "events", 0, "equal", how=how),
        figure("R11 slowest good event", max(delays), "s", GOAL_DELAY_SECONDS, "lower", how=how),
        figure("R11 processes that ended", 0 if alive else 1, "processes", 0, "equal", how=how),
    ]
    return figures, {
        "reasons": dict(reasons),
        "unknown types, skipped": UNKNOWN,
        "set_aside_p50_seconds": round(float(np.median(lateness)), 4),
        "good_p50_seconds": round(float(np.median(delays)), 4),
        "good_p99_seconds": round(float(np.percentile(delays, 99)), 4),
    }
