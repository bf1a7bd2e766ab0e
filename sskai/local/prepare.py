"""`python -m sskai.local.prepare [topics] [schemas]`: what must stand before the first service starts.

Both steps may be repeated: topics that exist are left alone, schemas are brought up to date.
"""

from __future__ import annotations

import asyncio
import sys

from pydantic import Field

from sskai import broker_admin, contract
from sskai.broker import Broker
from sskai.database import SERVICES, migrate
from sskai.settings import Settings


class PrepareSettings(Settings):
    """Of new topics; dead letters have one partition."""

    topic_partitions: int = Field(default=4, gt=0)
    topic_replication: int = Field(default=1, gt=0)


def create_topics(settings: PrepareSettings) -> None:
    """Every topic of the contract, with the dead letters' topic beside it."""
    asyncio.run(
        broker_admin.create_topics(
            Broker.from_settings(settings),
            [*contract.TOPICS, contract.OTLP_TOPIC],
            partitions=settings.topic_partitions,
            replication=settings.topic_replication,
        )
    )


def migrate_schemas(settings: PrepareSettings) -> None:
    """Every service's schema, at its newest revision."""
    for service in SERVICES:
        migrate(settings.database_url.get_secret_value(), service)


STEPS = {"topics": create_topics, "schemas": migrate_schemas}


def main() -> None:
    """Take the named steps, or all of them."""
    settings = PrepareSettings()
    for step in sys.argv[1:] or STEPS:
        STEPS[step](settings)
        print(f"{step}: ready", flush=True)


if __name__ == "__main__":
    main()
