"""A service's process as it is, but for one thing: `python -m tests.chaos.process scheduler|optimizer`.

scheduler: its pods' program, and shorter leases. A replica that stands still for longer than its lease wakes up as a
zombie whose work the other one has done; with the real 60 s a storm of minutes would hardly see one.
optimizer: the profiling worker's answer is the simulation's, so that no start and no plan costs the seconds that torch
takes to import. Nothing else ever reads the model.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import simulation
from sskai.importing import without_garbage_collection

LEASE_SECONDS = 3.0
PODS_FOLDER = "CHAOS_PODS_FOLDER"  # where pods write their logs
MODEL = "chaos-model"
PROFILE = Path(simulation.__file__).with_name("profile.json")


def write_model(folder: Path) -> None:
    """As much of a model as makes it one that may be named in a job."""
    (folder / MODEL).mkdir(parents=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048}
    (folder / MODEL / "config.json").write_text(json.dumps(config))


class KeptProfile:
    """In the place of `services.optimizer.profiler.Profiler`."""

    def __init__(self, **_limits: float) -> None:
        self._answer: dict[str, Any] = json.loads(PROFILE.read_text())

    async def start(self) -> None:
        """There is no process to start."""

    async def profile(self, _request: dict[str, Any]) -> dict[str, Any]:
        return dict(self._answer)


def scheduler() -> None:
    with without_garbage_collection():
        from services.scheduler import main
        from sskai import claims
        from sskai.cluster import local_cluster

    folder = os.environ[PODS_FOLDER]
    local_cluster.pod_command = lambda program: [sys.executable, "-m", "tests.chaos.pod", folder]
    claim = claims.claim

    async def claim_for_a_short_time(*arguments: Any, **options: Any) -> list[Any]:
        return await claim(*arguments, **(options | {"lease_seconds": LEASE_SECONDS}))

    claims.claim = claim_for_a_short_time  # type: ignore[assignment]
    main.main()


def optimizer() -> None:
    with without_garbage_collection():
        from services.optimizer import main

    main.Profiler = KeptProfile  # type: ignore[assignment,misc]
    main.main()


CHANGED = {"scheduler": scheduler, "optimizer": optimizer}

if __name__ == "__main__":
    CHANGED[sys.argv[1]]()
