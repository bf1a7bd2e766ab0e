"""Files that come in parts: what is kept of them. The parts themselves are a multipart upload in the object store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from sqlalchemy import desc, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import UploadRow
from sskai.multipart import MAX_PART_NUMBER, MIN_PART_BYTES, Part

GIB = 1024 * 1024 * 1024
MAX_UPLOAD_BYTES = 50 * GIB
USUAL_PART_BYTES = 64 * 1024 * 1024  # what OpenAI's clients send
# One part may be smaller than S3 lets parts be: it has the last number, so that it can come at any time.
SMALL_PART = MAX_PART_NUMBER


class UploadState(StrEnum):
    PENDING = "pending"  # parts may come
    VALIDATING = "validating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class PartsError(ValueError):
    """These parts do not make the file; the text says why."""


class Uploads:
    """As one transaction sees them; every query names the tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(self, **values: object) -> UploadRow:
        """Due when it expires."""
        values |= {"state": UploadState.PENDING, "next_part": 1, "due_at": values["expires_at"]}
        row: UploadRow | None = await self.session.scalar(upsert(UploadRow).values(**values).returning(UploadRow))
        assert row is not None, "it was just inserted"
        return row

    async def get(self, tenant_id: str, upload_id: str, *, lock: bool = False) -> UploadRow | None:
        query = select(UploadRow).where(UploadRow.tenant_id == tenant_id, UploadRow.upload_id == upload_id)
        return await self.session.scalar(query.with_for_update() if lock else query)

    async def newest(self, tenant_id: str, after: str | None, limit: int) -> list[UploadRow]:
        query = select(UploadRow).where(UploadRow.tenant_id == tenant_id)
        if after is not None:
            query = query.where(UploadRow.upload_id < after)
        return list(await self.session.scalars(query.order_by(desc(UploadRow.upload_id)).limit(limit)))

    async def open(self, tenant_id: str) -> tuple[int, int]:
        """How many take up space just now, and how many bytes they announced."""
        query = select(func.count(), func.coalesce(func.sum(UploadRow.bytes), 0)).where(
            UploadRow.tenant_id == tenant_id, UploadRow.state.in_((UploadState.PENDING, UploadState.VALIDATING))
        )
        count, announced = (await self.session.execute(query)).one()
        return int(count), int(announced)

    async def begun(self, upload_id: str, multipart_id: str) -> str:
        """The object store's id of the upload: of two that begin it at once the first one's counts."""
        statement = update(UploadRow).where(UploadRow.upload_id == upload_id, UploadRow.multipart_id.is_(None))
        await self.session.execute(statement.values(multipart_id=multipart_id))
        query = select(UploadRow.multipart_id).where(UploadRow.upload_id == upload_id)
        return str(await self.session.scalar(query))

    async def next_number(self, upload_id: str) -> int:
        """A number that no other part gets."""
        statement = update(UploadRow).where(UploadRow.upload_id == upload_id)
        taken = statement.values(next_part=UploadRow.next_part + 1).returning(UploadRow.next_part)
        return int(await self.session.scalar(taken) or 0) - 1

    async def end(self, row: UploadRow, state: UploadState, now: datetime) -> None:
        """Over, and to be cleaned up at once."""
        row.ended_at = now
        await self.turn(row, state, now)

    async def turn(self, row: UploadRow, state: UploadState, now: datetime) -> None:
        """Due at once in another state. Who claimed it in the former one has nothing to say any more."""
        row.state, row.due_at, row.lease_until, row.lease_token = state, now, None, None
        await self.session.flush()


def part_id(upload_id: str, number: int) -> str:
    return f"{upload_id.replace('upload_', 'part_', 1)}-{number}"


def number_of(upload_id: str, part: str) -> int:
    """The opposite of `part_id`. Raises PartsError."""
    start = part_id(upload_id, 0)[:-1]
    number = part.removeprefix(start)
    if not part.startswith(start) or not number.isdecimal() or not 1 <= int(number) <= MAX_PART_NUMBER:
        raise PartsError(f"{part[:200]!r} is no part of {upload_id}")
    return int(number)


def chosen(numbers: Sequence[int] | None, there: Sequence[Part], announced_bytes: int) -> list[Part]:
    """The parts that make the file, in their order. `numbers` None: all that are there. Raises PartsError."""
    known = {part.number: part for part in there}
    wanted = list(numbers) if numbers is not None else sorted(known)
    if missing := [number for number in wanted if number not in known]:
        raise PartsError(f"part {missing[0]} is not there: send it, or leave it out")
    if not wanted:
        raise PartsError("no part was sent")
    if len(set(wanted)) != len(wanted):
        raise PartsError("a part is named twice")
    parts = [known[number] for number in wanted]
    size = sum(part.bytes for part in parts)
    if size != announced_bytes:
        raise PartsError(f"the parts have {size} bytes, and {announced_bytes} were announced")
    if small := [part.number for part in sorted(parts, key=lambda one: one.number)[:-1] if part.bytes < MIN_PART_BYTES]:
        raise PartsError(f"part {small[0]} is smaller than {MIN_PART_BYTES} bytes, which only the last one may be")
    return parts


def part_count(row: UploadRow) -> int:
    """If it comes in parts of its usual size."""
    return max(1, -(-row.bytes // row.part_bytes))


def size_of_part(row: UploadRow, number: int) -> int:
    """Of one that is sent straight to the object store. Raises PartsError."""
    if not 1 <= number <= part_count(row):
        raise PartsError(f"part {number} does not exist: {row.bytes} bytes make {part_count(row)} parts")
    return min(row.part_bytes, row.bytes - (number - 1) * row.part_bytes)
