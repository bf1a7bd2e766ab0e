"""The optimizer as a process: `python -m services.optimizer.main`."""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message

from services.optimizer.handlers import HANDLERS
from services.optimizer.loops import Planner
from services.optimizer.profiler import Profiler
from services.optimizer.serving_loop import EndpointPlanner
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from sskai.database import Database
from sskai.service import Service, every

HOUR = 3600.0
# What leaves no planning request behind and so need not wake the planner.
QUIET = {"PriceObserved", "AttemptStarted", "AttemptProgressed", "AttemptFinished"}


def build(settings: Settings) -> Service:
    """The service with its loops; the profiling worker starts with the first turn of its loop."""
    database = Database(settings.database_url.get_secret_value(), "optimizer")
    profiler = Profiler(limit_seconds=settings.profile_limit_seconds)
    planner = Planner(database, settings, profiler)
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
            every(settings.planning_poll_seconds, planner.plan_waiting_jobs, wake=asked),
            every(settings.planning_poll_seconds, endpoint_planner.plan_waiting_endpoints, wake=endpoint_asked),
            # Warm before anybody asks: importing torch takes seconds.
            every(10, profiler.start, name="keep_profiler_warm"),
            every(HOUR, planner.forget_old_plans),
        ],
        after_event=wake_planner,
        database=database,
    )


def main() -> None:
    build(Settings()).run()


if __name__ == "__main__":
    main()
