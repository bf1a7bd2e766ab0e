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


async def answered(
    session: AsyncSession, tenant_id: str, idempotency_key: str | None, request_sha256: str
) -> Answer | None:
    """What an earlier request of this key was answered, for routes that work long before they commit.

    Raises KeyReusedError.
    """
    row = (AnswerRow.tenant_id == tenant_id) & (AnswerRow.idempotency_key == idempotency_key)
    known = await session.scalar(select(AnswerRow).where(row)) if idempotency_key is not None else None
    if known is None:
        return None
    if known.request_sha256 != request_sha256:
        raise KeyReusedError(idempotency_key)
    return Answer(known.status or 200, known.body or {}, replayed=True)


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
        before = await answered(session, tenant_id, idempotency_key, request_sha256)
        assert before is not None, "what conflicts is there"
        return before
    answer = await make()
    await session.execute(update(AnswerRow).where(row).values(status=answer.status, body=answer.body))
    return answer
