"""AWS's words for machine types, places and prices, in ours. Nobody behind this file has heard of boto3.

Four questions, each about one region, so that a region that fails leaves the others. They block: ask from a thread.
What cannot be read is skipped and counted, never raised; AwsError means that a question got no answer at all.

Actions (EC2 and Pricing API references): ec2:DescribeInstanceTypes, ec2:DescribeSpotPriceHistory,
ec2:DescribeAvailabilityZones, ec2:GetSpotPlacementScores, pricing:GetProducts.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import boto3
import structlog
from botocore.config import Config
from prometheus_client import Counter

from services.optimizer.catalogue import CLOUD, MachineFacts
from services.optimizer.prices import EVERY_ZONE, ON_DEMAND, SPOT, OfferKey
from sskai import failpoints

log = structlog.get_logger()

T = TypeVar("T")

SKIPPED = Counter("sskai_optimizer_facts_skipped", "Facts of a live feed that were not taken", ["kind", "reason"])

# Throttling and lost connections are tried again with growing, jittered pauses: botocore's "standard" mode.
ATTEMPTS = 3
CONNECT_SECONDS = 3
READ_SECONDS = 10
MAX_PAGES = 60  # a region's price list has some ten
ANSWER_SECONDS = 120.0  # for all pages of one question; what came by then is taken
TYPES_PER_QUESTION = 100
# The Pricing API answers for all regions, and stands in three of them.
PRICING_REGION = "us-east-1"
# Where a type has something beside its processors that a trainer would have to be made for.
OTHER_ACCELERATORS = ("FpgaInfo", "InferenceAcceleratorInfo", "NeuronInfo", "MediaAcceleratorInfo")
SPOT_PRODUCT = "Linux/UNIX"
ON_DEMAND_FILTERS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "capacitystatus": "Used",
    "preInstalledSw": "NA",
}


class AwsError(Exception):
    """A question got no answer; the text says which, and what came instead."""


class _UnusableError(Exception):
    """One fact cannot be taken; the text is the reason's word for the metric."""


