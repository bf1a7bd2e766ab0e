"""The floor: aiokafka alone on the same records, without a database, or with one INSERT and one commit a message.

`python -m benchmarks.events.peers BOOTSTRAP TOPIC COUNT [DATABASE_URL]` prints events a second and its processor time.
"""

from __future__ import annotations

import json
import sys
import time

import psycopg
import uvloop
from aiokafka import AIOKafkaConsumer

from sskai.contract import new_id
from sskai.database import plain_url

_TABLE = b"CREATE TABLE IF NOT EXISTS public.floor (id bigserial PRIMARY KEY, value bytea NOT NULL)"
_ROW = b"INSERT INTO public.floor (value) VALUES (%b)"


async def consume(bootstrap: str, topic: str, count: int, database_url: str | None) -> dict[str, float]:
    connection = None
    if database_url:
        url = plain_url(database_url)
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
        await connection.execute(_TABLE)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=new_id("floor"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    taken, begun, used = 0, 0.0, 0.0
    while taken < count:
        for records in (await consumer.getmany(timeout_ms=200, max_records=500)).values():
            if not begun:
                begun, used = time.monotonic(), time.process_time()
            for record in records:
                if connection is not None:
                    await connection.execute(_ROW, (record.value,))
            taken += len(records)
        await consumer.commit()
    seconds, used = time.monotonic() - begun, time.process_time() - used
    await consumer.stop()
    if connection is not None:
        await connection.close()
    return {"per_second": round(taken / seconds, 1), "cpu_milliseconds_each": round(used / taken * 1e3, 4)}


if __name__ == "__main__":
    bootstrap, topic, count, *database_url = sys.argv[1:]
    print(json.dumps(uvloop.run(consume(bootstrap, topic, int(count), database_url[0] if database_url else None))))
