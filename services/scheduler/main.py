"""The scheduler as a process: where settings, database, cluster, handlers and loops meet."""

from __future__ import annotations

from functools import partial
from typing import Any

from google.protobuf.message import Message

from services.scheduler import api, policy
from services.scheduler.availability import read_priors
from services.scheduler.handlers import HANDLERS
from services.scheduler.loops import drive_jobs, tend_queue
from services.scheduler.machines_loop import watch_machines
from services.scheduler.market_store import forget_old_offers
from services.scheduler.policy import Lookahead
from services.scheduler.queueing import forget_old_waits
from services.scheduler.settings import Settings
from services.scheduler.store import Store
from services.scheduler.world import World
from sskai.cluster.choosing import cluster_of
from sskai.database import Database
from sskai.objects import Objects
from sskai.service import Service, every


def build(settings: Settings) -> Service:
    database = Database(settings.database_url.get_secret_value(), "scheduler")
    priors = settings.spot_priors
    lookahead = policy.shipped() if priors is None else Lookahead(read_priors(priors))
    objects = Objects.from_settings(settings)
    world = World(
        database, cluster_of(settings), settings, clock=database.clock.now, lookahead=lookahead, objects=objects
    )
    driving = every(0.5, partial(drive_jobs, world))

    def wake(_event: Message, _told: list[Any]) -> None:
        driving.wake.set()

    async def watch() -> None:
        if await watch_machines(world):
            driving.wake.set()

    async def tend_waiting_jobs() -> None:
        if await tend_queue(world):
            driving.wake.set()

    async def forget() -> None:
        await forget_old_waits(database, world.clock())
        await forget_old_offers(database, world.clock())

    return Service(
        "scheduler",
        settings,
        HANDLERS,
        Store,
        loops=[
            driving,
            every(0.5, watch, name="watch_machines"),
            every(1.0, tend_waiting_jobs),
            every(3600, forget, name="forget_old_waits_and_offers"),
        ],
        api=api.build(database, world.cluster, settings.internal_token.get_secret_value(), objects),
        after_event=wake,
        database=database,
    )


def main() -> None:
    build(Settings()).run()
