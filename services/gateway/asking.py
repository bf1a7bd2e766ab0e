"""The request that is answered just now: whose rows its transactions see, and what the audit log says of it.

`authenticate` sets it for the request's task, and `Requests.around` surrounds every transaction of that task: no route
can forget either. Handlers and loops answer nobody: they see the rows of all tenants, and are not audited.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.keys import Actor
from services.gateway.rowsecurity import ROLE
from sskai.contract import new_id
from sskai.database import Database
from sskai.delivery import has_objects, outbox_insert, outbox_values, tell_later
from sskai.statements import Statement

log = structlog.get_logger()

MAX_TEXT_CHARACTERS = 200
OWNER = "none"  # the role that one has without another

_BEGIN = Statement(
    text(
        "SELECT concat(set_config('role', :role, true), set_config('sskai.tenant', :tenant, true), "
        "set_config('sskai.audited', :audited, true), set_config('sskai.before', '', true), "
        "set_config('sskai.after', '', true), set_config('sskai.made', '', true), set_config('sskai.target', '', true))"
    )
)
_ENTRY = "SELECT gateway.write_audit(:entry, :kind, :actor, :name, :action, :target, :status, :always)"
_WRITE = Statement(text(_ENTRY))
_TELL_AND_WRITE = Statement(text(f"WITH told AS ({outbox_insert('gateway')}) {_ENTRY}"))
_USABLE = text(
    "SELECT count(*) = 1 FROM pg_roles WHERE rolname = :role AND pg_has_role(rolname, 'MEMBER') "
    "AND has_schema_privilege(rolname, 'gateway', 'USAGE')"
)


@dataclass(frozen=True, slots=True)
class Asking:
    """`action` None: it changes nothing. `as_owner`: rows of all tenants are seen, for what crosses projects."""

    tenant_id: str
    actor: Actor
    action: str | None = None
    target: str = ""
    status: int = 200
    as_owner: bool = False

    @property
    def audited(self) -> bool:
        """Who is in no project leaves no trace in one."""
        return self.action is not None and self.tenant_id != ""


_asking: ContextVar[Asking | None] = ContextVar("asking", default=None)


def begin(asking: Asking | None) -> None:
    """From now on this task answers that request; None: nobody is known yet.

    A server may answer a request that was sent ahead of the answer in the context of the one before it."""
    _asking.set(asking)


@contextmanager
def acting_for(tenant_id: str, *, as_owner: bool = False) -> Iterator[None]:
    """What the block does, it does for that tenant."""
    asking = _asking.get()
    assert asking is not None, "only a request acts for somebody"
    token = _asking.set(replace(asking, tenant_id=tenant_id, as_owner=as_owner))
    try:
        yield
    finally:
        _asking.reset(token)


@contextmanager
def crossing_projects() -> Iterator[None]:
    """The block looks at rows of several projects, and changes none: a person's list of projects."""
    token = _asking.set(None)
    try:
        yield
    finally:
        _asking.reset(token)


class Requests:
    """What surrounds the transactions of requests. `role`: as whom they run."""

    def __init__(self, role: str) -> None:
        self._role = role

    @classmethod
    async def of(cls, database: Database) -> Requests:
        """As the role that sees one tenant's rows; as the owner, and with a warning, where there is none."""
        async with database.transaction() as session:
            usable = await session.scalar(_USABLE, {"role": ROLE})
        if not usable:
            log.warning("requests run as the owner of the tables: row-level security does not bind them", role=ROLE)
        return cls(ROLE if usable else OWNER)

    @asynccontextmanager
    async def around(self, session: AsyncSession) -> AsyncIterator[None]:
        """Rows of the tenant alone; at the end, an entry of the audit log if something changed."""
        asking = _asking.get()
        if asking is None:
            yield
            return
        role = OWNER if asking.as_owner else self._role
        audited = "on" if asking.audited else ""
        await _BEGIN.all(session, {"role": role, "tenant": asking.tenant_id, "audited": audited})
        if not asking.audited:
            yield
            return
        told = tell_later(session)
        yield
        if has_objects(session):
            await session.flush()
        await _write(session, asking, told, always=False)


async def record(database: Database, status: int) -> None:
    """An entry for what changes nothing here: it was refused, or another service will do it."""
    asking = _asking.get()
    if asking is not None and asking.audited:
        async with database.transaction() as session:
            await _write(session, replace(asking, status=status), [], always=True)


async def _write(session: AsyncSession, asking: Asking, told: list[dict[str, Any]], *, always: bool) -> None:
    """The entry, and the events of the same transaction with it."""
    entry = {
        "entry": new_id("audit"),
        "kind": asking.actor.kind,
        "actor": asking.actor.id,
        "name": _line(asking.actor.name),
        "action": asking.action,
        "target": _line(asking.target),
        "status": asking.status,
        "always": always,
    }
    if told:
        await _TELL_AND_WRITE.all(session, {**entry, **outbox_values(told)})
    else:
        await _WRITE.all(session, entry)


def _line(words: str) -> str:
    """A name or an id from outside, on one line: lines are what is hashed."""
    return "".join(character if character.isprintable() else " " for character in words)[:MAX_TEXT_CHARACTERS]
