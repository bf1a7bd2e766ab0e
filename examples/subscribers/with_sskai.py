"""Reads SSKAI's events with this repository's own contract: `python with_sskai.py BOOTSTRAP GROUP [TENANT]`.

Needs the package `sskai` (which brings aiokafka). Prints each event once, as one line of JSON. What was printed is
remembered in `GROUP.sqlite`, in the transaction in which a program of yours would write what it makes of the event.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys

from aiokafka import AIOKafkaConsumer

from sskai import contract


def security() -> dict[str, str]:
    """For a broker that asks who you are: SASL/SCRAM over TLS."""
    if "KAFKA_USERNAME" not in os.environ:
        return {}
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": os.environ["KAFKA_USERNAME"],
        "sasl_plain_password": os.environ["KAFKA_PASSWORD"],
    }


class Seen:
    """Which events had their effect: delivery is at least once, so some come twice."""

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.execute("CREATE TABLE IF NOT EXISTS seen (source TEXT, id TEXT, PRIMARY KEY (source, id))")

    def handle(self, event: contract.Envelope) -> None:
        """The effect and the memory of it commit together."""
        with self._database:
            row = (event.source, event.id)
            if self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", row).rowcount:
                print(json.dumps(contract.to_cloudevent(event)), flush=True)


async def main(bootstrap: str, group: str, tenant: str = "") -> None:
    seen = Seen(f"{group}.sqlite")
    consumer = AIOKafkaConsumer(
        *contract.TOPICS,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **security(),
    )
    await consumer.start()
    try:
        async for record in consumer:
            try:
                event = contract.decode(record.value, record.headers)
            except contract.UnknownTypeError:
                pass  # of a newer version: not for us
            except contract.UndecodableError as error:
                where = f"{record.topic}/{record.partition}@{record.offset}"
                print(f"set aside {where}: {error}", file=sys.stderr, flush=True)
            else:
                if not tenant or contract.tenant_of(event.message) == tenant:
                    seen.handle(event)
            await consumer.commit()  # after the effect: a crash in between brings the event again, and it is known
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
