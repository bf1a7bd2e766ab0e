"""Projects and the people in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import desc, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.access import Role
from services.gateway.tables import MemberRow, TenantRow, UserRow
from sskai.contract import new_id

MAX_NAME_CHARACTERS = 100


class LastAdminError(Exception):
    """A project keeps an admin."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as their identity provider tells it. `email` empty: none, or one that was not verified."""

    issuer: str
    subject: str
    email: str
    name: str


class People:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    # Projects

    async def tenant(self, tenant_id: str) -> TenantRow | None:
        return await self.session.get(TenantRow, tenant_id)

    async def ensure_tenant(self, tenant_id: str, now: datetime) -> None:
        """There is a project of this id, named after it until somebody says otherwise."""
        values = {"tenant_id": tenant_id, "name": tenant_id.removeprefix("tenant_") or tenant_id, "created_at": now}
        await self.session.execute(upsert(TenantRow).values(**values).on_conflict_do_nothing())

    def add_tenant(self, tenant_id: str, name: str, now: datetime) -> TenantRow:
        row = TenantRow(tenant_id=tenant_id, name=name, created_at=now)
        self.session.add(row)
        return row

    async def tenants(self, after: str | None, limit: int) -> list[TenantRow]:
        """All of the installation, newest first."""
        place = tuple_(TenantRow.created_at, TenantRow.tenant_id)
        query = select(TenantRow).order_by(desc(TenantRow.created_at), desc(TenantRow.tenant_id)).limit(limit)
        if after is not None:
            before = select(TenantRow.created_at, TenantRow.tenant_id).where(TenantRow.tenant_id == after)
            query = query.where(place < before.scalar_subquery())
        return list(await self.session.scalars(query))

    async def memberships(self, user_id: str) -> list[tuple[TenantRow, MemberRow]]:
        """The projects that a person is in, by name."""
        query = (
            select(TenantRow, MemberRow)
            .join(MemberRow, MemberRow.tenant_id == TenantRow.tenant_id)
            .where(MemberRow.user_id == user_id)
            .order_by(TenantRow.name, TenantRow.tenant_id)
        )
        return [(tenant, member) for tenant, member in await self.session.execute(query)]

    # People

    async def user(self, user_id: str) -> UserRow | None:
        return await self.session.get(UserRow, user_id)

    async def user_named(self, issuer: str, subject: str) -> UserRow | None:
        query = select(UserRow).where(UserRow.issuer == issuer, UserRow.subject == subject)
        row: UserRow | None = await self.session.scalar(query)
        return row

    async def known(self, person: Person, now: datetime) -> UserRow:
        """The person's row, with what is new about them."""
        values = {"user_id": new_id("user"), "issuer": person.issuer, "subject": person.subject, "created_at": now}
        news = {"name": person.name, **({"email": person.email} if person.email else {})}
        statement = upsert(UserRow).values(**values, email=person.email, name=person.name)
        statement = statement.on_conflict_do_update(index_elements=["issuer", "subject"], set_=news)
        return (await self.session.scalars(statement.returning(UserRow))).one()

    async def invitations(self, email: str) -> list[tuple[str, str]]:
        """The projects that a verified address was invited to and is not in yet, with the ids of its members there."""
        if not email:
            return []
        query = select(MemberRow.tenant_id, MemberRow.member_id)
        invited = query.where(MemberRow.email == email, MemberRow.user_id.is_(None))
        return [(tenant_id, member_id) for tenant_id, member_id in await self.session.execute(invited)]

    async def join(self, member_id: str, user: UserRow) -> None:
        """An invitation is taken; once."""
        free = (MemberRow.member_id == member_id) & MemberRow.user_id.is_(None)
        await self.session.execute(update(MemberRow).where(free).values(user_id=user.user_id, name=user.name))

    # Members

    async def member_of(self, tenant_id: str, user_id: str) -> MemberRow | None:
        query = select(MemberRow).where(MemberRow.tenant_id == tenant_id, MemberRow.user_id == user_id)
        row: MemberRow | None = await self.session.scalar(query)
        return row

    async def member(self, tenant_id: str, member_id: str) -> MemberRow | None:
        query = select(MemberRow).where(MemberRow.tenant_id == tenant_id, MemberRow.member_id == member_id)
        row: MemberRow | None = await self.session.scalar(query)
        return row

    async def members(self, tenant_id: str, after: str | None, limit: int) -> list[MemberRow]:
        """Newest first, invited ones too."""
        query = select(MemberRow).where(MemberRow.tenant_id == tenant_id)
        if after is not None:
            query = query.where(MemberRow.member_id < after)
        return list(await self.session.scalars(query.order_by(desc(MemberRow.member_id)).limit(limit)))

    async def add_member(
        self, tenant_id: str, email: str, role: Role, now: datetime, user: UserRow | None = None
    ) -> MemberRow | None:
        """Invited, or in it at once if the `user` is given. None: the address is in the project already."""
        values = {"tenant_id": tenant_id, "email": email.lower(), "role": role.value, "created_at": now}
        values |= {"member_id": new_id("member"), "name": user.name if user else ""}
        statement = upsert(MemberRow).values(**values, user_id=user.user_id if user else None)
        row: MemberRow | None = await self.session.scalar(statement.on_conflict_do_nothing().returning(MemberRow))
        return row

    async def set_role(self, member: MemberRow, role: Role) -> None:
        """Raises LastAdminError."""
        if role is not Role.ADMIN:
            await self._require_another_admin(member)
        member.role = role.value

    async def remove(self, member: MemberRow) -> None:
        """Raises LastAdminError."""
        await self._require_another_admin(member)
        await self.session.delete(member)

    async def _require_another_admin(self, member: MemberRow) -> None:
        # The project's admins are locked in one order: of two that remove each other one finds itself the last.
        admins = select(MemberRow.member_id).where(
            MemberRow.tenant_id == member.tenant_id, MemberRow.role == Role.ADMIN, MemberRow.user_id.is_not(None)
        )
        locked = await self.session.scalars(admins.order_by(MemberRow.member_id).with_for_update())
        others = [member_id for member_id in locked if member_id != member.member_id]
        if member.role == Role.ADMIN and member.user_id is not None and not others:
            raise LastAdminError(member.member_id)

    async def count(self, tenant_id: str) -> int:
        query = select(func.count()).select_from(MemberRow).where(MemberRow.tenant_id == tenant_id)
        return await self.session.scalar(query) or 0
