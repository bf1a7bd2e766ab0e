"""The ledger's rows and their daily totals, and what the monitor knows of owners and of things that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.costs import Total
from services.monitor.spend_tables import DayRow, ItemRow, MeterRow, OwnerRow
from services.monitor.storage import COMPUTE, STORAGE, Item, next_midnight
from services.monitor.tables import Base, SpendRow
from sskai.contract import moment
from sskai.events import v1 as events

_MICROSECOND = timedelta(microseconds=1)
_SUMMED = (
    "amount_nano_usd", "on_demand_nano_usd", "machine_microseconds", "input_tokens", "output_tokens", "rows",
)  # fmt: skip


class SpendStore:
    """One transaction's view of money."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    # The ledger

    async def record(self, event: events.SpendRecorded) -> bool:
        """Write a row of the ledger, and count it in its day; False if this interval was written before."""
        row = row_of(event)
        if not await self._insert(SpendRow, row):
            return False
        added = {
            "tenant_id": row["tenant_id"],
            "day": row["started_at"].astimezone(UTC).date(),
            "job_id": row["job_id"],
            "kind": row["kind"],
            "endpoint_id": row["endpoint_id"],
            "machine_microseconds": machine_microseconds(row),
            "rows": 1,
            **{name: row[name] for name in _SUMMED if name in row},
        }
        statement = upsert(DayRow).values(**added)
        grown = {name: getattr(DayRow, name) + statement.excluded[name] for name in _SUMMED}
        await self.session.execute(
            statement.on_conflict_do_update(index_elements=list(DayRow.__table__.primary_key), set_=grown)
        )
        return True

    async def spent_nano_usd(self, owner_id: str) -> int:
        """By machines, in the whole life of a job, or of an endpoint's replicas."""
        return (await self.spent_by_owner([owner_id])).get(owner_id, 0)

    async def spent_by_owner(self, owner_ids: Sequence[str]) -> dict[str, int]:
        """The same of several; who spent nothing is left out."""
        statement = (
            select(DayRow.job_id, func.sum(DayRow.amount_nano_usd))
            .where(DayRow.job_id.in_(owner_ids), DayRow.kind == COMPUTE)
            .group_by(DayRow.job_id)
        )
        return {owner_id: int(amount) for owner_id, amount in await self.session.execute(statement)}

    async def totals(
        self, tenant_id: str, first: date, last: date, group_by: Sequence[str], limit: int, **where: str
    ) -> list[Total]:
        """Sums of the days first..last, grouped by any of GROUPS; `where` fixes some of them. At most `limit`."""
        columns = [GROUPS[name] for name in group_by]
        statement = (
            select(*columns, *(func.sum(getattr(DayRow, name)) for name in _SUMMED))
            .outerjoin(OwnerRow, OwnerRow.owner_id == _OWNER)
            .where(DayRow.tenant_id == tenant_id, DayRow.day >= first, DayRow.day <= last)
            .where(*(GROUPS[name] == value for name, value in where.items()))
            .group_by(*columns)
            .order_by(*columns)
            .limit(limit)
        )
        count = len(columns)
        found = await self.session.execute(statement)
        return [Total(tuple(row[:count]), *(int(one or 0) for one in row[count:])) for row in found]

    async def page(
        self, tenant_id: str, since: datetime, until: datetime, after: tuple[Any, ...] | None, limit: int
    ) -> list[tuple[SpendRow, str, str]]:
        """Rows of the ledger that begin in since..until, with their owners' names and projects; in order of `place`."""
        owner = func.coalesce(func.nullif(SpendRow.endpoint_id, ""), SpendRow.job_id)
        place = (SpendRow.started_at, SpendRow.job_id, SpendRow.kind, SpendRow.interval)
        statement = (
            select(SpendRow, func.coalesce(OwnerRow.name, ""), func.coalesce(OwnerRow.project, ""))
            .outerjoin(OwnerRow, OwnerRow.owner_id == owner)
            .where(SpendRow.tenant_id == tenant_id, SpendRow.started_at >= since, SpendRow.started_at < until)
            .order_by(*place)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(tuple_(*place) > tuple_(*after))
        found = await self.session.execute(statement)
        return [(row, name, project) for row, name, project in found]

    # Owners

    async def name_owner(self, owner_id: str, tenant_id: str, name: str, project: str, keep: int = 0) -> None:
        """A job or an endpoint, its project, and how many checkpoints it keeps."""
        values = {"owner_id": owner_id, "tenant_id": tenant_id, "name": name, "project": project, "keep": keep}
        await self._insert(OwnerRow, values)

    async def kept_by(self, owner_id: str) -> int:
        """How many checkpoints a job keeps; 0: nobody said."""
        return await self.session.scalar(select(OwnerRow.keep).where(OwnerRow.owner_id == owner_id)) or 0

    async def project_of(self, owner_id: str) -> str:
        return await self.session.scalar(select(OwnerRow.project).where(OwnerRow.owner_id == owner_id)) or ""

    # What is kept, and what was moved

    async def add_item(self, thing_id: str, tenant_id: str, made: Item, *, keep: int = 0) -> None:
        """One more item of a thing that is kept. Of `keep` newest, where its owner does not say otherwise; 0: all."""
        values = {"thing_id": thing_id, "attempt": made.attempt, "step": made.step, "at": made.at, "bytes": made.bytes}
        await self._insert(ItemRow, values)
        await self.begin_meter(STORAGE, thing_id, tenant_id, made.at, keep=keep)

    async def begin_meter(self, kind: str, thing_id: str, tenant_id: str, since: datetime, *, keep: int = 0) -> None:
        """The thing is metered from then on; first at the end of that day."""
        values = {"kind": kind, "thing_id": thing_id, "tenant_id": tenant_id, "keep": keep, "since": since}
        told = {"rows": 0, "told_amount": 0, "told_nano_usd": 0, "due_at": next_midnight(since)}
        await self._insert(MeterRow, {**values, **told})

    async def gone(self, thing_id: str, at: datetime) -> None:
        """Nothing of the thing is kept from then on."""
        await self.session.execute(update(MeterRow).where(MeterRow.thing_id == thing_id).values(gone_at=at))

    async def items(self, thing_id: str) -> list[Item]:
        rows = await self.session.scalars(select(ItemRow).filter_by(thing_id=thing_id))
        return [Item(row.step, row.at, row.bytes, row.attempt) for row in rows]

    async def forget_items(self, thing_id: str) -> None:
        """Once nothing of the thing is metered any more: egress counts a job's checkpoints, too."""
        metered = select(MeterRow.thing_id).where(MeterRow.thing_id == thing_id, MeterRow.due_at.is_not(None))
        await self.session.execute(delete(ItemRow).where(ItemRow.thing_id == thing_id, ~metered.exists()))

    async def _insert(self, table: type[Base], values: dict[str, Any]) -> bool:
        statement = upsert(table).values(**values).on_conflict_do_nothing().returning(*table.__table__.primary_key)
        return (await self.session.execute(statement)).first() is not None


_OWNER = func.coalesce(func.nullif(DayRow.endpoint_id, ""), DayRow.job_id)
GROUPS: dict[str, Any] = {
    "day": DayRow.day,
    "kind": DayRow.kind,
    "job": DayRow.job_id,
    "endpoint": DayRow.endpoint_id,
    "project": func.coalesce(OwnerRow.project, ""),
}


def kind_of(event: events.SpendRecorded) -> str:
    return event.kind or COMPUTE


def row_of(event: events.SpendRecorded) -> dict[str, Any]:
    """A row of the ledger, by its columns."""
    machine = event.placement
    spot = machine.capacity_type == events.CAPACITY_TYPE_SPOT
    return {
        "job_id": event.job_id,
        "kind": kind_of(event),
        "interval": event.interval,
        "endpoint_id": event.endpoint_id,
        "tenant_id": event.tenant_id,
        "attempt": event.attempt,
        "machine_id": event.machine_id,
        "cloud": machine.cloud,
        "region": machine.region,
        "zone": machine.zone,
        "instance_type": machine.instance_type,
        "capacity_type": "spot" if spot else "on-demand",
        "started_at": moment(event.started_at),
        "ended_at": moment(event.ended_at),
        "price_usd_per_hour": event.price_usd_per_hour,
        "amount_nano_usd": event.amount_nano_usd,
        "on_demand_nano_usd": event.on_demand_nano_usd,
        "machines": event.machines or 1,
        "quantity": event.quantity,
        "unit": event.unit,
        "input_tokens": event.input_tokens,
        "output_tokens": event.output_tokens,
    }


def machine_microseconds(row: dict[str, Any]) -> int:
    """Of all machines of a row together; 0 for what is no machine."""
    if row["kind"] != COMPUTE:
        return 0
    return int((row["ended_at"] - row["started_at"]) // _MICROSECOND) * int(row["machines"])


def covered_by(tenant_id: str, scope: str, target: str) -> list[Any]:
    """Conditions on DayRow (joined with OwnerRow) of what a budget of this scope and target counts."""
    mine = DayRow.tenant_id == tenant_id
    if scope == "project":
        return [mine, OwnerRow.project == target]
    if scope == "endpoint":
        return [mine, DayRow.endpoint_id == target]
    if scope == "job":
        return [mine, DayRow.job_id == target, DayRow.kind == COMPUTE]
    return [mine]


def joined_days() -> Select[Any]:
    """The sum of amounts over days, with the owners joined."""
    return select(func.sum(DayRow.amount_nano_usd)).outerjoin(OwnerRow, OwnerRow.owner_id == _OWNER)


def not_after(column: Any, at: datetime) -> Any:
    """Null, or later than that."""
    return or_(column.is_(None), column > at)
