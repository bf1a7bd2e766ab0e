"""Objectives in PostgreSQL, and what is observed of them: answers of the inference service, counted by endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.cells import Cells
from services.monitor.counting import DURATION
from services.monitor.objectives import MEASURE_OF, PERIODS_SECONDS, Quality, quality
from services.monitor.sketches import Tally
from services.monitor.tables import ObjectiveRow
from sskai.contract import moment
from sskai.events import v1 as events

ANSWERING_SERVICE = "inference"
# Longer ones are summed of hours: so minutes need not be kept for three days.
MINUTES_UP_TO_SECONDS = 6 * 3_600
PAGE_LIMIT = 200

# Tallies of one period, by tenant, endpoint id, name of the model asked for, and measure.
Counted: TypeAlias = Mapping[tuple[str, str, str, str], Tally]


class ObjectiveStore:
    """One transaction's view of the objectives."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def set(self, event: events.EndpointObjectivesSet) -> None:
        """What was promised before is promised no more. A breach goes on if the promise stays, whatever its numbers."""
        there = {row.objective: row for row in await self.of_endpoint(event.endpoint_id, event.tenant_id)}
        at = moment(event.set_at)
        if any(row.set_at > at for row in there.values()):
            return  # an older wish that came late
        for one in event.objectives:
            if one.name not in MEASURE_OF:
                continue  # a later version's word
            row = there.pop(one.name, None)
            if row is None:
                row = ObjectiveRow(
                    endpoint_id=event.endpoint_id,
                    objective=one.name,
                    tenant_id=event.tenant_id,
                    breached={},
                    burn_rates={},
                )
                self.session.add(row)
            row.endpoint_name, row.set_at, row.target = event.name, at, one.target
            row.measure = MEASURE_OF[one.name]
            row.at_most = one.at_most_seconds if one.HasField("at_most_seconds") else None
        for row in there.values():
            await self.session.delete(row)

    async def of_endpoint(self, endpoint_id: str, tenant_id: str) -> Sequence[ObjectiveRow]:
        found = select(ObjectiveRow).filter_by(endpoint_id=endpoint_id, tenant_id=tenant_id)
        return (await self.session.scalars(found.order_by(ObjectiveRow.objective))).all()

    async def drop(self, endpoint_id: str, tenant_id: str) -> None:
        """The endpoint is gone, and its promises with it."""
        await self.session.execute(
            delete(ObjectiveRow).where(ObjectiveRow.endpoint_id == endpoint_id, ObjectiveRow.tenant_id == tenant_id)
        )

    async def page(self, after: tuple[str, str]) -> Sequence[ObjectiveRow]:
        """The next objectives in the order of their keys."""
        found = select(ObjectiveRow).order_by(ObjectiveRow.endpoint_id, ObjectiveRow.objective)
        key = tuple_(ObjectiveRow.endpoint_id, ObjectiveRow.objective)
        return (await self.session.scalars(found.where(key > after).limit(PAGE_LIMIT))).all()

    async def lock(self, rows: Iterable[ObjectiveRow]) -> Sequence[ObjectiveRow]:
        """Those of the objectives that are still there and that no other monitor looks at, as they are now."""
        keys = [(row.endpoint_id, row.objective) for row in rows]
        found = select(ObjectiveRow).where(tuple_(ObjectiveRow.endpoint_id, ObjectiveRow.objective).in_(keys))
        return (await self.session.scalars(found.with_for_update(skip_locked=True))).all()

    async def counted(self, rows: Iterable[ObjectiveRow], now: datetime) -> dict[int, Counted]:
        """What the endpoints of these objectives answered, for each of PERIODS_SECONDS until now."""
        rows = list(rows)
        measures = sorted({row.measure or DURATION for row in rows})
        # What failed before an endpoint took it up names only the model asked for, which is the endpoint's name.
        endpoints = ["", *sorted({row.endpoint_id for row in rows})]
        found: dict[int, Counted] = {}
        for seconds in PERIODS_SECONDS:
            groups = await Cells(self.session).answer(
                "",
                60 if seconds <= MINUTES_UP_TO_SECONDS else 3_600,
                now - timedelta(seconds=seconds),
                now + timedelta(minutes=10),  # clocks that are ahead count, too
                group_by=("tenant_id", "endpoint_id", "model"),
                whole=True,
                labels={"service": ANSWERING_SERVICE, "endpoint_id": endpoints},
                measures=measures,
            )
            found[seconds] = {(*_three(group.labels), group.measure): tally for group, tally in groups.items()}
        return found


def observed(row: ObjectiveRow, counted: Mapping[int, Counted]) -> dict[int, Quality]:
    """The quality that an objective is judged by, for each period."""
    measure = row.measure or DURATION
    found: dict[int, Quality] = {}
    for seconds, tallies in counted.items():
        whole = Tally()
        for (tenant_id, endpoint_id, model, of_measure), tally in tallies.items():
            meant = endpoint_id == row.endpoint_id or (not endpoint_id and model == row.endpoint_name)
            if tenant_id == row.tenant_id and meant and of_measure == measure:
                whole.merge(tally)
        found[seconds] = quality(whole, row.measure, row.at_most)
    return found


def _three(labels: tuple[str, ...]) -> tuple[str, str, str]:
    tenant_id, endpoint_id, model = labels
    return tenant_id, endpoint_id, model
