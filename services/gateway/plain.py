"""Messages of the contract as plain JSON values, the way the HTTP API shows them. Pure.

Unlike protobuf's own JSON: 64-bit integers are numbers, enums are words ("on-demand"), what is absent is null, and what
is no number (NaN, infinities) is null as well.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

_TIMESTAMP = "google.protobuf.Timestamp"


def plain(message: Message) -> dict[str, Any]:
    """All fields by their names in the contract."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return iso(value.ToDatetime(tzinfo=UTC)) if field.message_type.full_name == _TIMESTAMP else plain(value)
    if field.enum_type is not None:
        return word(value, field.enum_type)
    return finite(value) if isinstance(value, float) else value


def word(number: int, enum: EnumDescriptor) -> str | None:
    """CAPACITY_TYPE_ON_DEMAND -> "on-demand"; an unset or unknown value -> None."""
    value = enum.values_by_number.get(number)
    if value is None or number == 0:
        return None
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix).lower().replace("_", "-")
