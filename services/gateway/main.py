"""The gateway as a process: where settings, stores, API, handlers and loops meet."""

from __future__ import annotations

from functools import partial

import httpx2

from services.gateway.api.world import World
from services.gateway.app import build_app
from services.gateway.catalogue import Catalogue
from services.gateway.cutting import Cutter
from services.gateway.deleting import purge_deleted
from services.gateway.handlers import HANDLERS
from services.gateway.hub import Hub
from services.gateway.loops import forget_old
from services.gateway.retrains import cut_for_retrains
from services.gateway.settings import Settings
from services.gateway.store import Store
from services.gateway.upload_check import Checker
from services.gateway.webhook_loop import Sender
from sskai.database import Database
from sskai.objects import Objects
from sskai.service import Service, every


class Gateway(Service):
    """A service whose event streams end when the stop begins, so that no client is cut off."""

    world: World

    def stop(self) -> None:
        self.world.hub.close()
        super().stop()


def build(settings: Settings) -> Gateway:
    world = World(
        database=Database(settings.database_url.get_secret_value(), "gateway"),
        objects=Objects.from_settings(settings),
        settings=settings,
        catalogue=Catalogue.load(settings.models_dir),
        hub=Hub(),
        http=httpx2.AsyncClient(),
    )
    checker = Checker(world.database, world.objects)
    gateway = Gateway(
        "gateway",
        settings,
        HANDLERS,
        Store,
        loops=[
            every(60, partial(forget_old, world.database, settings)),
            every(1, Sender(world.database, settings).send_due, name="send_webhooks"),
            every(1, partial(checker.work, large=False), name="check_uploads"),
            every(1, partial(checker.work, large=True), name="check_large_uploads"),
            every(2, partial(purge_deleted, world.database, world.objects)),
            every(2, partial(cut_for_retrains, Cutter(world.database, world.objects, settings))),
        ],
        api=build_app(world),
        database=world.database,
    )
    gateway.world = world
    return gateway


def main() -> None:
    build(Settings()).run()
