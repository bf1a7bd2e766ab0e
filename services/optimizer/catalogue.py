"""The snapshot of facts that planning starts from: machine types, places and list prices. See `data/README.md`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from services.optimizer.throughput import Machine
from services.optimizer.values import Offer

CLOUD = "aws"
METHODS = ("lora", "qlora", "full", "scratch")
# When each source's prices were read; the day is the month's first where only the month is known.
SOURCE_DATES = {"karpenter": "2026-07-01", "vantage": "2026-01-01", "skypilot": "2026-01-01"}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Machines by instance type, and every offer of the snapshot in the file's order (on-demand, then spot)."""

    machines: dict[str, Machine]
    offers: tuple[Offer, ...]


@cache
def snapshot() -> Catalogue:
    """The project's own snapshot, read once."""
    accelerators = {row["name"]: row for row in _rows("accelerators.csv")}
    processors = {row["family"]: row for row in _rows("processors.csv")}
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
        efficiency = dict(_efficiencies()[row["accelerator_name"]])
    else:
        facts = processors[row["instance_type"].partition(".")[0]]
        peak = float(facts["vcpu_gflops"]) * 1e9 * vcpus
        bandwidth = float(facts["vcpu_bandwidth_gb_per_second"]) * 1e9 * vcpus
        link = 0.0
        efficiency = dict.fromkeys(METHODS, float(facts["efficiency"]))
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
