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
# A few bytes of Parquet can say "this text, a million times": so many values of a column in a row group, and so many
# bytes for each that was sent, as of a zip.
MAX_VALUES = 20_000_000
RATIO = 100
ALWAYS_ALLOWED_BYTES = 64 * 1024 * 1024
MAX_UNPACKED_BYTES = 8 * 1024**3
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

    most = min(MAX_UNPACKED_BYTES, max(ALWAYS_ALLOWED_BYTES, RATIO * file.seek(0, 2)))
    rows = Rows(spool.write, most)
    wanted = {"input", "prompt"}.union(*(form.columns for form in FORMS.values()))
    number = 0
    try:
        about = pyarrow.parquet.read_metadata(file)
        if about.num_rows > MAX_ROWS:
            raise RejectedError(0, "", f"{about.num_rows} rows; the limit is {MAX_ROWS}: split the dataset")
        sizes = [about.row_group(index).total_byte_size for index in range(about.num_row_groups)]
        if max(sizes, default=0) > MAX_ROW_GROUP_BYTES:
            raise RejectedError(
                0, "", f"a row group of {max(sizes)} bytes: write groups of {MAX_ROW_GROUP_BYTES} at most"
            )
        chunks = [about.row_group(group).column(at) for group in range(len(sizes)) for at in range(about.num_columns)]
        if max((chunk.num_values for chunk in chunks), default=0) > MAX_VALUES:
            raise RejectedError(0, "", f"over {MAX_VALUES} values of a column in a row group: write smaller groups")
        # Texts that repeat stay one text each until it is known how long all of them are together.
        texts = sorted({chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"})
        table = pyarrow.parquet.ParquetFile(file, read_dictionary=texts)
        told = about.schema.to_arrow_schema()
        names = told.names
        known = [name for name in names if name in wanted]
        if not known:
            rows.take(0, dict.fromkeys(names))  # which refuses these columns
        for batch in table.iter_batches(batch_size=ROWS_AT_A_TIME, columns=known, use_threads=False):
            if sum(map(_text_bytes, batch.columns)) > ROWS_AT_A_TIME * MAX_LINE_BYTES:
                raise RejectedError(number + 1, "", f"rows of more than {MAX_LINE_BYTES} bytes: split them")
            # Written out at once: looked up one by one they take twice as long.
            found = batch.schema.names
            plain = [column.cast(told.field(name).type) for name, column in zip(found, batch.columns, strict=True)]
            for row in pyarrow.RecordBatch.from_arrays(plain, found).to_pylist():
                number += 1
                rows.keep(rows.take(number, row))
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError) as error:
        raise RejectedError(0, "", f"not Parquet that can be read, after row {number}: {error}") from error
    return rows.summary()


def _text_bytes(array: Any) -> int:
    """Of all texts of a column, with those inside lists and objects, if each were written out."""
    import pyarrow
    import pyarrow.compute

    if isinstance(array, pyarrow.DictionaryArray):
        lengths = pyarrow.compute.binary_length(array.dictionary)
        return int(pyarrow.compute.sum(lengths.take(array.indices)).as_py() or 0)
    if isinstance(array, pyarrow.StructArray):
        return sum(map(_text_bytes, array.flatten()))
    if isinstance(array, (pyarrow.ListArray, pyarrow.LargeListArray)):
        return _text_bytes(array.flatten())
    return 0 if array.type.num_buffers == 0 else int(array.nbytes)
