"""All parts at once, each within its time; whatever one of them raises is a finding about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias

from sskai.doctor import Finding, State, broker, cluster, database, objects, services
from sskai.doctor.settings import Settings

PART_SECONDS = 60.0
EXIT_CODES: dict[State, int] = {"ok": 0, "skipped": 0, "warn": 1, "fail": 2}
Look: TypeAlias = Callable[[], Awaitable[list[Finding]]]


def utc_now() -> datetime:
    return datetime.now(UTC)


def parts(settings: Settings, now: Callable[[], datetime] = utc_now) -> dict[str, Look]:
    """What is looked at, by name, in the order in which it is shown."""
    return {
        "broker": lambda: broker.look(settings, now()),
        "database": lambda: database.look(settings, now),
        "objects": lambda: objects.look(settings, now),
        "cluster": lambda: cluster.look(settings),
        "services": lambda: services.look(settings),
    }


async def examine(looks: Mapping[str, Look], *, seconds: float = PART_SECONDS) -> list[Finding]:
    """What was found, part by part."""
    found = await asyncio.gather(*(_look(name, look, seconds) for name, look in looks.items()))
    return [finding for part in found for finding in part]


async def _look(name: str, look: Look, seconds: float) -> list[Finding]:
    try:
        return await asyncio.wait_for(look(), seconds)
    except TimeoutError:
        return [
            Finding(
                name,
                "reachable",
                "fail",
                f"no answer within {seconds:g} s",
                "Look at the part and at the network between.",
            )
        ]
    except Exception as error:
        return [
            Finding(
                name,
                "reachable",
                "fail",
                f"cannot be looked at: {error!r}",
                "Report this: the doctor should have understood it.",
            )
        ]


def exit_code(found: list[Finding]) -> int:
    """0: sound. 1: there are warnings. 2: something does not work."""
    return max((EXIT_CODES[one.state] for one in found), default=0)
