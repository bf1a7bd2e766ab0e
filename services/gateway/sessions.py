"""Signed-in browsers: a random token in a cookie, its SHA-256 in the database; links that sign in once."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.access import SCOPES_OF, Role
from services.gateway.keys import Actor, Keys, Principal, principal_of
from services.gateway.people import People
from services.gateway.tables import LinkRow, SessionRow
from sskai.contract import new_id

UNUSED = timedelta(hours=12)
AT_MOST = timedelta(days=30)
LINK_LIVES = timedelta(minutes=5)
USE_NOTED_AFTER = timedelta(minutes=1)  # a row is not written for each request


class Sessions:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def begin(
        self, now: datetime, tenant_id: str, *, user_id: str | None = None, key_id: str | None = None
    ) -> tuple[SessionRow, str]:
        """A new session, and its token, which is nowhere afterwards."""
        token = secrets.token_urlsafe(32)
        row = SessionRow(
            session_id=new_id("session"),
            token_sha256=_sha256(token),
            user_id=user_id,
            key_id=key_id,
            tenant_id=tenant_id,
            created_at=now,
            expires_at=now + UNUSED,
            ends_at=now + AT_MOST,
        )
        self.session.add(row)
        await self.session.flush()
        return row, token

    async def find(self, token: str, now: datetime) -> SessionRow | None:
        """The session, if its time is not over; its use moves its end."""
        query = select(SessionRow).where(SessionRow.token_sha256 == _sha256(token))
        row: SessionRow | None = await self.session.scalar(query)
        if row is None or now >= min(row.expires_at, row.ends_at):
            return None
        if row.expires_at < now + UNUSED - USE_NOTED_AFTER:
            row.expires_at = now + UNUSED
        return row

    async def principal(self, token: str, now: datetime) -> Principal | None:
        """Who acts by a session now: what its key may, or its person in the project that was chosen."""
        row = await self.find(token, now)
        if row is None:
            return None
        if row.key_id is not None:
            key = await Keys(self.session).valid(row.key_id, now)
            if key is None:
                return None
            # An operator may have chosen another project.
            return replace(principal_of(key), tenant_id=row.tenant_id if key.operator else key.tenant_id)
        return await principal_of_user(self.session, row.user_id or "", row.tenant_id)

    async def end(self, session_id: str) -> None:
        await self.session.execute(delete(SessionRow).where(SessionRow.session_id == session_id))

    async def add_link(self, tenant_id: str, key_id: str, now: datetime) -> tuple[str, datetime]:
        """A token that signs in once, and until when."""
        token, until = secrets.token_urlsafe(32), now + LINK_LIVES
        self.session.add(LinkRow(token_sha256=_sha256(token), tenant_id=tenant_id, key_id=key_id, expires_at=until))
        return token, until

    async def take_link(self, token: str, now: datetime) -> LinkRow | None:
        """Of two that use a link at once, one gets it."""
        statement = (
            delete(LinkRow).where(LinkRow.token_sha256 == _sha256(token), LinkRow.expires_at > now).returning(LinkRow)
        )
        row: LinkRow | None = await self.session.scalar(statement)
        return row

    async def forget(self, now: datetime) -> None:
        """What is over is deleted."""
        await self.session.execute(
            delete(SessionRow).where((SessionRow.expires_at <= now) | (SessionRow.ends_at <= now))
        )
        await self.session.execute(delete(LinkRow).where(LinkRow.expires_at <= now))


async def principal_of_user(session: AsyncSession, user_id: str, tenant_id: str) -> Principal | None:
    """A person in a project; in none if they are no member of it (any more). None: there is no such person."""
    people = People(session)
    user = await people.user(user_id)
    if user is None:
        return None
    member = await people.member_of(tenant_id, user_id)
    return Principal(
        tenant_id=tenant_id if member else "",
        key_id=user_id,
        actor=Actor("user", user_id, user.email or user.name),
        scopes=SCOPES_OF[Role(member.role)] if member else frozenset(),
    )


def csrf_token(token: str) -> str:
    """What a session's pages send with every change. Whoever knows it does not know the session's token."""
    return hashlib.sha256(b"csrf\0" + token.encode()).hexdigest()


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
