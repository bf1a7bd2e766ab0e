"""Movable names of a model's versions: `NAME@champion` answers users, `NAME@challenger` is tried."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import AliasRow, ModelRow

CHAMPION, CHALLENGER = "champion", "challenger"


class Aliases:
    """The newest word counts, in whatever order words come."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def of(self, tenant_id: str, name: str) -> list[AliasRow]:
        """Those of a model that point somewhere."""
        query = select(AliasRow).where(
            AliasRow.tenant_id == tenant_id, AliasRow.name == name, AliasRow.version.is_not(None)
        )
        return list(await self.session.scalars(query.order_by(AliasRow.alias)))

    async def lock(self, tenant_id: str, name: str) -> None:
        """Aliases of one model are moved by hand one after the other."""
        await self.session.execute(
            text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"aliases:{tenant_id}:{name}"}
        )

    async def name_of(self, tenant_id: str, model_id: str) -> str | None:
        """By what name users know a model of theirs."""
        query = select(ModelRow.name).where(ModelRow.tenant_id == tenant_id, ModelRow.model_id == model_id)
        return await self.session.scalar(query.limit(1))

    async def move(self, tenant_id: str, name: str, alias: str, to: tuple[str, int | None], *, at: datetime) -> None:
        """`to`: a model's id and the version; None: to none."""
        model_id, version = to
        statement = upsert(AliasRow).values(
            tenant_id=tenant_id, name=name, alias=alias, model_id=model_id, version=version, moved_at=at
        )
        await self.session.execute(
            statement.on_conflict_do_update(
                index_elements=["tenant_id", "name", "alias"],
                set_={one: statement.excluded[one] for one in ("model_id", "version", "moved_at")},
                where=AliasRow.moved_at <= statement.excluded.moved_at,
            )
        )

    async def set_first_champion(self, tenant_id: str, name: str, model_id: str, version: int, *, at: datetime) -> None:
        """The version of the first endpoint, unless somebody has named another one."""
        statement = upsert(AliasRow).values(
            tenant_id=tenant_id, name=name, alias=CHAMPION, model_id=model_id, version=version, moved_at=at
        )
        await self.session.execute(statement.on_conflict_do_nothing())

    async def withdraw(self, tenant_id: str, name: str, version: int, at: datetime) -> None:
        """The version is no challenger any more; another one may be."""
        rows = [one for one in await self.of(tenant_id, name) if one.alias == CHALLENGER and one.version == version]
        for row in rows:
            await self.move(tenant_id, name, CHALLENGER, (row.model_id, None), at=at)
