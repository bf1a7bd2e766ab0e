"""Waiting for the optimizer's answer to something that was just asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.gateway.api.world import World
from services.gateway.store import Store
from services.gateway.tables import PlanRow, ReplayRow

LOOK_SECONDS = 5  # at the latest, should a notification be lost with its connection

Row = TypeVar("Row", PlanRow, ReplayRow)


async def answered(here: World, subject: str, look: Callable[[Store], Awaitable[Row | None]]) -> Row | None:
    """What `look` finds once it is not pending, or as it stands when the time is over.

    `subject` is the key of the event that answers.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + here.settings.plan_wait_seconds
    with here.hub.waiting(subject) as woken:
        while True:
            woken.clear()
            async with here.database.transaction() as session:
                row = await look(Store(session))
            left = until - clock()
            if row is None or row.status != "pending" or left <= 0 or here.hub.closing.is_set():
                return row
            await here.hub.pause(woken, min(left, LOOK_SECONDS))
