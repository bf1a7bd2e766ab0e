"""The scheduler's process as it is, but for its pods' program, shorter leases, and that it is forked (chaos_parts.py).

A replica that stands still for longer than its lease wakes up as a zombie whose work somebody else has done; with the
real one that would take a day to happen often enough.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.scheduler import loops, main
from sskai import claims
from sskai.cluster import local_cluster

POD = Path(__file__).with_name("chaos_pod.py")


def run(log: Path, environment: Mapping[str, str], folder: Path, lease_seconds: float) -> None:
    """Until it is killed. Everything that it prints is appended to `log`; pods write below `folder`."""
    os.setsid()
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.environ.update(environment)
    local_cluster.pod_command = lambda program: [sys.executable, "-I", "-S", str(POD), str(folder)]
    claim = claims.claim

    async def claim_for_a_short_time(*arguments: Any, **options: Any) -> list[Any]:
        return await claim(*arguments, **(options | {"lease_seconds": lease_seconds}))

    loops.LEASE_SECONDS = lease_seconds
    claims.claim = claim_for_a_short_time  # type: ignore[assignment]
    main.main()
