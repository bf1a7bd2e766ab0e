"""Karpenter's node pools from what plans may choose: values for `karpenter.pools` of deploy/helm/sskai.

    sskai plan job.yaml --json | python -m tools.karpenter_pools --regions us-east-1 > pools.yaml
    python -m tools.karpenter_pools --offered 'g5.*,m7i.*' --regions us-east-1 > pools.yaml

A pod names its machine's type, kind of capacity and zone, so a pool has all types of its kind: what is not in a pool is
never ordered, and waits until the scheduler calls it denied.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import yaml

from services.optimizer import catalogue

# Of machines that cost money by the hour, how many vCPUs or GPUs at the same time, until somebody says more.
MOST_VCPUS, MOST_ACCELERATORS = 1000, 64
SPOT, ON_DEMAND = "spot", "on-demand"


class NothingOfferedError(ValueError):
    """No pool can be made; the message says of what."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A type that may be ordered, and how."""

    instance_type: str
    capacity_type: str
    accelerators: int


def of_plan(plan: dict[str, Any], regions: Iterable[str]) -> set[Choice]:
    """What a plan's candidates may run on, as `GET /v1/plans/ID` tells them."""
    regions = list(regions)
    places = [candidate["placement"] for candidate in plan["candidates"]]
    return {
        Choice(place["instance_type"], place["capacity_type"], int(place["accelerator_count"]))
        for place in places
        if place["cloud"] == catalogue.CLOUD and (not regions or place["region"] in regions)
    }


def of_catalogue(patterns: Iterable[str], regions: Iterable[str]) -> set[Choice]:
    """What an installation with these SSKAI_OFFERED_INSTANCE_TYPES and SSKAI_OFFERED_REGIONS may plan on."""
    patterns, regions = list(patterns), list(regions)
    known = catalogue.snapshot()
    return {
        Choice(offer.instance_type, offer.capacity_type, known.machines[offer.instance_type].accelerator_count)
        for offer in known.offers
        if any(fnmatch(offer.instance_type, pattern) for pattern in patterns)
        and (not regions or offer.region in regions)
    }


def pools(choices: set[Choice]) -> list[dict[str, Any]]:
    """A pool for each kind of capacity, of machines with GPUs and of those without. Raises NothingOfferedError."""
    if not choices:
        raise NothingOfferedError("no machine of AWS is among what was given: name other types, or another plan")
    made = []
    for capacity in (SPOT, ON_DEMAND):
        for kind, accelerated in (("gpu", True), ("cpu", False)):
            types = sorted(
                {
                    one.instance_type
                    for one in choices
                    if one.capacity_type == capacity and bool(one.accelerators) == accelerated
                }
            )
            if types:
                limits = {"nvidia.com/gpu": str(MOST_ACCELERATORS)} if accelerated else {"cpu": str(MOST_VCPUS)}
                made.append(
                    {
                        "name": f"sskai-{kind}-{capacity}",
                        "capacityTypes": [capacity],
                        "instanceTypes": types,
                        "accelerators": accelerated,
                        "limits": limits,
                    }
                )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offered", default="", help="as SSKAI_OFFERED_INSTANCE_TYPES: shell patterns with commas")
    parser.add_argument("--regions", default="", help="of the cluster; default: all that come in")
    arguments = parser.parse_args()
    try:
        if arguments.offered:
            found = of_catalogue(_listed(arguments.offered), _listed(arguments.regions))
        else:
            found = of_plan(json.load(sys.stdin), _listed(arguments.regions))
        made = pools(found)
    except (NothingOfferedError, KeyError, TypeError, json.JSONDecodeError) as problem:
        print(f"Node pools are made of a plan (`sskai plan FILE --json`) or of --offered: {problem!r}", file=sys.stderr)
        return 2
    print(yaml.safe_dump({"karpenter": {"enabled": True, "pools": made}}, sort_keys=False), end="")
    return 0


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main())
