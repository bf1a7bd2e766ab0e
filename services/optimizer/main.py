"""The optimizer as a process: `python -m services optimizer`."""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message

from services.optimizer.aws import Aws
from services.optimizer.computer import Computer
from services.optimizer.handlers import HANDLERS
from services.optimizer.local_prices import LocalPrices
from services.optimizer.loops import Planner
from services.optimizer.profiler import Profiler
from services.optimizer.refresh import Refresher
from services.optimizer.serving_loop import EndpointPlanner
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from services.optimizer.user_profiler import UserProfiler
from sskai.database import Database
from sskai.service import Loop, Service, every

HOUR = 3600.0
# What leaves no planning request behind and so need not wake the planner.
QUIET = {
    "PriceObserved",
    "AttemptStarted",
    "AttemptProgressed",
    "AttemptFinished",
    "CheckpointCommitted",
    "PlanReplayRequested",
}


def build(settings: Settings) -> Service:
    """The service with its loops; the profiling worker starts with the first turn of its loop."""
    database = Database(settings.database_url.get_secret_value(), "optimizer")
    profiler = Profiler(limit_seconds=settings.profile_limit_seconds)
    planner = Planner(database, settings, profiler, UserProfiler.from_settings(settings))
    endpoint_planner = EndpointPlanner(database, settings, profiler, planner.market)
    asked, endpoint_asked = asyncio.Event(), asyncio.Event()

    def wake_planner(event: Message, _told: list[Message]) -> None:
        if event.DESCRIPTOR.name == "EndpointPlanRequested":
            endpoint_asked.set()
        elif event.DESCRIPTOR.name not in QUIET:
            asked.set()

    return Service(
        "optimizer",
        settings,
        HANDLERS,
        Store,
        loops=[
            *_live(database, settings),
            every(settings.planning_poll_seconds, planner.plan_waiting_jobs, wake=asked),
            every(settings.planning_poll_seconds, endpoint_planner.plan_waiting_endpoints, wake=endpoint_asked),
            # Warm before anybody asks: importing torch takes seconds.
            every(10, profiler.start, name="keep_profiler_warm"),
            every(settings.price_moves_seconds, planner.replan_where_prices_moved),
            every(HOUR, planner.forget_old_plans),
        ],
        after_event=wake_planner,
        database=database,
    )


def _live(database: Database, settings: Settings) -> list[Loop]:
    """What goes beyond the snapshot, where it is wanted: AWS's facts and prices, and this computer's own speed."""
    loops = []
    if settings.aws_regions:
        refresher = Refresher(database, settings, Aws(settings.aws_endpoint_url))
        # It looks for what is due that often; machine types and list prices are due once a day.
        loops.append(every(settings.price_refresh_seconds, refresher.refresh_prices))
    if settings.local_machine_types:
        loops.append(every(HOUR, Computer(database, settings).measure_this_computer))
    if settings.local_machine_types and settings.cloud_url:
        loops.append(every(settings.local_price_seconds, LocalPrices(database, settings).watch_local_prices))
    return loops


def main() -> None:
    build(Settings()).run()
