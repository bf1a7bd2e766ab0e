"""What the monitor does in a second, and how soon it sees drift. Prints one JSON object.

`python -m benchmarks.monitor`: its own PostgreSQL (durable settings) on loopback, the app called in process.

Ingest: OTLP requests of 500 spans by 8 senders at once, every tenth request sent twice; the figures must show every
span exactly once. Drift: `benchmarks.monitor_drift`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import httpx2

from benchmarks import monitor_drift
from services.monitor import api
from services.monitor.ingest import Ingest
from sskai.local.postgres import Postgres
from sskai.testing import fresh_database
from tests.monitor.test_otlp import PROTOBUF, TOKEN, gateway, request, span

SPANS, SPANS_PER_REQUEST, SENDERS = 20_000, 500, 8


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


def main() -> None:
    with Postgres.start(durable=True) as server:
        ingested = asyncio.run(ingest(server.url))
    print(json.dumps({"benchmark": "monitor", "ingest": ingested, "drift": monitor_drift.report()}))


if __name__ == "__main__":
    main()
