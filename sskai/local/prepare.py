"""`python -m sskai.local.prepare [topics] [schemas]`: what must stand before the first service starts.

Both steps may be repeated: topics that exist are left alone, schemas are brought up to date.
"""

from __future__ import annotations

import asyncio
import sys

from sskai import bus, contract
from sskai.database import SERVICES, migrate
from sskai.settings import Settings


def create_topics(settings: Settings) -> None:
    """Every topic of the contract, with the dead letters' topic beside it."""
    asyncio.run(bus.create_topics(settings.kafka_bootstrap, [*contract.TOPICS, contract.OTLP_TOPIC]))


def migrate_schemas(settings: Settings) -> None:
    """Every service's schema, at its newest revision."""
    for service in SERVICES:
        migrate(settings.database_url.get_secret_value(), service)


STEPS = {"topics": create_topics, "schemas": migrate_schemas}


def main() -> None:
    """Take the named steps, or all of them."""
    settings = Settings()
    for step in sys.argv[1:] or STEPS:
        STEPS[step](settings)
        print(f"{step}: ready", flush=True)


if __name__ == "__main__":
    main()
