"""The life that most of the matrix is about: a job from its submission to its receipt (`system.py`)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any
from unittest.mock import patch

from sskai import delivery, faults
from sskai.faults import Armed
from sskai.objects import Objects
from tests.reliability.invariants import check_invariants, end_state
from tests.reliability.matrix import Life, limit_seconds
from tests.reliability.stage import Stage
from tests.reliability.system import System


def job_life(objects: Objects, artifact_uri: str) -> Life:
    return partial(_live, objects, artifact_uri)


async def _live(objects: Objects, artifact_uri: str, stage: Stage, plan: Armed) -> dict[str, Any]:
    system = System(stage, objects, artifact_uri, limit_seconds(plan))
    # What is handled together is what waits, however busy the machine.
    with faults.armed(plan), patch.object(delivery, "TOGETHER_SECONDS", math.inf):
        await system.run()
    await check_invariants(system)
    return await end_state(system)
