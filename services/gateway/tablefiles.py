"""CSV and Parquet as rows of a dataset: read a piece at a time, told as JSON Lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import IO, Any

from services.gateway.datareport import Summary
from services.gateway.datasets import MAX_LINE_BYTES, MAX_ROWS, Rows
from services.gateway.rowforms import FORMS, RejectedError

MAX_COLUMNS = 1_000
MAX_ROW_GROUP_BYTES = 512 * 1024 * 1024  # unpacked, as its metadata says; the usual writers make 128 MiB or less
ROWS_AT_A_TIME = 64
# Columns of a CSV file that hold JSON.
NESTED = ("messages", "conversations")


def from_csv(file: IO[bytes], spool: IO[bytes]) -> Summary:
    """UTF-8 with a first line of names. Raises RejectedError; rows count from 1 after that line."""
    csv.field_size_limit(MAX_LINE_BYTES)
    rows, lines = Rows(spool.write), _Lines(file)
    reader = csv.reader(lines, strict=True)
    number = 0
    try:
        names = [name.strip() for name in next(reader, [])]
        if len(names) > MAX_COLUMNS or len(set(names)) != len(names):
            raise RejectedError(0, "", f"the first line must name at most {MAX_COLUMNS} columns, each once")
        for number, cells in enumerate(reader, 1):
            lines.bytes = 0
            if len(cells) != len(names):
                raise RejectedError(
                    number,
                    "",
                    f"{len(cells)} cells, but the first line names {len(names)} columns: quote texts with commas",
                )
            rows.keep(rows.take(number, _cells(dict(zip(names, cells, strict=True)), number)))
    except csv.Error as error:
        raise RejectedError(number + 1, "", f"not CSV: {error}") from error
    return rows.summary()


class _Lines:
    """Lines of a file; a row may go over several, of MAX_LINE_BYTES together."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._number = 0
        self.bytes = 0  # since the last row

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        while line := self._file.readline(MAX_LINE_BYTES + 1):
            self._number += 1
            self.bytes += len(line)
            if self.bytes > MAX_LINE_BYTES:
                raise RejectedError(
                    0, "", f"line {self._number}: over {MAX_LINE_BYTES} bytes in a row: is a quote not closed?"
                )
            try:
                yield line.decode("utf-8-sig" if self._number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                reason = f"line {self._number}: not UTF-8 at byte {error.start + 1}: save it as UTF-8"
                raise RejectedError(0, "", reason) from error


def _cells(row: dict[str, Any], number: int) -> dict[str, Any]:
    for column in NESTED:
        if column in row:
            try:
                row[column] = json.loads(row[column])
            except (ValueError, RecursionError) as error:
                raise RejectedError(number, column, f"must be a list written as JSON: {error}") from error
    return row


def from_parquet(file: IO[bytes], spool: IO[bytes]) -> Summary:
    """Only the columns that a format has are read. Raises RejectedError."""
    import pyarrow
    import pyarrow.parquet

    rows = Rows(spool.write)
    wanted = {"input", "prompt"}.union(*(form.columns for form in FORMS.values()))
    number = 0
    try:
        table = pyarrow.parquet.ParquetFile(file)
        about = table.metadata
        if about.num_rows > MAX_ROWS:
            raise RejectedError(0, "", f"{about.num_rows} rows; the limit is {MAX_ROWS}: split the dataset")
        sizes = [about.row_group(index).total_byte_size for index in range(about.num_row_groups)]
        if max(sizes, default=0) > MAX_ROW_GROUP_BYTES:
            raise RejectedError(
                0, "", f"a row group of {max(sizes)} bytes: write groups of {MAX_ROW_GROUP_BYTES} at most"
            )
        names = table.schema_arrow.names
        known = [name for name in names if name in wanted]
        if not known:
            rows.take(0, dict.fromkeys(names))  # which refuses these columns
        for batch in table.iter_batches(batch_size=ROWS_AT_A_TIME, columns=known, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                rows.keep(rows.take(number, row))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RejectedError(0, "", f"not Parquet that can be read, after row {number}: {error}") from error
    return rows.summary()
