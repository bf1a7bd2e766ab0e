"""The scheduler's process as it is, but for its pods' program and shorter leases: `python -m ... FOLDER LEASE_SECONDS`.

A replica that stands still for longer than its lease wakes up as a zombie whose work somebody else has done; with the
real 60 s that would take a day to happen often enough.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from services.scheduler import local_cluster, main
from sskai import claims

POD = Path(__file__).with_name("chaos_pod.py")


def run(folder: str, lease_seconds: float) -> None:
    local_cluster.POD_COMMAND = [sys.executable, "-I", "-S", str(POD), folder]
    claim = claims.claim

    async def claim_for_a_short_time(*arguments: Any, **options: Any) -> list[Any]:
        return await claim(*arguments, **(options | {"lease_seconds": lease_seconds}))

    claims.claim = claim_for_a_short_time  # type: ignore[assignment]
    main.main()


if __name__ == "__main__":
    run(sys.argv[1], float(sys.argv[2]))
