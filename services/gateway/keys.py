"""API keys: shown once, kept as SHA-256, found by their first characters, compared in constant time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from weakref import WeakValueDictionary

from sqlalchemy import desc, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import KeyRow
from sskai.contract import new_id

KEY_PREFIX = "sskai_"
SHOWN_CHARACTERS = 14
MAX_KEY_CHARACTERS = 200
DEFAULT_TENANT = "tenant_default"
OPERATORS_KEY = "from SSKAI_ADMIN_KEY"
KNOWN_SECONDS = 2.0  # a revoked key is refused everywhere after so long
MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    tenant_id: str
    key_id: str
    admin: bool
    sampled: bool = True  # False: what it asks is not told as InferenceSampled


class KnownKeys:
    """Keys that were found valid a moment ago: not every request asks the database. In memory their hashes alone."""

    def __init__(self, seconds: float = KNOWN_SECONDS, most: int = MOST_KNOWN) -> None:
        self._seconds = seconds
        self._most = most
        self._known: dict[str, tuple[Principal, float]] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def principal(self, key: str, now: float) -> Principal | None:
        """None: ask the database. `now` is of a clock that never goes back, in seconds."""
        principal, until = self._known.get(_sha256(key), (None, 0.0))
        return principal if now < until else None

    def remember(self, key: str, principal: Principal, now: float) -> None:
        if len(self._known) >= self._most:
            self._known = {digest: one for digest, one in self._known.items() if now < one[1]}
        if len(self._known) < self._most:
            self._known[_sha256(key)] = (principal, now + self._seconds)

    def turn(self, key: str) -> asyncio.Lock:
        """Of many requests with one key that come at once, one asks the database, and the others know it then."""
        return self._asking.setdefault(_sha256(key), asyncio.Lock())

    def forget(self) -> None:
        """A key was revoked here: it is refused at once. Other processes learn it within `seconds`."""
        self._known.clear()


class Keys:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def principal(self, key: str) -> Principal | None:
        """Whose key this is; None: nobody's, or it was revoked."""
        if (
            not key.startswith(KEY_PREFIX)
            or len(key) > MAX_KEY_CHARACTERS
            or not key.isascii()
            or not key.isprintable()
        ):
            return None
        query = select(KeyRow).where(KeyRow.prefix == key[:SHOWN_CHARACTERS], KeyRow.revoked_at.is_(None)).limit(100)
        digest = _sha256(key)
        for row in await self.session.scalars(query):
            if hmac.compare_digest(row.sha256, digest):
                return Principal(row.tenant_id, row.key_id, row.admin, row.sampled)
        return None

    async def create(
        self, tenant_id: str, name: str, now: datetime, *, admin: bool = False, sampled: bool = True
    ) -> tuple[KeyRow, str]:
        """A new key, and its text, which is nowhere afterwards."""
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        return await self._add(key, tenant_id, name, now, admin=admin, sampled=sampled), key

    async def ensure_admin(self, key: str, now: datetime) -> None:
        """The operator's key is valid, and those that were it before are not."""
        # Replicas that start at the same time take turns: the second sees the first one's row.
        await self.session.execute(text("SELECT pg_advisory_xact_lock(hashtext('operators-key'))"))
        former = (KeyRow.name == OPERATORS_KEY) & KeyRow.admin & KeyRow.revoked_at.is_(None)
        rows = list(await self.session.scalars(select(KeyRow).where(former).with_for_update()))
        for row in rows:
            if row.sha256 != _sha256(key):
                row.revoked_at = now
        if not any(row.revoked_at is None for row in rows):
            await self._add(key, DEFAULT_TENANT, OPERATORS_KEY, now, admin=True)

    async def of_tenant(self, tenant_id: str, after: str | None, limit: int) -> list[KeyRow]:
        """Newest first, revoked ones too."""
        query = select(KeyRow).where(KeyRow.tenant_id == tenant_id)
        if after is not None:
            query = query.where(KeyRow.key_id < after)
        return list(await self.session.scalars(query.order_by(desc(KeyRow.key_id)).limit(limit)))

    async def revoke(self, tenant_id: str, key_id: str, now: datetime) -> bool:
        """False: the tenant has no such key that is valid."""
        statement = (
            update(KeyRow)
            .where(KeyRow.tenant_id == tenant_id, KeyRow.key_id == key_id, KeyRow.revoked_at.is_(None))
            .values(revoked_at=now)
            .returning(KeyRow.key_id)
        )
        return await self.session.scalar(statement) is not None

    async def _add(
        self, key: str, tenant_id: str, name: str, now: datetime, *, admin: bool, sampled: bool = True
    ) -> KeyRow:
        row = KeyRow(
            key_id=new_id("key"),
            tenant_id=tenant_id,
            name=name,
            prefix=key[:SHOWN_CHARACTERS],
            sha256=_sha256(key),
            admin=admin,
            sampled=sampled,
            created_at=now,
            revoked_at=None,
        )
        self.session.add(row)
        await self.session.flush()
        return row


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