@failpoints.boundary("prices", AwsError)
class Aws:
    """Every method may be called from any thread."""

    def __init__(self, endpoint_url: str = "", **client_options: Any) -> None:
        self._options = client_options | ({"endpoint_url": endpoint_url} if endpoint_url else {})
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()  # making a client is not thread-safe; using one is

    def machine_types(self, region: str) -> list[MachineFacts]:
        """Every type that the region has, with at most one kind of accelerator."""
        raw = self._ask("machines", region, "ec2", "describe_instance_types", "InstanceTypes")
        return list(_usable("machines", raw, _machine))

    def spot_prices(self, region: str, instance_types: Sequence[str], now: datetime) -> dict[OfferKey, float]:
        """USD per hour, at this moment in each zone."""
        raw: list[Any] = []
        names = sorted(instance_types)
        for start in range(0, len(names), TYPES_PER_QUESTION):
            raw += self._ask(
                "spot",
                region,
                "ec2",
                "describe_spot_price_history",
                "SpotPriceHistory",
                InstanceTypes=names[start : start + TYPES_PER_QUESTION],
                ProductDescriptions=[SPOT_PRODUCT],
                StartTime=now,  # from now on: the one price of each zone that is in force
            )
        zones = {} if all(_names_its_zone(each) for each in raw) else self._zone_ids(region)
        read = partial(_spot, region=region, wanted=frozenset(names), zones=zones)
        # AWS may give the price in force and the one that follows it: the newest counts.
        in_order = sorted(_usable("spot", raw, read), key=lambda each: each[1])
        return {key: usd for key, _, usd in in_order}

    def on_demand_prices(self, region: str) -> dict[OfferKey, float]:
        """USD per hour, of everything that the region has for Linux on shared hardware."""
        wanted = ON_DEMAND_FILTERS | {"regionCode": region}
        filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
        raw = self._ask(
            "on-demand",
            PRICING_REGION,
            "pricing",
            "get_products",
            "PriceList",
            ServiceCode="AmazonEC2",
            FormatVersion="aws_v1",
            Filters=filters,
        )
        return dict(_usable("on-demand", raw, partial(_on_demand, region=region)))

    def placement_scores(self, region: str, instance_types: Sequence[str]) -> dict[OfferKey, int]:
        """1 to 10: how likely one machine of any of these types is to be had in each zone."""
        raw = self._ask(
            "placement-scores",
            region,
            "ec2",
            "get_spot_placement_scores",
            "SpotPlacementScores",
            InstanceTypes=list(instance_types),
            TargetCapacity=1,
            SingleAvailabilityZone=True,
            RegionNames=[region],
        )
        scores = dict(_usable("placement-scores", raw, partial(_score, region=region)))
        return {replace(key, instance_type=name): score for key, score in scores.items() for name in instance_types}

    def _zone_ids(self, region: str) -> dict[str, str]:
        """Zone names differ from account to account ("us-east-1a"), zone ids do not ("use1-az6")."""
        try:
            zones = self._client("ec2", region).describe_availability_zones()["AvailabilityZones"]
            return {zone["ZoneName"]: zone["ZoneId"] for zone in zones if "ZoneName" in zone and "ZoneId" in zone}
        except Exception as error:
            raise AwsError(f"describe_availability_zones in {region}: {error}") from error

    def _ask(self, kind: str, region: str, service: str, operation: str, field: str, **question: Any) -> list[Any]:
        """What all pages hold under `field`."""
        found: list[Any] = []
        give_up_at = time.monotonic() + ANSWER_SECONDS
        try:
            pages = self._client(service, region).get_paginator(operation).paginate(**question)
            for number, page in enumerate(pages, start=1):
                items = page.get(field)
                found += items if isinstance(items, list) else []
                if number == MAX_PAGES or time.monotonic() > give_up_at:
                    log.warning("an answer was cut off", operation=operation, region=region, pages=number)
                    SKIPPED.labels(kind=kind, reason="cut-off").inc()
                    break
        except Exception as error:  # botocore passes on whatever its parsers, its HTTP client or its credentials raise
            raise AwsError(f"{operation} in {region}: {error}") from error
        return found

    def _client(self, service: str, region: str) -> Any:
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = boto3.client(
                    service,  # type: ignore[call-overload]
                    region_name=region,
                    config=Config(
                        retries={"mode": "standard", "max_attempts": ATTEMPTS},
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=READ_SECONDS,
                    ),
                    **self._options,
                )
            return self._clients[service, region]


def _usable(kind: str, raw: Iterable[Any], read: Callable[[Any], T]) -> Iterator[T]:
    """What can be read of an answer; the rest is counted."""
    for each in raw:
        try:
            yield read(each)
        except _UnusableError as reason:
            SKIPPED.labels(kind=kind, reason=str(reason)).inc()


def _machine(raw: Any) -> MachineFacts:
    """One InstanceTypeInfo."""
    name = _get(raw, "InstanceType")
    vcpus = _number(_get(raw, "VCpuInfo", "DefaultVCpus"))
    memory_mib = _number(_get(raw, "MemoryInfo", "SizeInMiB"))
    network_mbps = _network_mbps(_get(raw, "NetworkInfo"))
    if not isinstance(name, str) or not name or vcpus is None or memory_mib is None:
        raise _UnusableError("unreadable")
    if network_mbps is None:
        raise _UnusableError("no-network-rate")
    if any(_get(raw, field) for field in OTHER_ACCELERATORS):
        raise _UnusableError("unknown-accelerator")
    gpus = _get(raw, "GpuInfo", "Gpus")
    if not gpus:
        return MachineFacts(name, int(vcpus), memory_mib / 1024, network_mbps)
    gpu = gpus[0] if isinstance(gpus, list) and len(gpus) == 1 else None
    model, count = _get(gpu, "Name"), _number(_get(gpu, "Count"))
    gpu_mib = _number(_get(gpu, "MemoryInfo", "SizeInMiB"))
    if not isinstance(model, str) or count is None or gpu_mib is None:
        raise _UnusableError("unreadable")
    return MachineFacts(name, int(vcpus), memory_mib / 1024, network_mbps, model, int(count), gpu_mib / 1024)


