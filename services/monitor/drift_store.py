"""Loads and saves the drift tests of versions on endpoints, and the samples that they count."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor import drift_watch
from services.monitor.drift_streams import References, Window
from services.monitor.drift_texts import Texts
from services.monitor.drift_watch import Watch
from services.monitor.tables import DriftSampleRow, DriftWatchRow, DriftWindowRow, EndpointRow, ReferenceRow

# Of a version on an endpoint so many rows are kept. A sample told twice counts once while its row is there; besides,
# the inbox knows each event for a week.
MAX_ROWS = 5_000
DELETE_EVERY = 200
MAX_RECENT_TEXTS = 200
MAX_ALARMS = 50
# Nobody has asked this version for so long: its tests and texts go.
WATCH_RETENTION = timedelta(days=30)
FORGET_LIMIT = 200

# A fitted reference is some 4 MB and never changes: fitting it again for each sample would cost a second.
MAX_FITTED = 32
_fitted: OrderedDict[Hashable, Any] = OrderedDict()

T = TypeVar("T", Texts, Window)


class OfVersion(Protocol):
    """An event about a version on an endpoint."""

    endpoint_id: str
    tenant_id: str
    model_id: str
    version: int


class DriftStore:
    """One transaction's view of the drift tests."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def begin(self, of: OfVersion, now: datetime) -> bool:
        """Have a row for the version's tests; whether it is new."""
        statement = upsert(DriftWatchRow).values(
            endpoint_id=of.endpoint_id,
            model_id=of.model_id,
            version=of.version,
            tenant_id=of.tenant_id,
            state=drift_watch.to_json(Watch()),
            rows=0,
            window_after=0,
            alarms=[],
            updated_at=now,
        )
        found = await self.session.execute(statement.on_conflict_do_nothing().returning(DriftWatchRow.version))
        return found.first() is not None

    async def locked(self, of: OfVersion) -> DriftWatchRow | None:
        """The version's tests, locked until the end of the transaction: samples are counted one after the other.

        None: they are another tenant's.
        """
        key = (of.endpoint_id, of.model_id, of.version)
        row = await self.session.get(DriftWatchRow, key, with_for_update=True)
        return row if row is not None and row.tenant_id == of.tenant_id else None

    async def row_of(self, watch: DriftWatchRow, inference_id: str) -> DriftSampleRow:
        """The row of an inference; a new one if this is the first that is heard of it."""
        row = await self.session.get(DriftSampleRow, (watch.endpoint_id, inference_id))
        if row is not None:
            return row
        watch.rows += 1
        row = DriftSampleRow(
            endpoint_id=watch.endpoint_id,
            inference_id=inference_id,
            tenant_id=watch.tenant_id,
            model_id=watch.model_id,
            version=watch.version,
            number=watch.rows,
        )
        self.session.add(row)
        if watch.rows % DELETE_EVERY == 0:
            statement = delete(DriftSampleRow).where(*_of(watch), DriftSampleRow.number <= watch.rows - MAX_ROWS)
            await self.session.execute(statement)
        return row

    async def references(self, watch: DriftWatchRow) -> References:
        """What the version's samples are compared with, as far as it is there."""
        return References(await self._training(watch.model_id, watch.version), await self._window(watch))

    async def _training(self, model_id: str, version: int) -> Texts | None:
        """What the version's training data asks, fitted; None while (or if) it is not there."""
        key = ("training", model_id, version)
        if (known := _known(key)) is not None:
            return known  # type: ignore[no-any-return]
        row = await self.session.get(ReferenceRow, (model_id, version))
        if row is None or row.texts is None:
            return None
        return await _fit(key, partial(Texts.fit, row.texts))

    async def _window(self, watch: DriftWatchRow) -> Window | None:
        """The version's healthy window, fitted; None before it is full."""
        key = ("window", watch.endpoint_id, watch.model_id, watch.version)
        if (known := _known(key)) is not None:
            return known  # type: ignore[no-any-return]
        row = await self.session.get(DriftWindowRow, (watch.endpoint_id, watch.model_id, watch.version))
        return await _fit(key, partial(Window.fit, row.inputs, row.outputs)) if row is not None else None

    async def keep_window(self, watch: DriftWatchRow) -> Window:
        """Make the samples since the window began the version's healthy window."""
        statement = (
            select(DriftSampleRow.input_text, DriftSampleRow.output_text)
            .where(*_of(watch), DriftSampleRow.number > watch.window_after, DriftSampleRow.input_text.is_not(None))
            .order_by(DriftSampleRow.number)
        )
        rows = (await self.session.execute(statement)).all()
        inputs = [text for text, _ in rows if text is not None]
        outputs = [text for _, text in rows if text is not None]
        self.session.add(
            DriftWindowRow(
                endpoint_id=watch.endpoint_id,
                model_id=watch.model_id,
                version=watch.version,
                tenant_id=watch.tenant_id,
                inputs=inputs,
                outputs=outputs,
            )
        )
        # Not remembered before the transaction commits: the next sample reads it from the table.
        return await asyncio.to_thread(Window.fit, inputs, outputs)

    async def recent(self, watch: DriftWatchRow, samples: int) -> list[tuple[str, str | None]]:
        """Requests and answers of the newest samples, as far as they are kept."""
        statement = (
            select(DriftSampleRow.input_text, DriftSampleRow.output_text)
            .where(*_of(watch), DriftSampleRow.input_text.is_not(None))
            .order_by(DriftSampleRow.number.desc())
            .limit(min(samples, MAX_RECENT_TEXTS))
        )
        return [(asked, said) for asked, said in (await self.session.execute(statement)).all() if asked is not None]

    async def watches(self, endpoint_id: str, tenant_id: str) -> list[DriftWatchRow]:
        """The tests of every version that an endpoint has served lately, the newest first."""
        statement = (
            select(DriftWatchRow)
            .filter_by(endpoint_id=endpoint_id, tenant_id=tenant_id)
            .order_by(DriftWatchRow.updated_at.desc())
        )
        return list(await self.session.scalars(statement))

    async def forget(self, now: datetime) -> None:
        """Delete the tests and texts of versions that nobody asks any more, and of endpoints that are gone."""
        gone = select(EndpointRow.endpoint_id).where(EndpointRow.deleted)
        old = (DriftWatchRow.updated_at < now - WATCH_RETENTION) | DriftWatchRow.endpoint_id.in_(gone)
        keys = [
            (row.endpoint_id, row.model_id, row.version)
            for row in await self.session.scalars(
                select(DriftWatchRow).where(old).limit(FORGET_LIMIT).with_for_update(skip_locked=True)
            )
        ]
        for table in (DriftSampleRow, DriftWindowRow, DriftWatchRow):
            of_version = tuple_(table.endpoint_id, table.model_id, table.version)
            if keys:
                await self.session.execute(delete(table).where(of_version.in_(keys)))


def _of(watch: DriftWatchRow) -> tuple[Any, ...]:
    row = DriftSampleRow
    return row.endpoint_id == watch.endpoint_id, row.model_id == watch.model_id, row.version == watch.version


def _known(key: Hashable) -> Any:
    if key in _fitted:
        _fitted.move_to_end(key)
    return _fitted.get(key)


async def _fit(key: Hashable, fit: Callable[[], T]) -> T:
    # Not on the event loop: that answers health checks and takes spans meanwhile.
    fitted = await asyncio.to_thread(fit)
    _fitted[key] = fitted
    if len(_fitted) > MAX_FITTED:
        _fitted.popitem(last=False)
    return fitted
