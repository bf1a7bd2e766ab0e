"""What travels, as values: events out of a stream's lines, files as parts, bodies by type. Nothing connects here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

JOB_ENDS = ("succeeded", "failed", "cancelled")
DATASET_TYPES = {
    ".jsonl": "application/jsonl",
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
}
PIPELINE = "model_index.json"  # of diffusers
PIPELINE_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")  # that it is trained with

# A file over this is sent in parts, so that a broken connection costs a part and not the file.
RESUMABLE_BYTES = 64 * 1024 * 1024
PART_BYTES = 16 * 1024 * 1024  # the gateway takes up to 64 MiB
PARTS_AT_MOST = 10_000
PIECE_BYTES = 256 * 1024

Progress: TypeAlias = Callable[[int, int], None]  # bytes that were sent, bytes in all


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `position` is where to resume after it; `data` is the CloudEvent's content."""

    position: int
    type: str  # "JobSucceeded"
    subject: str
    cloudevent: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.cloudevent["data"]
        return data

    @classmethod
    def of(cls, message: Message) -> Event:
        cloudevent = json.loads(message.data)
        return cls(int(message.id), message.event, cloudevent["partitionkey"], cloudevent)


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a job's pod printed."""

    attempt: int
    text: str
    at: str | None = None  # where the cluster knows when


@dataclass(frozen=True, slots=True)
class Message:
    """One of a stream of server-sent events; one without data only moves the position (`id`)."""

    id: str
    event: str
    data: str


class Lines:
    """Messages out of a stream's lines: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def feed(self, line: str) -> Message | None:
        """The message that this line ends, if it does."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            more = name == "data" and "data" in self._fields
            self._fields[name] = f"{self._fields[name]}\n{value}" if more else value
            return None
        fields, self._fields = self._fields, {}
        if "id" not in fields and "data" not in fields:
            return None
        return Message(fields.get("id", ""), fields.get("event", ""), fields.get("data", ""))


class Counted:
    """A file that tells how much of all was read; httpx reads it in pieces."""

    def __init__(self, file: IO[bytes], total: int, progress: Progress, *, before: int = 0) -> None:
        self._file = file
        self._total, self._done, self._progress = total, before, progress

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._done += len(piece)
        self._progress(min(self._done, self._total), self._total)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()


class Slice:
    """A part of a file, as if it were all of it."""

    def __init__(self, file: IO[bytes], offset: int, size: int, total: int, progress: Progress) -> None:
        self._file, self._offset, self._size = file, offset, size
        self._total, self._progress = total, progress
        self._at = 0
        file.seek(offset)

    def read(self, size: int = -1) -> bytes:
        left = self._size - self._at
        piece = self._file.read(left if size < 0 else min(size, left))
        self._at += len(piece)
        self._progress(self._offset + self._at, self._total)
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset if whence == 0 else self._at + offset if whence == 1 else self._size + offset
        self._file.seek(self._offset + self._at)
        return self._at

    def tell(self) -> int:
        return self._at


def model_files(folder: Path) -> dict[str, Path]:
    """What of a saved model is sent, by the name that it is sent under."""
    if not (folder / PIPELINE).is_file():
        return {each.name: each for each in sorted(folder.iterdir()) if each.is_file()}
    found = [folder / PIPELINE, *(each for part in PIPELINE_PARTS for each in sorted((folder / part).glob("*")))]
    return {each.relative_to(folder).as_posix(): each for each in found if each.is_file()}


def part_bytes(size: int) -> int:
    """How large the parts of a file of this size are."""
    return max(PART_BYTES, -(-size // PARTS_AT_MOST))


def given(**values: Any) -> dict[str, Any]:
    """What was given, of parameters that may be left out."""
    return {name: value for name, value in values.items() if value is not None}


def answered(document: Mapping[str, Any]) -> bool:
    return bool(document["status"] != "pending")


def late(document: Mapping[str, Any], limit_seconds: float) -> TimeoutError:
    state = document.get("state") or document.get("status", "")
    return TimeoutError(f"not within {limit_seconds:g} s: {document.get('id', '')} {state}")


def told(problem: Mapping[str, Any]) -> str:
    """What was wrong with a file: `row 7, messages[1].content: is empty`."""
    row, column = problem.get("row"), problem.get("column")
    where = f"{f'row {row}' if row else 'the file'}{f', {column}' if column else ''}"
    return f"{where}: {problem.get('reason') or 'it was refused'}"


def nothing_sent(_sent: int, _total: int) -> None:
    """Nobody looks at the progress."""
