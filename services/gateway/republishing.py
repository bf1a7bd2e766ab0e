"""`sskai recover republish`: what the gateway's log of events holds is told again, to a broker that lost its own.

Who handled an event knows its id, and does nothing; who had not read it yet hears of it now.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from datetime import datetime

from sqlalchemy import select

from services.gateway.settings import Settings
from services.gateway.tables import EventRow
from sskai import contract
from sskai.broker import Broker
from sskai.bus import Publisher
from sskai.database import Database

BATCH = 500


async def republish(database: Database, publisher: Publisher, since: datetime) -> int:
    """Everything that the log took in since then, in its order; returns how many events."""
    last = count = 0
    while True:
        async with database.transaction() as session:
            query = select(EventRow.id, EventRow.event).where(EventRow.id > last, EventRow.at >= since)
            rows = (await session.execute(query.order_by(EventRow.id).limit(BATCH))).all()
        if not rows:
            return count
        await publisher.publish_all(contract.from_cloudevent(row.event) for row in rows)
        last, count = rows[-1].id, count + len(rows)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("since", type=datetime.fromisoformat)
    arguments = parser.parse_args()
    settings = Settings()
    database = Database(settings.database_url.get_secret_value(), "gateway", pool_size=1)
    publisher = Publisher(Broker.from_settings(settings), "sskai-recover")
    try:
        count = await republish(database, publisher, arguments.since)
    finally:
        await publisher.stop()
        await database.close()
    print(json.dumps({"republished": count}))


if __name__ == "__main__":
    asyncio.run(main())
