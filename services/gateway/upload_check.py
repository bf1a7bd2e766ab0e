"""A file that came in parts becomes a dataset: put together in the object store, and checked as it streams from there.

Rows that are kept to the byte are not written again: the object that the parts made is the dataset's. What is converted
is written to another one. Memory stays what one request in pieces takes, whatever the size. A crash repeats all of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import IO, Any, cast

import structlog
from sqlalchemy import select

from services.gateway import intake
from services.gateway.datareport import Summary
from services.gateway.datasets import Scan
from services.gateway.intake import IMAGES, LINES, MEDIA_TYPES, READERS
from services.gateway.library import Library, validated
from services.gateway.rowforms import RejectedError
from services.gateway.tables import DatasetRow, UploadRow
from services.gateway.uploads import GIB, UploadState
from sskai import claims, telemetry
from sskai.database import Database
from sskai.delivery import tell
from sskai.multipart import Multipart, Part, Writer
from sskai.objectfile import open_object
from sskai.objects import PART_BYTES, NotFoundError, Objects

log = structlog.get_logger()

LEASE_SECONDS = 60.0
MAX_TRIES = 8
LARGE_BYTES = 1 * GIB  # these wait for each other, and the others do not wait for them
MADE = "rows.jsonl"  # beside the object that the parts make


class LostClaimError(Exception):
    """The lease ran out: somebody else checks the file now."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file whose every row is well formed, and where the dataset's object lies."""

    summary: Summary
    key: str


