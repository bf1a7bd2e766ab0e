"""Webhooks by Standard Webhooks (https://www.standardwebhooks.com): signatures, pauses, and where they may go. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SECRET_PREFIX = "whsec_"  # noqa: S105 (what every secret begins with)
SECRET_BYTES = 32  # the specification: 24 to 64
# The specification's suggestion: after each try that failed, in seconds. Three days in all.
PAUSES_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_URL_CHARACTERS = 2_000
TEST = "sskai.webhook.test"


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 over the id, the second and the body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def pause_seconds(tries: int) -> float | None:
    """After so many tries in vain; None: it is given up."""
    return float(PAUSES_SECONDS[tries - 1]) if tries <= len(PAUSES_SECONDS) else None


def networks(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8,127.0.0.1`: those that are not public and may be called all the same. Raises ValueError."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def may_call(address: str, allowed: Sequence[Network]) -> bool:
    """Whether an address is everybody's, or one that the operator allows. Our own machines are not called for users."""
    try:
        found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    if any(found.version == network.version and found in network for network in allowed):
        return True
    return found.is_global and not found.is_multicast


def url_problem(url: str, allowed: Sequence[Network]) -> str:
    """Why nothing can be sent there; empty: it can be tried. What a name means is looked at when it is called."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("https", "http") or not host:
        return "must be https://HOST/PATH"
    if parts.username or parts.password:
        return "must not hold a password: the signature says who calls"
    literal = _is_address(host)
    if literal and not may_call(host, allowed):
        return f"{host} is no public address"
    if parts.scheme == "http" and not (literal and may_call(host, allowed) and not may_call(host, ())):
        return "must be https"
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
