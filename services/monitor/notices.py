"""Where the cloud's messages come from, and how each is dealt with once: told, known already, or set aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import boto3
import httpx2
import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor import aws_interruptions
from services.monitor.metrics import NOTICES
from services.monitor.tables import CursorRow, NoticeRow
from sskai.delivery import tell

log = structlog.get_logger()

MAX_KEPT_BODY_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Raw:
    """A message as it came. `notice_seconds` is the time the machine has left, where the source says it."""

    body: Any  # text of JSON, or what it stands for
    notice_seconds: float | None = None


class LocalCloud:
    """The simulated cloud's feed: GET /interruptions?after=SEQUENCE."""

    source = "local"

    def __init__(self, url: str, token: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx2.AsyncClient(base_url=url, headers=headers, timeout=5, transport=transport)

    async def after(self, sequence: int) -> list[tuple[int, Raw]]:
        """Messages after a sequence number, in order. Raises ConnectionError while the cloud is away."""
        try:
            response = await self._client.get("/interruptions", params={"after": sequence})
            response.raise_for_status()
            messages = response.json()["messages"]
            return [(item["sequence"], Raw(item["body"], item.get("notice_seconds"))) for item in messages]
        except (httpx2.HTTPError, KeyError, TypeError, ValueError) as error:
            raise ConnectionError(f"the local cloud does not answer: {error!r}") from error


class Queue:
    """An SQS queue that EventBridge sends to. A message that is not deleted comes back after the queue's timeout."""

    source = "eventbridge"

    def __init__(self, url: str, **client_options: Any) -> None:
        self._url = url
        self._sqs: Any = boto3.client("sqs", **client_options)

    def receive(self, wait_seconds: int = 2) -> list[tuple[str, Raw]]:
        """Up to 10 messages, each with the handle to delete it by. Waits in SQS, not here; blocks."""
        answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_seconds)
        return [(message["ReceiptHandle"], Raw(message["Body"])) for message in answer.get("Messages", [])]

    def delete(self, handles: Sequence[str]) -> None:
        entries = [{"Id": str(place), "ReceiptHandle": handle} for place, handle in enumerate(handles)]
        self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)


async def take(session: AsyncSession, source: str, raw: Raw, now: datetime) -> None:
    """Tell what a message says, unless it was told before; set aside what cannot be read."""
    try:
        notice = aws_interruptions.parse(raw.body, source=source, notice_seconds=raw.notice_seconds)
    except aws_interruptions.MalformedError as problem:
        text = raw.body if isinstance(raw.body, str) else json.dumps(raw.body, default=str)
        text = text.replace("\0", "")
        name = f"{source}:{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:32]}"
        kept = text[:MAX_KEPT_BODY_CHARACTERS]
        if await _remember(session, now, notice_id=name, source=source, problem=str(problem), body=kept):
            log.warning("interruption message set aside", source=source, problem=str(problem))
        NOTICES.labels(source=source, outcome="set-aside").inc()
        return
    if not notice.facts:
        NOTICES.labels(source=source, outcome="not-about-losing-machines").inc()
        return
    if not await _remember(session, now, notice_id=notice.id, source=source):
        NOTICES.labels(source=source, outcome="repeated").inc()
        return
    await tell(session, *notice.facts)
    NOTICES.labels(source=source, outcome="told").inc()


async def _remember(session: AsyncSession, now: datetime, **columns: str) -> bool:
    """False: this message was dealt with before."""
    statement = (
        upsert(NoticeRow).values(**columns, received_at=now).on_conflict_do_nothing().returning(NoticeRow.notice_id)
    )
    return (await session.execute(statement)).first() is not None


async def cursor(session: AsyncSession, source: str) -> int:
    """How far a source was read; 0 at the beginning."""
    return await session.scalar(select(CursorRow.sequence).filter_by(source=source)) or 0


async def move_cursor(session: AsyncSession, source: str, sequence: int) -> None:
    """Forwards only: of two replicas that read the same source, the slower one may come last."""
    statement = upsert(CursorRow).values(source=source, sequence=sequence)
    furthest = func.greatest(CursorRow.sequence, statement.excluded.sequence)
    await session.execute(statement.on_conflict_do_update(index_elements=["source"], set_={"sequence": furthest}))
