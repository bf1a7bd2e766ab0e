"""API keys: shown once, kept as SHA-256, found by their first characters, compared in constant time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from sqlalchemy import ColumnElement, desc, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.access import SCOPES, Scope
from services.gateway.tables import KeyRow
from sskai.contract import new_id

KEY_PREFIX = "sskai_"
SHOWN_CHARACTERS = 14
MAX_KEY_CHARACTERS = 200
DEFAULT_TENANT = "tenant_default"
OPERATORS_KEY = "from SSKAI_ADMIN_KEY"
KNOWN_SECONDS = 2.0  # a revoked key is refused everywhere after so long
MOST_KNOWN = 10_000
USE_NOTED_AFTER = timedelta(minutes=1)  # a row is not written for each request


@dataclass(frozen=True, slots=True)
class Actor:
    """Whose act it is, as the audit log names them. `kind`: user, key or operator."""

    kind: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `tenant_id` empty: somebody who is in no project."""

    tenant_id: str
    key_id: str  # by which requests are counted: a key's, or a person's
    actor: Actor
    scopes: frozenset[Scope]
    operator: bool = False
    sampled: bool = True  # False: what it asks is not told as InferenceSampled
    valid_until: datetime | None = None


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

    def remember(self, key: str, principal: Principal, now: float, seconds_left: float = math.inf) -> None:
        """`seconds_left`: until the key itself ends."""
        if len(self._known) >= self._most:
            self._known = {digest: one for digest, one in self._known.items() if now < one[1]}
        if len(self._known) < self._most:
            self._known[_sha256(key)] = (principal, now + min(self._seconds, seconds_left))

    def turn(self, key: str) -> asyncio.Lock:
        """Of many requests with one key that come at once, one asks the database, and the others know it then."""
        return self._asking.setdefault(_sha256(key), asyncio.Lock())

    def forget(self) -> None:
        """A key was revoked here: it is refused at once. Other processes learn it within `seconds`."""
        self._known.clear()


class Keys:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def principal(self, key: str, now: datetime) -> Principal | None:
        """Whose key this is; None: nobody's, or it was revoked, or its time is over. Its use is noted."""
        if (
            not key.startswith(KEY_PREFIX)
            or len(key) > MAX_KEY_CHARACTERS
            or not key.isascii()
            or not key.isprintable()
        ):
            return None
        query = select(KeyRow).where(KeyRow.prefix == key[:SHOWN_CHARACTERS], _valid(now)).limit(100)
        digest = _sha256(key)
        for row in await self.session.scalars(query):
            if hmac.compare_digest(row.sha256, digest):
                if row.last_used_at is None or row.last_used_at <= now - USE_NOTED_AFTER:
                    row.last_used_at = now
                return principal_of(row)
        return None

    async def valid(self, key_id: str, now: datetime) -> KeyRow | None:
        """The key, unless it was revoked or its time is over."""
        row: KeyRow | None = await self.session.scalar(select(KeyRow).where(KeyRow.key_id == key_id, _valid(now)))
        return row

    async def create(
        self,
        tenant_id: str,
        name: str,
        now: datetime,
        *,
        scopes: Iterable[Scope] = SCOPES,
        operator: bool = False,
        sampled: bool = True,
        expires_at: datetime | None = None,
        created_by: str = "",
    ) -> tuple[KeyRow, str]:
        """A new key, and its text, which is nowhere afterwards."""
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        row = _row(key, tenant_id, name, now, scopes=scopes, operator=operator)
        row.sampled, row.expires_at, row.created_by = sampled, expires_at, created_by
        self.session.add(row)
        await self.session.flush()
        return row, key

    async def ensure_admin(self, key: str, now: datetime) -> None:
        """The operator's key is valid, and those that were it before are not."""
        # Replicas that start at the same time take turns: the second sees the first one's row.
        await self.session.execute(text("SELECT pg_advisory_xact_lock(hashtext('operators-key'))"))
        former = (KeyRow.name == OPERATORS_KEY) & KeyRow.operator & KeyRow.revoked_at.is_(None)
        rows = list(await self.session.scalars(select(KeyRow).where(former).with_for_update()))
        for row in rows:
            if row.sha256 != _sha256(key):
                row.revoked_at = now
        if not any(row.revoked_at is None for row in rows):
            self.session.add(_row(key, DEFAULT_TENANT, OPERATORS_KEY, now, scopes=SCOPES, operator=True))

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


def principal_of(row: KeyRow) -> Principal:
    """Who acts by a key."""
    return Principal(
        tenant_id=row.tenant_id,
        key_id=row.key_id,
        actor=Actor("operator" if row.operator else "key", row.key_id, row.name),
        scopes=frozenset(map(Scope, row.scopes)),
        operator=row.operator,
        sampled=row.sampled,
        valid_until=row.expires_at,
    )


def _valid(now: datetime) -> ColumnElement[bool]:
    return KeyRow.revoked_at.is_(None) & or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > now)


def _row(key: str, tenant_id: str, name: str, now: datetime, *, scopes: Iterable[Scope], operator: bool) -> KeyRow:
    return KeyRow(
        key_id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        prefix=key[:SHOWN_CHARACTERS],
        sha256=_sha256(key),
        operator=operator,
        scopes=[scope.value for scope in SCOPES if scope in scopes],
        sampled=True,
        created_by="",
        created_at=now,
    )


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
