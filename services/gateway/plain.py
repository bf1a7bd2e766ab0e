"""Messages of the contract as plain JSON values, the way the HTTP API shows them. Pure.

Unlike protobuf's own JSON: 64-bit integers are numbers, enums are words ("on-demand"), what is absent is null, and what
is no number (NaN, infinities) is null as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

_TIMESTAMP = "google.protobuf.Timestamp"


def plain(message: Message) -> dict[str, Any]:
    """All fields by their names in the contract."""
    return {name: read(message) for name, read in _readers(message.DESCRIPTOR)}


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def in_utc(at: datetime) -> datetime:
    """Of a time from outside. Raises ValueError: its offset takes it out of the years that there are."""
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{at.isoformat()} is before the first or after the last year that there is") from error


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


@cache
def _readers(kind: Descriptor) -> list[tuple[str, Callable[[Message], Any]]]:
    """What makes each field plain, found out once for a type: it is more work than the reading."""
    return [(field.name, _reader(field)) for field in kind.fields]


def _reader(field: FieldDescriptor) -> Callable[[Message], Any]:
    get, made_plain = attrgetter(field.name), _plain_value(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return lambda message: dict(get(message))
    if field.is_repeated:
        return lambda message: [made_plain(item) for item in get(message)]
    if field.has_presence:
        return lambda message: made_plain(get(message)) if message.HasField(field.name) else None
    return lambda message: made_plain(get(message))


def _plain_value(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.message_type is not None:
        is_time = field.message_type.full_name == _TIMESTAMP
        return (lambda stamp: iso(stamp.ToDatetime(tzinfo=UTC))) if is_time else plain
    if enum := field.enum_type:
        return lambda number: word(number, enum)
    return lambda value: finite(value) if isinstance(value, float) else value


def word(number: int, enum: EnumDescriptor) -> str | None:
    """CAPACITY_TYPE_ON_DEMAND -> "on-demand"; an unset or unknown value -> None."""
    value = enum.values_by_number.get(number)
    if value is None or number == 0:
        return None
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix).lower().replace("_", "-")
