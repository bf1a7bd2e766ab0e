"""The facts that planning starts from: machine types, places and list prices. See `data/README.md`.

`snapshot` is what the project ships. `with_facts` adds machine types that AWS described since, `with_this_computer`
adds this computer in the part of some of them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

from services.optimizer.memory import METHODS
from services.optimizer.throughput import BANDWIDTH_EFFICIENCY, Machine
from services.optimizer.values import Offer

CLOUD = "aws"
LOCAL_CLOUD = "local"
LOCAL_PREFIX = "local."  # local.m5.large: this computer in the part of an m5.large
# Who says what is known of a machine type beside the snapshot.
DESCRIBED = "aws describe-instance-types"
MEASURED = "measured"
THIS_COMPUTER = "local"  # under which name this computer's own figures are kept
# When each source's prices were read; the day is the month's first where only the month is known.
SOURCE_DATES = {"karpenter": "2026-07-01", "vantage": "2026-01-01", "skypilot": "2026-01-01"}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Machines by instance type, and every offer of the snapshot in the file's order (on-demand, then spot)."""

    machines: dict[str, Machine]
    offers: tuple[Offer, ...]
    plays: Mapping[str, str] = field(default_factory=dict)  # machine of this computer -> the type that it plays


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What AWS says of an instance type. `accelerator_name` is AWS's word, its memory that of one accelerator."""

    instance_type: str
    vcpus: int
    memory_gib: float
    network_mbps: float
    accelerator_name: str = ""
    accelerator_count: int = 0
    accelerator_memory_gib: float = 0.0


