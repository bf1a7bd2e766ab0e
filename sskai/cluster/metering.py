"""What machine time costs, in whole nano-USD (1e-9 USD), so that sums are exact. Pure."""

from __future__ import annotations

from sskai.money import NANO_PER_USD

SECONDS_PER_HOUR = 3600


def interval_nano_usd(price_usd_per_hour: float, seconds: float) -> int:
    """Price times time, rounded half up."""
    return int(price_usd_per_hour * NANO_PER_USD * seconds / SECONDS_PER_HOUR + 0.5)