class Checker:
    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects
        self._multipart = Multipart(objects)

    async def work(self, *, large: bool) -> None:
        """What is due: files to check, to give up, and to clean up after; until there is nothing."""
        size = UploadRow.bytes > LARGE_BYTES if large else UploadRow.bytes <= LARGE_BYTES
        while claimed := await claims.claim(
            self._database, UploadRow, limit=1, lease_seconds=LEASE_SECONDS, where=size
        ):
            for row in claimed:
                await self._turn(row)

    async def check_now(self, upload_id: str) -> None:
        """One file, unless somebody is at it already."""
        this = (UploadRow.upload_id == upload_id) & (UploadRow.state == UploadState.VALIDATING)
        for row in await claims.claim(self._database, UploadRow, lease_seconds=LEASE_SECONDS, where=this):
            await self._turn(row)

    async def _turn(self, row: UploadRow) -> None:
        if row.state == UploadState.PENDING:
            await self._release(row, state=UploadState.EXPIRED, ended_at=datetime.now(UTC))
        elif row.state == UploadState.VALIDATING:
            with telemetry.tracer().start_as_current_span(
                "check upload",
                context=telemetry.context_from(row.traceparent),
                attributes={"sskai.tenant": row.tenant_id, "sskai.subject": row.upload_id},
            ):
                await self._check(row)
        else:
            await self._clean(row)

    async def _check(self, row: UploadRow) -> None:
        try:
            async with claims.held(self._database, row, LEASE_SECONDS) as alive:
                found = await asyncio.to_thread(self._read, row, alive)
            await self._keep(row, found)
        except LostClaimError:
            return
        except RejectedError as error:
            await self._reject(row, error)
        except Exception as error:
            log.warning(
                "an upload could not be checked", upload_id=row.upload_id, tries=row.tries + 1, error=repr(error)
            )
            if row.tries + 1 < MAX_TRIES:
                await self._release(row, in_seconds=2.0**row.tries, tries=row.tries + 1)
            else:
                reason = f"it could not be read, {MAX_TRIES} times: upload it again"
                await self._reject(row, RejectedError(0, "", reason))

    async def _keep(self, row: UploadRow, found: Found) -> None:
        """Raises LostClaimError."""
        now = datetime.now(UTC)
        async with self._database.transaction() as session:
            dataset, new = await Library(session).add_dataset(
                row.tenant_id, row.name, self._objects.uri(found.key), found.summary, now, filename=row.filename
            )
            ended = {"state": UploadState.COMPLETED, "dataset_id": dataset.dataset_id, "ended_at": now}
            if not await claims.release(session, row, due_in_seconds=0, **ended):
                raise LostClaimError
            if new:
                await tell(session, validated(dataset))

    async def _reject(self, row: UploadRow, error: RejectedError) -> None:
        now = datetime.now(UTC)
        problem = {"row": error.row, "column": error.column, "reason": error.reason}
        async with self._database.transaction() as session:
            ended = {"state": UploadState.FAILED, "problem": problem, "ended_at": now}
            if await claims.release(session, row, due_in_seconds=0, **ended):
                await tell(session, intake.rejected(row.tenant_id, row.name, error, now))

    async def _clean(self, row: UploadRow) -> None:
        """Nothing stays but the dataset's object."""
        folder = row.key.rpartition("/")[0] + "/"
        async with self._database.transaction() as session:
            uris = await session.scalars(select(DatasetRow.uri).where(DatasetRow.dataset_id == row.dataset_id))
            kept = {self._objects.key(uri) for uri in uris}
        await asyncio.to_thread(self._sweep, folder, kept)
        async with self._database.transaction() as session:
            await claims.release(session, row, due_in_seconds=None)

    def _sweep(self, folder: str, kept: set[str]) -> None:
        self._multipart.abort(folder)
        for info in self._objects.list(folder):
            if info.key not in kept:
                self._objects.delete(info.key)

    async def _release(self, row: UploadRow, *, in_seconds: float = 0.0, **values: Any) -> None:
        async with self._database.transaction() as session:
            await claims.release(session, row, due_in_seconds=in_seconds, **values)

    # In a thread from here on

    def _read(self, row: UploadRow, lost: asyncio.Event) -> Found:
        """Raises RejectedError, LostClaimError, and what the object store raises."""
        parts = [Part(number, size, etag, row.created_at) for number, size, etag in row.parts or ()]
        self._assemble(row, parts)
        folder = row.key.rpartition("/")[0]
        ordered = all(one.number < other.number for one, other in pairwise(parts))
        pieces = _watched(self._pieces(row, parts, ordered=ordered), row.md5, lost)
        first = next(pieces, b"")
        kind = intake.kind_of_name(row.filename) or MEDIA_TYPES.get(row.mime_type) or intake.sniffed(first[:4])
        if (kind == IMAGES) != row.key.endswith(f".{IMAGES}"):
            raise RejectedError(0, "", "is a zip, or is not, unlike its name and type say: name it as what it is")
        if kind == LINES:
            return self._lines(first, pieces, row.key, f"{folder}/{MADE}", kept_as_is=ordered)
        key = row.key
        if not ordered:
            key = f"{folder}/in-order.{row.key.rpartition('.')[2]}"
            self._copy(first, pieces, key)
        elif row.md5:
            for _ in pieces:
                pass
        with open_object(self._objects, key) as file:
            if kind == IMAGES:
                return Found(READERS[kind](file, cast(IO[bytes], _Nowhere())), key)
            made = Writer(self._multipart, f"{folder}/{MADE}")
            summary = READERS[kind](file, cast(IO[bytes], made))
        made.close()
        return Found(summary, f"{folder}/{MADE}")

    def _assemble(self, row: UploadRow, parts: list[Part]) -> None:
        try:
            self._multipart.complete(row.key, row.multipart_id or "", parts)
        except NotFoundError:
            # An earlier try did so.
            if self._objects.size(row.key) != row.bytes:
                raise

    def _pieces(self, row: UploadRow, parts: list[Part], *, ordered: bool) -> Iterator[bytes]:
        """The file from its beginning. The object has its parts in the order of their numbers."""
        if ordered:
            yield from self._objects.fetch(row.key, row.bytes)
            return
        starts, at = {}, 0
        for part in sorted(parts, key=lambda one: one.number):
            starts[part.number], at = at, at + part.bytes
        for part in parts:
            start, end = starts[part.number], starts[part.number] + part.bytes
            for begin in range(start, end, PART_BYTES):
                yield self._objects.get_range(row.key, begin, min(begin + PART_BYTES, end))

    def _lines(self, first: bytes, rest: Iterator[bytes], key: str, made_key: str, *, kept_as_is: bool) -> Found:
        made: Writer | None = None

        def write(data: bytes) -> None:
            nonlocal made
            if made is None and (scan.converts or not kept_as_is):
                made = Writer(self._multipart, made_key)
            if made is not None:
                made.write(data)

        scan = Scan(write)
        scan.feed(first)
        for piece in rest:
            scan.feed(piece)
        summary = scan.summary()
        if made is None:
            return Found(summary, key)
        made.close()
        return Found(summary, made_key)

    def _copy(self, first: bytes, rest: Iterator[bytes], key: str) -> None:
        writer = Writer(self._multipart, key)
        writer.write(first)
        for piece in rest:
            writer.write(piece)
        writer.close()


class _Nowhere(io.RawIOBase):
    """Takes what is kept as it is already."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def _watched(pieces: Iterator[bytes], md5: str, lost: asyncio.Event) -> Iterator[bytes]:
    """The pieces; in the end it is known whether they are what was meant. Raises RejectedError, LostClaimError."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        if lost.is_set():
            raise LostClaimError
        if md5:
            digest.update(piece)
        yield piece
    if md5 and digest.hexdigest() != md5:
        raise RejectedError(0, "", f"its MD5 is {digest.hexdigest()}, not {md5}: a part is missing or wrong")