def _network_mbps(network: Any) -> float | None:
    """What all cards together keep up, not what they burst to."""
    cards = _get(network, "NetworkCards")
    rates = [_number(_get(card, "BaselineBandwidthInGbps")) for card in cards] if isinstance(cards, list) else []
    known = [rate for rate in rates if rate is not None]
    return sum(known) * 1000 if known and len(known) == len(rates) else None


def _names_its_zone(raw: Any) -> bool:
    return isinstance(_get(raw, "AvailabilityZoneId"), str)


def _spot(
    raw: Any, *, region: str, wanted: frozenset[str], zones: Mapping[str, str]
) -> tuple[OfferKey, datetime, float]:
    """One SpotPrice: the offer, since when, and USD per hour."""
    name, usd, since = _get(raw, "InstanceType"), _number(_get(raw, "SpotPrice")), _get(raw, "Timestamp")
    if name not in wanted or usd is None or not isinstance(since, datetime):
        raise _UnusableError("unreadable")
    zone = _get(raw, "AvailabilityZoneId") or zones.get(str(_get(raw, "AvailabilityZone")))
    return _in_a_zone(OfferKey(CLOUD, region, str(zone), name, SPOT)), since.astimezone(UTC), usd


def _score(raw: Any, *, region: str) -> tuple[OfferKey, int]:
    """One SpotPlacementScore. It is about a zone and all types that were asked for, so the key names no type yet."""
    score = _get(raw, "Score")
    if _get(raw, "Region") != region or not isinstance(score, int) or not 1 <= score <= 10:
        raise _UnusableError("unreadable")
    return _in_a_zone(OfferKey(CLOUD, region, str(_get(raw, "AvailabilityZoneId")), "", SPOT)), score


def _in_a_zone(key: OfferKey) -> OfferKey:
    if not key.in_a_zone:
        raise _UnusableError("unknown-zone")
    return key


def _on_demand(text: Any, *, region: str) -> tuple[OfferKey, float]:
    """One product of the price list (a text of JSON): the offer and USD per hour.

    {"product": {"attributes": {"instanceType", "regionCode", ...}}, "terms": {"OnDemand": {TERM: {"priceDimensions":
    {RATE: {"unit": "Hrs", "pricePerUnit": {"USD": "0.0960000000"}}}}}}}
    """
    try:
        product = json.loads(text)
    except (TypeError, ValueError) as error:
        raise _UnusableError("unreadable") from error
    attributes = _get(product, "product", "attributes")
    name = _get(attributes, "instanceType")
    # Asked for already; but a price of another place or another product under the same name would do harm.
    wanted = ON_DEMAND_FILTERS | {"regionCode": region}
    if not isinstance(name, str) or any(_get(attributes, field) != value for field, value in wanted.items()):
        raise _UnusableError("unreadable")
    usd = {
        _number(_get(rate, "pricePerUnit", "USD"))
        for term in _values(_get(product, "terms", "OnDemand"))
        for rate in _values(_get(term, "priceDimensions"))
        if _get(rate, "unit") == "Hrs"
    }
    price = usd.pop() if len(usd) == 1 else None
    if price is None:
        raise _UnusableError("no-single-price")
    return OfferKey(CLOUD, region, EVERY_ZONE, name, ON_DEMAND), price


def _get(value: Any, *path: str) -> Any:
    """What stands at the end of the path; None where it breaks off."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _values(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else ()


def _number(value: Any) -> float | None:
    """A positive finite number, or a text of one."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
