"""What endpoints were asked and what people said of the answers, in the database: bounded in number, age and length."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.endpoints import EndpointState
from services.gateway.tables import EndpointRow, TrafficRow
from services.gateway.trafficrows import LIKED_FROM, PRAISE, Exchange
from sskai.contract import moment
from sskai.events import v1 as events
from sskai.redaction import MAX_CHARACTERS

MAX_WORD_CHARACTERS = 200  # of ids, labels and reasons
# A word on a request that was not told teaches nothing. It may be ahead of the request, but not for long.
WORD_ALONE = timedelta(days=1)
ENDPOINTS_AT_ONCE = 20


class Traffic:
    """One transaction's view. Only of endpoints that the tenant has; a key that is not sampled is told of nowhere."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def keep_sample(self, event: events.InferenceSampled, now: datetime) -> None:
        """Once, however often it is told, before or after what was said of it."""
        if not await self._is_own(event):
            return
        values = {
            "asked_at": moment(event.at),
            "input_text": _plain(event.input_text),
            "output_text": _plain(event.output_text),
            "error": _plain(event.error, MAX_WORD_CHARACTERS),
            "finish_reason": _plain(event.finish_reason, MAX_WORD_CHARACTERS),
        }
        row = upsert(TrafficRow).values(
            **self._key(event), **values, score=None, label="", correction="", given_at=None, kept_at=now
        )
        mine = (TrafficRow.tenant_id == event.tenant_id) & TrafficRow.asked_at.is_(None)
        await self._session.execute(
            row.on_conflict_do_update(index_elements=["endpoint_id", "inference_id"], set_=values, where=mine)
        )

    async def keep_feedback(self, event: events.FeedbackGiven, now: datetime) -> None:
        """The newest word on an answer counts, in whatever order they come."""
        if not await self._is_own(event):
            return
        values = {
            "given_at": moment(event.given_at),
            "score": event.score if event.HasField("score") and math.isfinite(event.score) else None,
            "label": _plain(event.label, MAX_WORD_CHARACTERS),
            "correction": _plain(event.correction),
        }
        texts = dict.fromkeys(("input_text", "output_text", "error", "finish_reason"), "")
        row = upsert(TrafficRow).values(**self._key(event), **values, **texts, asked_at=None, kept_at=now)
        older = TrafficRow.given_at.is_(None) | (TrafficRow.given_at < values["given_at"])
        mine = (TrafficRow.tenant_id == event.tenant_id) & older
        await self._session.execute(
            row.on_conflict_do_update(index_elements=["endpoint_id", "inference_id"], set_=values, where=mine)
        )

    async def exchanges(
        self, tenant_id: str, endpoint_id: str, *, since: datetime | None, until: datetime, inputs: bool, limit: int
    ) -> list[Exchange]:
        """Of the newest `limit` those that may teach something: judged ones, and with `inputs` the others too."""
        newest = (
            select(TrafficRow)
            .where(TrafficRow.tenant_id == tenant_id, TrafficRow.endpoint_id == endpoint_id)
            .where(TrafficRow.asked_at.is_not(None), TrafficRow.asked_at <= until)
            .order_by(TrafficRow.kept_at.desc(), TrafficRow.inference_id)
            .limit(limit)
        )
        if since is not None:
            newest = newest.where(TrafficRow.asked_at >= since)
        kept = newest.subquery()
        query = select(TrafficRow).join(
            kept, and_(kept.c.endpoint_id == TrafficRow.endpoint_id, kept.c.inference_id == TrafficRow.inference_id)
        )
        if not inputs:
            liked = or_(TrafficRow.score >= LIKED_FROM, func.lower(TrafficRow.label) == PRAISE)
            query = query.where(or_(TrafficRow.correction != "", liked))
        return [_exchange(row) for row in await self._session.scalars(query)]

    async def forget_endpoint(self, tenant_id: str, endpoint_id: str) -> None:
        """An endpoint is gone, and with it what it was asked."""
        of_endpoint = (TrafficRow.tenant_id == tenant_id) & (TrafficRow.endpoint_id == endpoint_id)
        await self._session.execute(delete(TrafficRow).where(of_endpoint))

    async def forget(self, now: datetime, retention_days: float, rows_per_endpoint: int, limit: int) -> int:
        """What is past its time, words alone, and what is beyond an endpoint's number; at most `limit` of each."""
        key = select(TrafficRow.endpoint_id, TrafficRow.inference_id)
        old = key.where(TrafficRow.kept_at < now - timedelta(days=retention_days)).limit(limit)
        alone = key.where(TrafficRow.asked_at.is_(None), TrafficRow.kept_at < now - WORD_ALONE).limit(limit)
        over = select(TrafficRow.endpoint_id).group_by(TrafficRow.endpoint_id)
        over = over.having(func.count() > rows_per_endpoint).limit(ENDPOINTS_AT_ONCE)
        doomed = [old, alone]
        for endpoint_id in await self._session.scalars(over):
            newest_first = key.where(TrafficRow.endpoint_id == endpoint_id).order_by(
                TrafficRow.kept_at.desc(), TrafficRow.inference_id
            )
            doomed.append(newest_first.offset(rows_per_endpoint).limit(limit))
        forgotten = 0
        for keys in doomed:
            these = tuple_(TrafficRow.endpoint_id, TrafficRow.inference_id).in_(keys)
            gone = await self._session.scalars(delete(TrafficRow).where(these).returning(TrafficRow.inference_id))
            forgotten += len(gone.all())
        return forgotten

    async def _is_own(self, event: events.InferenceSampled | events.FeedbackGiven) -> bool:
        gone = (EndpointState.DELETING, EndpointState.DELETED)
        query = select(EndpointRow.endpoint_id).where(
            EndpointRow.endpoint_id == event.endpoint_id, EndpointRow.tenant_id == event.tenant_id
        )
        possible = 0 < len(event.inference_id) <= MAX_WORD_CHARACTERS
        return possible and await self._session.scalar(query.where(EndpointRow.state.not_in(gone))) is not None

    @staticmethod
    def _key(event: events.InferenceSampled | events.FeedbackGiven) -> dict[str, str]:
        return {
            "endpoint_id": event.endpoint_id,
            "inference_id": event.inference_id,
            "tenant_id": event.tenant_id,
        }


def _plain(text: str, limit: int = MAX_CHARACTERS) -> str:
    """What PostgreSQL takes: no NUL, and no more than is used. Inference sees to that, but anybody may tell."""
    return text[:limit].replace("\x00", "\ufffd")


def _exchange(row: TrafficRow) -> Exchange:
    assert row.asked_at is not None, "only requests that were told are asked for"
    return Exchange(
        inference_id=row.inference_id,
        at=row.asked_at,
        input_text=row.input_text,
        output_text=row.output_text,
        error=row.error,
        finish_reason=row.finish_reason,
        score=row.score,
        label=row.label,
        correction=row.correction,
        given_at=row.given_at,
    )
