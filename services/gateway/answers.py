"""Idempotency keys: a request that is sent again gets the answer of the first one, and changes nothing twice.

The key, the request's hash and the answer commit with the change itself. Two requests of one key at the same time wait
for each other at the row's unique index, so the second finds the first one's answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import AnswerRow


class KeyReusedError(Exception):
    """The key was used for another request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client. `replayed`: it is the answer to an earlier request of the same key."""

    status: int
    body: dict[str, Any]
    replayed: bool = False


def digest(route: str, body: bytes) -> str:
    """SHA-256 of what makes two requests the same."""
    return hashlib.sha256(route.encode() + b"\0" + body).hexdigest()


async def once(
    session: AsyncSession,
    tenant_id: str,
    idempotency_key: str | None,
    request_sha256: str,
    make: Callable[[], Awaitable[Answer]],
    *,
    now: datetime,
) -> Answer:
    """`make`'s answer, made at most once per key, in the transaction of `session`. Raises KeyReusedError."""
    if idempotency_key is None:
        return await make()
    row = (AnswerRow.tenant_id == tenant_id) & (AnswerRow.idempotency_key == idempotency_key)
    first = await session.scalar(
        upsert(AnswerRow)
        .values(tenant_id=tenant_id, idempotency_key=idempotency_key, request_sha256=request_sha256, created_at=now)
        .on_conflict_do_nothing()
        .returning(AnswerRow.idempotency_key)
    )
    if first is None:
        known = (await session.scalars(select(AnswerRow).where(row))).one()
        if known.request_sha256 != request_sha256:
            raise KeyReusedError(idempotency_key)
        return Answer(known.status or 200, known.body or {}, replayed=True)
    answer = await make()
    await session.execute(update(AnswerRow).where(row).values(status=answer.status, body=answer.body))
    return answer
