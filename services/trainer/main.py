"""The trainer's service as a process: `python -m services trainer`. It never imports torch: pods do."""

from __future__ import annotations

import asyncio
from functools import partial

from google.protobuf.message import Message

from services.trainer.handlers import HANDLERS
from services.trainer.loops import clean_up_jobs, verify_results
from services.trainer.settings import Settings
from services.trainer.store import Store
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.service import Service, every

VERIFY_POLL_SECONDS = 2.0  # only for results whose event another replica took
CLEAN_UP_SECONDS = 300.0


def build(settings: Settings) -> Service:
    """The service with its loops."""
    database = Database(settings.database_url.get_secret_value(), "trainer")
    objects = Objects.from_settings(settings)
    arrived = asyncio.Event()

    def wake_verifier(event: Message, _told: list[Message]) -> None:
        if isinstance(event, events.JobSucceeded):
            arrived.set()

    return Service(
        "trainer",
        settings,
        HANDLERS,
        Store,
        loops=[
            every(VERIFY_POLL_SECONDS, partial(verify_results, database, objects), wake=arrived),
            every(CLEAN_UP_SECONDS, partial(clean_up_jobs, database, objects, settings.checkpoint_retention_hours)),
        ],
        after_event=wake_verifier,
        database=database,
    )


def main() -> None:
    build(Settings()).run()
