"""Is this upload a dataset? Rows are checked as they stream by, in memory bounded by the longest row. Pure.

Formats, as TRL names them: `messages`, `text`, `prompt` + `completion`, preference pairs, and `text` + `label`; alpaca
and ShareGPT are told as `messages`. The first row decides, all rows must agree. Nothing is repaired: the first thing
that is wrong ends the scan with its row, column and reason. JSON Lines are kept to the byte unless they are converted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, NoReturn

from services.gateway.datareport import Counted, Report, Summary
from services.gateway.rowforms import FORMS, Form, RejectedError, form_of, kind_of

MAX_LINE_BYTES = 1_000_000  # what the trainer reads as one row
MAX_ROWS = 10_000_000

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Rows:
    """Rows of any kind of file, one after the other; `write` gets those that a conversion made, as JSON Lines.

    `most_bytes`: of what is kept in all, for files that are smaller than what they hold."""

    def __init__(self, write: Callable[[bytes], object] | None = None, most_bytes: int | None = None) -> None:
        self._write = write
        self._most_bytes = most_bytes
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._report = Report()
        self._form: Form | None = None

    @property
    def converts(self) -> bool:
        return self._form is not None and self._form.converts

    def take(self, number: int, row: dict[str, Any], line: bytes | None = None) -> bytes:
        """Check a row; what is kept of it: `line` as it came, unless it had to be converted. Raises RejectedError."""
        if self._report.rows >= MAX_ROWS:
            raise RejectedError(number, "", f"more than {MAX_ROWS} rows: split the dataset")
        if self._form is None:
            self._form = FORMS[form_of(row, number)]
        row, counted = self._form.check(row, number)
        self._take(number, counted)
        if line is not None and not self._form.converts:
            return line
        try:
            made = json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError as error:
            raise RejectedError(number, "", "holds half of a surrogate pair, which is no character") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise RejectedError(number, "", f"a value that JSON has not: {error}") from error
        if len(made) > MAX_LINE_BYTES:
            raise RejectedError(number, "", _too_long())
        return made + b"\n"

    def keep(self, data: bytes) -> None:
        """These bytes are the dataset's next ones."""
        self._sha256.update(data)
        self._bytes += len(data)
        if self._most_bytes is not None and self._bytes > self._most_bytes:
            raise RejectedError(0, "", f"unpacks to more than {self._most_bytes} bytes: it looks like a bomb")
        if self._write is not None:
            self._write(data)

    def _take(self, number: int, counted: Counted) -> None:
        try:
            self._report.add(counted)
        except ValueError as error:
            raise RejectedError(number, "label", str(error)) from error
        except TypeError as error:
            raise RejectedError(number, "", f"a value that JSON has not: {error}") from error

    def summary(self) -> Summary:
        if self._form is None:
            raise RejectedError(0, "", "the file has no rows: a dataset has one row at least")
        labels = self._report.labels
        if self._form.name == "classification" and len(labels) < 2:
            raise RejectedError(0, "label", f"all rows are {labels[0]!r}: a classification needs two classes at least")
        return self._report.summary(self._form.name, self._bytes, self._sha256.hexdigest())


class Scan:
    """JSON Lines: feed it the upload in any pieces, then ask for the `summary`. Both raise RejectedError."""

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._rest = bytearray()  # the line that is not complete yet
        self._line = 0  # lines that were read
        self._first_blank_line = 0
        self._rows = Rows(write)

    @property
    def converts(self) -> bool:
        """Whether rows are written in another form than they come in; known from the first row on."""
        return self._rows.converts

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the file."""
        first, *others = chunk.split(b"\n")
        self._rest += first
        for following in others:
            self._take(bytes(self._rest), b"\n")
            self._rest = bytearray(following)
        if len(self._rest) > MAX_LINE_BYTES:
            raise RejectedError(self._line + 1, "", _too_long())

    def summary(self) -> Summary:
        """What the file is, now that all of it was read."""
        if self._rest:
            self._take(bytes(self._rest), b"")
            self._rest = bytearray()
        return self._rows.summary()

    def _take(self, line: bytes, end: bytes) -> None:
        self._line += 1
        if self._line == 1 and line.startswith(_BYTE_ORDER_MARK):
            raise RejectedError(1, "", "the file starts with a byte order mark: save it as UTF-8 without one")
        if not line.strip():
            self._first_blank_line = self._first_blank_line or self._line
            self._rows.keep(line + end)
            return
        if self._first_blank_line:
            # Blank lines at the end are how editors end files; in the middle something is missing.
            raise RejectedError(self._first_blank_line, "", "the line is blank: remove it")
        self._rows.keep(self._rows.take(self._line, _parse(self._line, line), line + end))


def _parse(number: int, line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise RejectedError(number, "", _too_long())
    if b"\0" in line:
        raise RejectedError(number, "", "the line holds a NUL byte: is this a text file?")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise RejectedError(number, "", f"not UTF-8 at byte {error.start + 1} of the line") from error
    try:
        row = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise RejectedError(number, "", "nested too deeply") from error
    except json.JSONDecodeError as error:
        raise RejectedError(number, "", f"not JSON at character {error.pos + 1}: {error.msg}") from error
    except ValueError as error:
        raise RejectedError(number, "", f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise RejectedError(number, "", f"a row is a JSON object, this is {kind_of(row)}")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _too_long() -> str:
    return f"the line is longer than {MAX_LINE_BYTES} bytes: split the row"