@dataclass(frozen=True, slots=True)
class ThisComputer:
    """What was measured here, with the processors that one pod gets (`measuring.py`)."""

    flops_per_second: float
    bandwidth_bytes_per_second: float
    threads: int

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> ThisComputer | None:
        """Figures as they were kept; None for what no computer reaches, or no measurement gives."""
        try:
            flops, bandwidth = float(figures["flops_per_second"]), float(figures["bandwidth_bytes_per_second"])
            threads = int(figures["threads"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        if not (1e8 < flops < 1e15 and 1e8 < bandwidth < 1e14 and threads > 0):
            return None
        return cls(flops, bandwidth, threads)


@cache
def snapshot() -> Catalogue:
    """The project's own snapshot, read once."""
    accelerators, processors = _accelerators(), _processors()
    machines: dict[str, Machine] = {}
    offers: list[Offer] = []
    for row in _rows("aws_catalog.csv"):
        name = row["instance_type"]
        if name not in machines:
            machines[name] = _machine(row, accelerators, processors)
        offers.append(_offer(row, "on-demand", float(row["price_usd_hour"])))
        if row["spot_price_usd_hour"]:
            offers.append(_offer(row, "spot", float(row["spot_price_usd_hour"])))
    return Catalogue(machines, tuple(offers))


@cache
def offers_by_key() -> dict[str, Offer]:
    """The snapshot's offers by the key that prices and capacity are told under."""
    return {offer.key: offer for offer in snapshot().offers}


@cache
def _efficiencies() -> dict[str, dict[str, float]]:
    """By accelerator and method; training from scratch is full training."""
    shares: dict[str, dict[str, float]] = {}
    for row in _rows("efficiency.csv"):
        shares.setdefault(row["accelerator"], {})[row["method"]] = float(row["share"])
    return {name: share | {"scratch": share["full"]} for name, share in shares.items()}


def list_prices() -> dict[tuple[str, str], float]:
    """The snapshot's on-demand price by region and instance type."""
    return {(offer.region, offer.instance_type): offer.on_demand_price_usd_per_hour for offer in snapshot().offers}


def machine_of(facts: MachineFacts) -> Machine | None:
    """The machine that these facts describe; None where `data/` does not say how fast its processor is."""
    name = ""
    if facts.accelerator_count:
        known = _accelerator_name(facts)
        if known is None:
            return None
        name = known
    elif facts.instance_type.partition(".")[0] not in _processors():
        return None
    row = {
        "instance_type": facts.instance_type,
        "accelerator_name": name,
        "accelerator_count": str(facts.accelerator_count),
        "vcpus": str(facts.vcpus),
        "memory_gib": str(facts.memory_gib),
        "gpu_memory_gib": str(facts.accelerator_memory_gib * facts.accelerator_count),
        "network_mbps": str(facts.network_mbps),
    }
    return _machine(row, _accelerators(), _processors())


def with_facts(known: Catalogue, described: Iterable[MachineFacts]) -> Catalogue:
    """And the types that were described since. What the catalogue has already stays as it is."""
    machines = dict(known.machines)
    for facts in described:
        if facts.instance_type not in machines and (machine := machine_of(facts)) is not None:
            machines[facts.instance_type] = machine
    return replace(known, machines=machines)


def playable(instance_type: str) -> bool:
    """Whether this computer can play the type: the snapshot knows it, and it has no accelerator."""
    machine = snapshot().machines.get(instance_type)
    return machine is not None and not machine.accelerator_name


def with_this_computer(known: Catalogue, types: Sequence[str], measured: ThisComputer | None) -> Catalogue:
    """And this computer in the part of each of these types: their size, offers and prices, at the speed measured here.

    Until it is measured it is taken to be as fast as what it plays.
    """
    plays = {f"{LOCAL_PREFIX}{name}": name for name in types}
    machines = dict(known.machines)
    for name, played in plays.items():
        machine = replace(known.machines[played], instance_type=name)
        if measured is not None:
            machine = replace(
                machine,
                peak_flops_per_second=measured.flops_per_second,
                # A copy was measured; step times are predicted from nominal rates, of which copies reach this share.
                bandwidth_bytes_per_second=measured.bandwidth_bytes_per_second / BANDWIDTH_EFFICIENCY,
            )
        machines[name] = machine
    offers = tuple(
        replace(offer, cloud=LOCAL_CLOUD, instance_type=name)
        for name, played in plays.items()
        for offer in known.offers
        if offer.instance_type == played
    )
    return Catalogue(machines, known.offers + offers, plays)


@cache
def _accelerators() -> dict[str, dict[str, str]]:
    return {row["name"]: row for row in _rows("accelerators.csv")}


@cache
def _processors() -> dict[str, dict[str, str]]:
    return {row["family"]: row for row in _rows("processors.csv")}


def _accelerator_name(facts: MachineFacts) -> str | None:
    """Our name of an accelerator that AWS calls, say, "A100" or "RTX PRO Server 6000": of those, the one of its size.

    AWS counts some memory without what error correction takes (an A10G of 24 GiB has 22.4), hence the tolerance; a
    fraction of an accelerator is none that we know.
    """
    word = _plain(facts.accelerator_name.upper().replace("SERVER", ""))
    for name, row in _accelerators().items():
        model = _plain(name.upper().partition("-")[0])
        if model == word and math.isclose(float(row["memory_gib"]), facts.accelerator_memory_gib, rel_tol=0.12):
            return name
    return None


def _plain(words: str) -> str:
    return "".join(filter(str.isalnum, words))


def _rows(name: str) -> list[dict[str, str]]:
    text = (resources.files("services.optimizer") / "data" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _machine(
    row: dict[str, str], accelerators: dict[str, dict[str, str]], processors: dict[str, dict[str, str]]
) -> Machine:
    count = int(row["accelerator_count"])
    vcpus = int(row["vcpus"])
    if count:
        facts = accelerators[row["accelerator_name"]]
        peak = float(facts["peak_tflops"]) * 1e12
        bandwidth = float(facts["bandwidth_tb_per_second"]) * 1e12
        link = float(facts["link_gb_per_second"]) * 1e9
        efficiency = dict(sorted(_efficiencies()[row["accelerator_name"]].items()))
    else:
        facts = processors[row["instance_type"].partition(".")[0]]
        peak = float(facts["vcpu_gflops"]) * 1e9 * vcpus
        bandwidth = float(facts["vcpu_bandwidth_gb_per_second"]) * 1e9 * vcpus
        link = 0.0
        efficiency = dict.fromkeys(sorted(METHODS), float(facts["efficiency"]))
    return Machine(
        instance_type=row["instance_type"],
        vcpus=vcpus,
        memory_gib=float(row["memory_gib"]),
        accelerator_name=row["accelerator_name"],
        accelerator_count=count,
        accelerator_memory_gib=float(row["gpu_memory_gib"]) / count if count else 0.0,
        network_mbps=float(row["network_mbps"]),
        peak_flops_per_second=peak,
        bandwidth_bytes_per_second=bandwidth,
        efficiency=efficiency,
        link_bytes_per_second=link,
    )


def _offer(row: dict[str, str], capacity_type: str, price_usd_per_hour: float) -> Offer:
    source = row["source"]
    date = next(date for name, date in SOURCE_DATES.items() if source.startswith(name))
    band = row["advisor_interruption_band"]
    return Offer(
        cloud=CLOUD,
        region=row["region"],
        zone=row["availability_zone"],
        instance_type=row["instance_type"],
        capacity_type=capacity_type,
        price_usd_per_hour=price_usd_per_hour,
        on_demand_price_usd_per_hour=float(row["price_usd_hour"]),
        interruption_band=int(band) if band else None,
        price_as_of=f"{date}T00:00:00+00:00",
        price_source=f"catalogue snapshot ({source.partition('+')[0]})",
    )
