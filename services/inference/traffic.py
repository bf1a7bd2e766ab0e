"""Which version answers a request: weighted and sticky, and which requests are copied to a shadow. No I/O.

A key is hashed to a point of [0, 1) that it keeps for ever at one endpoint; the canary answers the points below its
share. So the choice is a function of key and share alone: the same in every process and after every restart, and
whoever was with the canary at 5 % is still with it at 25 %.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

MAX_KEY_CHARACTERS = 256
_POINTS = 2.0**53  # what a float tells apart in [0, 1)


@dataclass(frozen=True, slots=True)
class Split:
    """How an endpoint's requests are shared out while a new version is tried. Shares are of [0, 1].

    `canary_id`: the endpoint, inside inference, that serves the new version. `sticky_by_key`: requests that name no
    user are drawn by their API key, not one by one.
    """

    rollout_id: str
    canary_id: str
    canary_fraction: float
    shadow_fraction: float = 0.0
    sticky_by_key: bool = False


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, by the gateway's word. `session`: what the request names its user or session by; may be empty."""

    key_id: str = ""
    session: str = ""
    sampled: bool = True  # False: the key's owner does not want its words told

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Asker:
        return cls(
            headers.get("x-sskai-key", "")[:MAX_KEY_CHARACTERS],
            headers.get("x-sskai-session", "")[:MAX_KEY_CHARACTERS],
            headers.get("x-sskai-sample", "") != "no",
        )


def point(endpoint_id: str, key: str, purpose: str = "split") -> float:
    """Where a key lies in [0, 1). Other endpoints and other purposes see another, independent point."""
    digest = hashlib.sha256(f"{purpose}\0{endpoint_id}\0{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / _POINTS


def sticky_key(asker: Asker, request_id: str, *, sticky_by_key: bool) -> str:
    """By what a request is drawn: its user or session, else its API key if that is wished, else by itself."""
    if asker.session:
        return f"session {asker.key_id} {asker.session}"
    return f"key {asker.key_id}" if sticky_by_key and asker.key_id else f"request {request_id}"


def to_canary(endpoint_id: str, key: str, fraction: float) -> bool:
    return point(endpoint_id, key) < fraction


def is_shadowed(endpoint_id: str, request_id: str, fraction: float) -> bool:
    """Whether a request of the champion's is copied. Drawn request by request: a shadow's answers reach nobody."""
    return point(endpoint_id, request_id, "shadow") < fraction


def is_fraction(value: float) -> bool:
    return math.isfinite(value) and 0.0 <= value <= 1.0
