"""Is this upload a dataset? JSON Lines checked as they stream by, in memory bounded by the longest line. Pure.

Formats, as TRL names them: `messages`, `text`, `prompt` + `completion`. The first row decides, all rows must agree.
Nothing is repaired: the first thing that is wrong ends the scan with its row, column and reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_LINE_BYTES = 1_000_000  # what the trainer reads as one row
MAX_ROWS = 10_000_000
MAX_MESSAGES = 1_000  # of one conversation
ROLES = ("system", "user", "assistant")
# The usual rule of thumb for English; the plan says how long it takes, the trainer counts exactly.
CHARACTERS_PER_TOKEN = 4

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NOT_YET = {"chosen": "preference pairs", "conversations": "ShareGPT", "instruction": "alpaca"}


class RejectedError(Exception):
    """The upload is no dataset. `row` counts from 1; 0 means the file as a whole."""

    def __init__(self, row: int, column: str, reason: str) -> None:
        super().__init__(f"row {row}, column {column or '-'}: {reason}")
        self.row = row
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Summary:
    """A dataset whose every row is well formed."""

    format: str
    rows: int
    bytes: int
    sha256: str
    estimated_tokens: int


class Scan:
    """Feed it the upload in any pieces, then ask for the `summary`. Both raise RejectedError."""

    def __init__(self) -> None:
        self._rest = bytearray()  # the line that is not complete yet
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._line = 0  # lines that were read
        self._rows = 0
        self._first_blank_line = 0
        self._characters = 0
        self._format = ""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the file."""
        if not self._bytes and chunk.startswith(_BYTE_ORDER_MARK):
            raise RejectedError(1, "", "the file starts with a byte order mark: save it as UTF-8 without one")
        self._sha256.update(chunk)
        self._bytes += len(chunk)
        first, *others = chunk.split(b"\n")
        self._rest += first
        for following in others:
            self._take(bytes(self._rest))
            self._rest = bytearray(following)
        if len(self._rest) > MAX_LINE_BYTES:
            raise RejectedError(self._line + 1, "", _too_long())

    def summary(self) -> Summary:
        """What the file is, now that all of it was read."""
        if self._rest:
            self._take(bytes(self._rest))
            self._rest = bytearray()
        if not self._rows:
            raise RejectedError(0, "", "the file has no rows: a dataset is JSON Lines, one object a line")
        return Summary(
            format=self._format,
            rows=self._rows,
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            estimated_tokens=max(1, self._characters // CHARACTERS_PER_TOKEN),
        )

    def _take(self, line: bytes) -> None:
        self._line += 1
        if not line.strip():
            self._first_blank_line = self._first_blank_line or self._line
            return
        if (
            self._first_blank_line
        ):  # blank lines at the end are how editors end files; in the middle something is missing
            raise RejectedError(self._first_blank_line, "", "the line is blank: remove it")
        if self._rows >= MAX_ROWS:
            raise RejectedError(self._line, "", f"more than {MAX_ROWS} rows: split the dataset")
        row = _parse(self._line, line)
        self._format = self._format or _format_of(row, self._line)
        self._characters += _CHECKS[self._format](row, self._line)
        self._rows += 1


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
        raise RejectedError(number, "", f"a row is a JSON object, this is {_kind(row)}")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _format_of(row: dict[str, Any], number: int) -> str:
    """The format that the first row's columns name."""
    found = [
        name
        for name, columns in (
            ("messages", {"messages"}),
            ("text", {"text"}),
            ("prompt-completion", {"prompt", "completion"}),
        )
        if columns <= row.keys()
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise RejectedError(number, "", f"the columns fit {' and '.join(found)}: keep one of them")
    for column, format_name in _NOT_YET.items():
        if column in row:
            raise RejectedError(number, column, f"{format_name} cannot be trained on: convert the rows to `messages`")
    columns = ", ".join(sorted(map(str, row))[:5]) or "none"
    raise RejectedError(
        number, "", f"the columns must be `messages`, `text`, or `prompt` and `completion`, not {columns}"
    )


def _check_messages(row: dict[str, Any], number: int) -> int:
    messages = _column(row, number, "messages")
    if not isinstance(messages, list) or not messages:
        raise RejectedError(number, "messages", f"must be a list with at least one message, not {_kind(messages)}")
    if len(messages) > MAX_MESSAGES:
        raise RejectedError(number, "messages", f"{len(messages)} messages; the limit is {MAX_MESSAGES}")
    characters, roles = 0, set()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise RejectedError(number, where, f"must be an object with role and content, not {_kind(message)}")
        role = message.get("role")
        if role not in ROLES:
            raise RejectedError(number, f"{where}.role", f"must be one of {', '.join(ROLES)}, not {_short(role)}")
        if role == "system" and index:
            raise RejectedError(number, f"{where}.role", "a system message stands first")
        characters += _text(message.get("content"), number, f"{where}.content")
        roles.add(role)
    if "assistant" not in roles:
        raise RejectedError(number, "messages", "no message of the assistant: there is nothing to learn from")
    return characters


def _check_text(row: dict[str, Any], number: int) -> int:
    return _text(_column(row, number, "text"), number, "text")


def _check_prompt_completion(row: dict[str, Any], number: int) -> int:
    return sum(_text(_column(row, number, column), number, column) for column in ("prompt", "completion"))


_CHECKS: dict[str, Callable[[dict[str, Any], int], int]] = {
    "messages": _check_messages,
    "text": _check_text,
    "prompt-completion": _check_prompt_completion,
}


def _column(row: dict[str, Any], number: int, column: str) -> Any:
    if column not in row:
        raise RejectedError(number, column, "missing: all rows have the columns of the first one")
    return row[column]


def _text(value: Any, number: int, column: str) -> int:
    """The characters of a text that is one."""
    if not isinstance(value, str):
        raise RejectedError(number, column, f"must be a text, not {_kind(value)}")
    if not value.strip():
        raise RejectedError(number, column, "is empty")
    if "\0" in value:
        raise RejectedError(number, column, "holds a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RejectedError(number, column, "holds half of a surrogate pair, which is no character") from error
    return len(value)


def _kind(value: Any) -> str:
    if value == [] and isinstance(value, list):
        return "an empty list"
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, str) else _kind(value)


def _too_long() -> str:
    return f"the line is longer than {MAX_LINE_BYTES} bytes: split the row"
