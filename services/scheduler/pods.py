"""What pods on other people's machines have in common, whichever cluster runs them. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

# services/trainer/README.md: the user's to mend (another pod would end the same way), and one of them by name.
USER_EXIT_CODES = [65, 71, 76, 78]
OUT_OF_MEMORY = 71
# The image brings it (deploy/Dockerfile, docs/decisions/0009); an image without it is told so by the loader, and runs.
PRELOADED = {"LD_PRELOAD": "libtcmalloc_minimal.so.4"}
MASTER_PORT = 29500  # torch.distributed's default
# Variables of a pod that are secrets: by reference where the cluster can, never in what an API shows or a machine is
# started with.
OBJECTS_SECRETS = ("SSKAI_OBJECTS_ACCESS_KEY", "SSKAI_OBJECTS_SECRET_KEY")


@dataclass(frozen=True, slots=True)
class Ending:
    """How one member of a gang ended. No exit code: it went with its machine."""

    exit_code: int | None
    ended_at: datetime | None
    # Something outside ended it: an eviction, a node that went.
    disrupted: bool = False


def cause(endings: Sequence[Ending]) -> Ending | None:
    """Whose end ended the gang: what the user must mend, before a lost machine, before what broke after those. None:
    nobody failed."""

    def rank(one: Ending) -> tuple[int, float]:
        kind = 0 if one.exit_code in USER_EXIT_CODES else 1 if one.exit_code is None else 2
        return kind, one.ended_at.timestamp() if one.ended_at else 0.0

    return min((one for one in endings if one.exit_code != 0), key=rank, default=None)
