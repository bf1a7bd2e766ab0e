"""What the monitor does in a second, and how soon it sees drift. Prints one JSON object.

`python -m benchmarks.monitor`: its own PostgreSQL (durable settings) on loopback, the app called in process.

Ingest: OTLP requests of 500 spans by 8 senders at once, every tenth request sent twice; the figures must show every
span exactly once. Drift: real questions by topic; a third of a topic is the traffic, two thirds the reference; the
delay is the number of requests after the change until the alarm. In the last line nothing changes: no alarm is right.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time

import httpx2

from benchmarks import ledger
from services.monitor import api
from services.monitor.drift import Martingale, Reference, p_value
from services.monitor.ingest import Ingest
from sskai.local.postgres import Postgres
from sskai.testing import fresh_database
from tests.monitor.test_otlp import PROTOBUF, TOKEN, gateway, request, span
from tests.monitor.texts import jokes, questions

SPANS, SPANS_PER_REQUEST, SENDERS = 20_000, 500, 8
ALPHA, BEFORE, LIMIT, REPEATS = 0.01, 20, 300, 20


async def ingest(server_url: str) -> dict[str, float]:
    bodies = [
        request(
            *(
                span(first + n + 1, trace=(first + n) // 50 + 1, name=f"work {n % 20}", seconds=0.001 * (n % 97))
                for n in range(SPANS_PER_REQUEST)
            )
        ).SerializeToString()
        for first in range(0, SPANS, SPANS_PER_REQUEST)
    ]
    queue = [body for place, body in enumerate(bodies) for _ in range(2 if place % 10 == 0 else 1)]
    sent, seconds = len(queue), []
    async with fresh_database(server_url, "monitor") as database:
        app = api.build(database, Ingest(database), TOKEN)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://monitor", timeout=60) as client:

            async def sender() -> None:
                while queue:
                    body, started = queue.pop(), time.perf_counter()
                    response = await client.post("/v1/traces", content=body, headers=PROTOBUF)
                    assert response.status_code == 200, response.text
                    seconds.append(time.perf_counter() - started)

            started = time.perf_counter()
            await asyncio.gather(*(sender() for _ in range(SENDERS)))
            took = time.perf_counter() - started
            answer = await client.get("/v1/figures?whole=true&group_by=service", headers=gateway())
            counted = sum(row["spans"] for row in answer.json()["figures"])
    assert counted == SPANS, f"{counted} of {SPANS}"
    return {
        "spans_sent": sent * SPANS_PER_REQUEST,
        "spans_counted": counted,
        "spans_per_second": round(sent * SPANS_PER_REQUEST / took),
        "request_p50_seconds": round(statistics.median(seconds), 4),
        "request_p95_seconds": round(statistics.quantiles(seconds, n=20)[-1], 4),
    }


def drift(usual: str, new: str, new_share: float) -> dict[str, object]:
    delays: list[int] = []
    early = without_alarm = 0
    others = jokes() if new == "jokes" else questions(new)
    for seed in range(REPEATS):
        dice = random.Random(seed)
        texts = questions(usual)
        dice.shuffle(texts)
        cut = len(texts) * 2 // 3
        reference, unseen = Reference.fit(texts[:cut]), texts[cut:]
        test = Martingale()
        for sample in range(1, BEFORE + LIMIT + 1):
            text = dice.choice(others if sample > BEFORE and dice.random() < new_share else unseen)
            score = reference.novelty(text)
            test = test.observe(score, p_value(score, reference.calibration, test.scores, dice.random()))
            if test.capital >= 1 / ALPHA:
                break
        if test.capital < 1 / ALPHA:
            without_alarm += 1
        elif test.samples <= BEFORE:
            early += 1
        else:
            delays.append(test.samples - BEFORE)
    return {
        "usual": usual,
        "new": new,
        "new_share": new_share,
        "reference_texts": cut,
        "median_delay_requests": statistics.median(delays) if delays else None,
        "longest_delay_requests": max(delays, default=None),
        "without_alarm": without_alarm,
        "alarms_before_the_change": early,
        "repeats": REPEATS,
    }


def main() -> None:
    with Postgres.start(durable=True) as server:
        ingested = asyncio.run(ingest(server.url))
        balanced = asyncio.run(ledger.measure(server.url))
    topics = [("trivia", "jokes"), ("trivia", "psychology"), ("coding", "ai"), ("trivia", "trivia")]
    drifts = [drift(usual, new, share) for usual, new in topics for share in ((1.0, 0.5) if usual != new else (1.0,))]
    print(
        json.dumps(
            {"benchmark": "monitor", "ingest": ingested, "ledger": balanced, "drift_alpha": ALPHA, "drift": drifts}
        )
    )


if __name__ == "__main__":
    main()
