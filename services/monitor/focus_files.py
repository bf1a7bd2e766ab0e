"""FOCUS records as files, a page at a time: CSV, and Parquet of one row group a page."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from services.monitor.focus import COLUMNS, VERSION, Charge, Column, Type, record

Pages = AsyncIterator[Sequence[Charge]]

CSV, PARQUET = "csv", "parquet"
MEDIA_TYPES = {CSV: "text/csv; charset=utf-8", PARQUET: "application/vnd.apache.parquet"}

_ARROW = {
    Type.STRING: pa.string(),
    Type.JSON: pa.string(),
    Type.DECIMAL: pa.decimal128(38, 12),
    Type.TIME: pa.timestamp("us", tz="UTC"),
}
SCHEMA = pa.schema(
    [pa.field(column.name, _ARROW[column.type], nullable=column.nullable) for column in COLUMNS],
    metadata={"focus_version": VERSION},
)


async def as_csv(pages: Pages) -> AsyncIterator[bytes]:
    """UTF-8, a header line, numbers with a point and no exponent, times as YYYY-MM-DDTHH:mm:ssZ, null as nothing
    ("Attributes: Numeric Format, Date/Time Format, Null Handling")."""
    yield _lines([[column.name for column in COLUMNS]])
    async for page in pages:
        yield _lines([[_text(column, value) for column, value in _values(one)] for one in page])


async def as_parquet(pages: Pages) -> AsyncIterator[bytes]:
    """Decimals of 38 digits, 12 of them after the point; times in UTC."""
    sink = _Sink()
    with parquet.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
        async for page in pages:
            if page:
                writer.write_table(pa.Table.from_pylist([_quantized(one) for one in page], schema=SCHEMA))
                yield sink.take()
    yield sink.take()


WRITERS = {CSV: as_csv, PARQUET: as_parquet}


class _Sink(io.RawIOBase):
    """Holds what was written until it is taken; nothing is ever read back."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._taken = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._taken + len(self._held)

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._held)
        self._taken += len(data)
        self._held.clear()
        return data


def _values(charge: Charge) -> list[tuple[Column, Any]]:
    values = record(charge)
    return [(column, values[column.name]) for column in COLUMNS]


def _quantized(charge: Charge) -> dict[str, Any]:
    return {column.name: value for column, value in _values(charge)}


def _lines(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _text(column: Column, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        plain = f"{value:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # A cell that a spreadsheet would take for a formula is a text for it, too.
    text = str(value)
    return f"'{text}" if column.type is Type.STRING and text[:1] in {"=", "+", "-", "@"} else text
