"""Webhooks by Standard Webhooks (https://www.standardwebhooks.com): signatures, pauses, and where they may go. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from yarl import URL

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SECRET_PREFIX = "whsec_"  # noqa: S105 (what every secret begins with)
SECRET_BYTES = 32  # the specification: 24 to 64
# The specification's suggestion: after each try that failed, in seconds. Three days in all.
PAUSES_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_URL_CHARACTERS = 2_000
TEST = "sskai.webhook.test"
BOTH_SECRETS_FOR = timedelta(hours=24)  # after a change of the secret; the specification's suggestion
# Addresses of IPv6 that stand for one of IPv4: translated (RFC 6052), and the forms that came before it.
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
COMPATIBLE, TRANSLATED = ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("::ffff:0:0:0/96")


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 over the id, the second and the body."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signatures(
    secrets_: tuple[str, str | None], previous_until: datetime | None, message_id: str, now: datetime, body: bytes
) -> str:
    """By the secret, and for a day after it was changed by the one before as well: the receiver changes when it can."""
    secret, previous = secrets_
    valid = [secret, previous] if previous and previous_until and now < previous_until else [secret]
    return " ".join(signature(one, message_id, int(now.timestamp()), body) for one in valid)


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
    return all(one.is_global and not one.is_multicast and not _of_a_site(one) for one in (found, *_meant(found)))


def _meant(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The addresses of IPv4 that a router may take it for."""
    if not isinstance(address, ipaddress.IPv6Address):
        return
    if address.sixtofour:
        yield address.sixtofour
    if any(address in network for network in (NAT64, COMPATIBLE, TRANSLATED)):
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def _of_a_site(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.is_site_local


def url_problem(url: str, allowed: Sequence[Network]) -> str:
    """Why nothing can be sent there; empty: it can be tried. What a name means is looked at when it is called.

    The URL is taken apart by the library that will call it: of two that disagree on where a host begins or which
    letters are digits, one could be talked into calling what the other has allowed.
    """
    try:
        parts = URL(url)
        host = parts.raw_host or ""
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("https", "http") or not host:
        return "must be https://HOST/PATH"
    if parts.user or parts.password:
        return "must not hold a password: the signature says who calls"
    literal = _is_address(host)
    if not literal and _is_number(host.rstrip(".").rpartition(".")[2]):
        return f"{host} is no address: write it as four numbers with dots, or as a name"
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


def _is_number(label: str) -> bool:
    """Whether the C library would read a host that ends so as one number, or several (2130706433, 0x7f.1, 127.1)."""
    digits = label.lower().removeprefix("0x")
    return label.isdigit() or (digits != label.lower() and all(one in "0123456789abcdef" for one in digits))
