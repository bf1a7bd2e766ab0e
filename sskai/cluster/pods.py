"""What pods have in common, whichever cluster runs them. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sskai.settings import Settings

# services/trainer/README.md: the user's to mend (another pod would end the same way), and one of them by name.
USER_EXIT_CODES = [65, 71, 76, 78]
OUT_OF_MEMORY = 71
# Of a pod that was asked to save and leave, and did.
DRAINED = 75
# By a signal from outside, which a machine that goes away sends too.
KILLED = (137, 143)
# The image brings it (deploy/Dockerfile, docs/decisions/0009); an image without it is told so by the loader, and runs.
PRELOADED = {"LD_PRELOAD": "libtcmalloc_minimal.so.4"}
MASTER_PORT = 29500  # torch.distributed's default
# Variables of a pod that are secrets: by reference where the cluster can, never in what an API shows or a machine is
# started with.
OBJECTS_SECRETS = ("SSKAI_OBJECTS_ACCESS_KEY", "SSKAI_OBJECTS_SECRET_KEY")
BROKER_SECRETS = ("SSKAI_KAFKA_USERNAME", "SSKAI_KAFKA_PASSWORD")
BROKER_CA = "SSKAI_KAFKA_CA_PEM"


def objects(settings: Settings) -> dict[str, str]:
    """Variables by which a pod reaches the object store; without a key it has a role of its own."""
    by_key = settings.objects_access_key != ""
    return {
        "SSKAI_OBJECTS_URL": settings.objects_url,
        "SSKAI_OBJECTS_BUCKET": settings.objects_bucket,
        "SSKAI_OBJECTS_REGION": settings.objects_region,
        "SSKAI_OBJECTS_ACCESS_KEY": settings.objects_access_key,
        "SSKAI_OBJECTS_SECRET_KEY": settings.objects_secret_key.get_secret_value() if by_key else "",
    }


def broker(settings: Settings) -> dict[str, str]:
    """Variables by which a pod reaches Kafka."""
    found = {
        "SSKAI_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "SSKAI_KAFKA_SECURITY_PROTOCOL": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        account = (settings.kafka_username, settings.kafka_password.get_secret_value())
        found |= {"SSKAI_KAFKA_SASL_MECHANISM": settings.kafka_sasl_mechanism}
        found |= dict(zip(BROKER_SECRETS, account, strict=True))
    if settings.kafka_ca_pem:
        found[BROKER_CA] = settings.kafka_ca_pem
    return found


@dataclass(frozen=True, slots=True)
class Ending:
    """How one member of a gang ended. No exit code: it went with its machine."""

    exit_code: int | None
    ended_at: datetime | None
    # Something outside ended it: an eviction, a node that went.
    disrupted: bool = False
    first: bool = True  # rank 0's, whose machine is the others' meeting place (services/trainer/agent.py)
    why: str = ""  # in the cluster's words

    @property
    def lost(self) -> bool:
        """Whether it was taken, rather than ended by itself."""
        return self.exit_code is None or self.exit_code in KILLED or self.disrupted


def gang_end(endings: Sequence[Ending], members: int) -> Ending | None:
    """How a gang of so many ended, by those of its members that have; None: it goes on.

    A member that was lost does not end it, unless it is the first: the others meet again and go on. A failure does, and
    of several the one that says most: what the user must mend, before a lost machine, before what broke after those. A
    member that saved faster than the others is no failure: they still save.
    """

    def rank(one: Ending) -> tuple[int, float]:
        kind = 0 if one.exit_code in USER_EXIT_CODES else 1 if one.exit_code is None else 2
        return kind, one.ended_at.timestamp() if one.ended_at else 0.0

    failed = [one for one in endings if one.exit_code not in (0, DRAINED)]
    if any(one.first or not one.lost for one in failed):
        return min(failed, key=rank)
    if not endings or len(endings) < members:
        return None
    # Where one was done and another had only saved, the work is not done.
    most = max((one for one in endings if one not in failed), key=lambda one: one.exit_code or 0)
    return replace(most, ended_at=max((one.ended_at for one in endings if one.ended_at), default=None))


def lost_members(endings: Sequence[Ending]) -> tuple[int, datetime | None]:
    """How many members a gang that goes on has lost, and when the last of them went, if that is known."""
    lost = [one for one in endings if one.lost and not one.first]
    return len(lost), max((one.ended_at for one in lost if one.ended_at), default=None)
