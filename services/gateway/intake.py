"""What may come in as a dataset, how it is read, and where it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import IO

from services.gateway.datareport import Summary
from services.gateway.imagefolders import from_zip
from services.gateway.rowforms import RejectedError
from services.gateway.tablefiles import from_csv, from_parquet
from sskai.contract import new_id, timestamp
from sskai.events import v1 as events

LINES, CSV, PARQUET, IMAGES = "jsonl", "csv", "parquet", "zip"
# "": what it is stands in its first bytes.
MEDIA_TYPES = {
    "application/jsonl": LINES,
    "application/x-ndjson": LINES,
    "application/x-jsonlines": LINES,
    "text/csv": CSV,
    "application/vnd.apache.parquet": PARQUET,
    "application/zip": IMAGES,
    "application/octet-stream": "",
}
READERS: dict[str, Callable[[IO[bytes], IO[bytes]], Summary]] = {CSV: from_csv, PARQUET: from_parquet, IMAGES: from_zip}
CHUNK_BYTES = 1024 * 1024
MAX_FILENAME_CHARACTERS = 255
MAGIC_BYTES = 4  # by so many a file's kind is known


class DeletedMeanwhileError(Exception):
    """The same content was deleted while it came in again: its object goes, so it must be kept once more."""


def sniffed(head: bytes) -> str:
    """The kind of a file by its first bytes."""
    return PARQUET if head == b"PAR1" else IMAGES if head == b"PK\x03\x04" else LINES


def kind_of_name(filename: str) -> str:
    """What no first bytes tell: CSV. Empty for all others."""
    return CSV if filename.lower().endswith(".csv") else ""


def key_of(tenant_id: str, name: str, summary: Summary, deletions: int) -> str:
    """Named by its content: the same upload writes the same object, and a crash before the commit leaves nothing false.

    `deletions`: how often this content was deleted. The object of a deleted version may go at any time, so that the
    same content gets another one.
    """
    again = f"-{deletions}" if deletions else ""
    kind = IMAGES if "image" in summary.format else LINES
    return f"tenants/{tenant_id}/datasets/{name}/{summary.sha256}{again}.{kind}"


def name_of(filename: str) -> str:
    """A dataset's name from a file's: of what can stand in one; "file" if nothing can."""
    stem = re.sub(r"\.(jsonl|ndjson|csv|parquet|zip|json|txt)$", "", filename.rpartition("/")[2].lower())
    name = re.sub(r"[^a-z0-9._-]+", "-", stem)[:63].strip("._-")
    return name or "file"


def shown_name(filename: str) -> str:
    """A file's name without its folders, of characters that can be shown."""
    name = re.split(r"[/\\]", filename)[-1]
    return "".join(character for character in name if character.isprintable())[:MAX_FILENAME_CHARACTERS]


def rejected(tenant_id: str, name: str, error: RejectedError, now: datetime) -> events.DatasetRejected:
    """The fact that nothing was kept, and why."""
    return events.DatasetRejected(
        dataset_id=new_id("dataset"),
        tenant_id=tenant_id,
        name=name,
        row=error.row,
        column=error.column,
        reason=error.reason,
        rejected_at=timestamp(now),
    )


def where(row: int, column: str, reason: str) -> str:
    """A refusal in one sentence."""
    at = f"row {row}" if row else "the file"
    return f"{at}{f', {column}' if column else ''}: {reason}"
