"""The audit log of a project: read, and checked against its chain of hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import desc, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import AuditRow, TenantRow

ROWS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """`broken_at`: the number of the first entry that is missing, or is not what was written; None: there is none."""

    entries: int
    broken_at: int | None


class Audit:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def entries(
        self,
        tenant_id: str,
        after: str | None,
        limit: int,
        *,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
    ) -> list[AuditRow]:
        """Newest first. `actor`: an id or a name."""
        query = select(AuditRow).where(AuditRow.tenant_id == tenant_id).order_by(desc(AuditRow.seq)).limit(limit)
        if after is not None:
            last = select(AuditRow.seq).where(AuditRow.tenant_id == tenant_id, AuditRow.entry_id == after)
            query = query.where(AuditRow.seq < last.scalar_subquery())
        if actor is not None:
            query = query.where((AuditRow.actor_id == actor) | (AuditRow.actor_name == actor))
        if action is not None:
            query = query.where(AuditRow.action == action)
        if target is not None:
            query = query.where(AuditRow.target == target)
        return list(await self.session.scalars(query))

    async def verify(self, tenant_id: str) -> Verdict:
        """Each entry is what was written and follows the one before; the last one is that which the project names."""
        # The end first: entries that come meanwhile are behind it, and not looked at.
        end = (TenantRow.audit_seq, TenantRow.audit_sha256)
        last, last_sha256 = (await self.session.execute(select(*end).where(TenantRow.tenant_id == tenant_id))).one()
        known, previous = 0, ""
        while True:
            of_tenant = (AuditRow.tenant_id == tenant_id) & (AuditRow.seq > known) & (AuditRow.seq <= last)
            query = select(AuditRow).where(of_tenant).order_by(AuditRow.seq).limit(ROWS_AT_ONCE)
            rows = list(await self.session.scalars(query))
            for row in rows:
                if row.seq != known + 1 or row.previous_sha256 != previous or row.sha256 != digest(row):
                    return Verdict(last, known + 1)
                known, previous = row.seq, row.sha256
            self.session.expunge_all()
            if len(rows) < ROWS_AT_ONCE:
                break
        whole = known == last and previous == last_sha256
        return Verdict(last, None if whole else min(known + 1, max(last, 1)))


def written(at: datetime) -> str:
    """A time as it is hashed: always with six digits of microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def digest(row: AuditRow) -> str:
    """SHA-256 of the entry's lines, as `write_audit` made it."""
    lines = (
        row.tenant_id,
        row.seq,
        written(row.at),
        row.actor_kind,
        row.actor_id,
        row.actor_name,
        row.action,
        row.target,
        row.status,
        row.before_sha256 or "",
        row.after_sha256 or "",
        row.previous_sha256,
    )
    return hashlib.sha256("\n".join(map(str, lines)).encode()).hexdigest()
