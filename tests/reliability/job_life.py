"""The life that most of the matrix is about: a job from its submission to its receipt (`system.py`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from sskai import faults
from sskai.faults import Armed
from sskai.objects import Objects
from tests.reliability.invariants import check_invariants, end_state
from tests.reliability.matrix import Life
from tests.reliability.system import System


def job_life(objects: Objects, artifact_uri: str) -> Life:
    return partial(_live, objects, artifact_uri)


async def _live(objects: Objects, artifact_uri: str, url: str, plan: Armed) -> dict[str, Any]:
    system = System(url, objects, artifact_uri)
    try:
        with faults.armed(plan):
            await system.run()
        await check_invariants(system)
        return await end_state(system)
    finally:
        await system.close()
