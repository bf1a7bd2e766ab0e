"""Prices that move: somebody's feed tells them, as anybody may."""

from __future__ import annotations

from datetime import UTC

from services.optimizer import catalogue
from services.optimizer.messages import CAPACITY_TYPES
from simulation import globals as simulated
from simulation.broker import Broker
from sskai import contract
from sskai.events import v1 as events

FACTORS = (0.3, 2.0, 10.0)


def spike(broker: Broker) -> None:
    """One spot offer is suddenly dearer, up to ten times, or cheaper."""
    dice, now = simulated.SOURCES.dice, contract.timestamp(simulated.SimulatedDatetime.now(UTC))
    offer = dice.choice([one for one in catalogue.snapshot().offers if one.capacity_type == "spot"])
    price = offer.price_usd_per_hour * dice.choice(FACTORS)
    message = events.PriceObserved(
        offer=offer.key,
        cloud=offer.cloud,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        capacity_type=CAPACITY_TYPES[offer.capacity_type],
        price_usd_per_hour=price,
        source="simulated",
        observed_at=now,
    )
    told = contract.Envelope(message, contract.new_id("evt"), "market", simulated.SimulatedDatetime.now(UTC))
    record = contract.encode(told)
    broker.append(record.topic, record.key, record.value, record.headers)
