"""How each message of the cloud is dealt with once: told, known already, kept for later, or set aside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor import aws_interruptions, interruptions
from services.monitor.interruptions import Fact, Machine
from services.monitor.metrics import NOTICES
from services.monitor.sources import Raw
from services.monitor.tables import CursorRow, MachineRow, NoticeRow
from sskai import telemetry
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

# How long before its end a machine's notice is told, where nobody sets it otherwise.
LEAD_SECONDS = 1800.0
MAX_KEPT_BODY_CHARACTERS = 10_000
# Of what was set aside; more are counted, and not kept.
MAX_SET_ASIDE = 1_000
# A word on a machine that nobody calls ours within this time is not about ours: an account's rules tell of all of them.
STRANGER_RETENTION = timedelta(hours=1)
MAX_STRANGERS = 20_000
# Longer than any machine of ours lives (services/scheduler/launching.py ends each after a month).
MACHINE_RETENTION = timedelta(days=32)
# What was set aside waits for somebody to look; ids of messages are kept only to know them again.
ASIDE_RETENTION, ID_RETENTION = timedelta(days=14), timedelta(days=1)
SEEN_AGAIN_SECONDS = 3600.0  # so often a machine's row is told that it is still in use
DUE_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Desk:
    """One transaction's view of what the cloud says. `lead_seconds`: how long before its end a machine's is told."""

    session: AsyncSession
    now: datetime
    lead_seconds: float

    async def take(self, source: str, raw: Raw, *, ours: bool) -> None:
        """Tell what a message says, unless it was told before; set aside what cannot be read.

        `ours`: the source speaks of our machines only. Of others it is kept until somebody says whose the machine is.
        """
        try:
            notice = aws_interruptions.parse(raw.body, source=source, notice_seconds=raw.notice_seconds)
        except aws_interruptions.MalformedError as problem:
            await self.set_aside(source, raw, str(problem))
            return
        if not notice.known:
            # One of each kind is enough to see what the rules let through.
            await self._keep_aside(f"{source}:{notice.kind}", source, raw, f"an unknown kind of message: {notice.kind}")
            NOTICES.labels(source=source, outcome="unknown-kind").inc()
        elif not notice.facts:
            NOTICES.labels(source=source, outcome="not-about-losing-machines").inc()
        elif not await self._remember(notice_id=notice.id, source=source):
            NOTICES.labels(source=source, outcome="repeated").inc()
        else:
            for fact in notice.facts:
                NOTICES.labels(source=source, outcome=await self._hear(fact, ours)).inc()

    async def _hear(self, fact: Fact, ours: bool) -> str:
        row = await self._machine(fact.machine_id)
        known = _machine_of(row)
        after = interruptions.heard(known, fact)
        if after is known:
            return "known"
        if ours:
            after = replace(after, ours=True)
        if await self._tell(row, after):
            return "told"
        return "early" if after.ours else "not-ours"

    async def is_ours(self, machine_ids: Iterable[str], tenant_id: str) -> None:
        """These machines run something of ours, of the trace that is active: what was heard of them is told now."""
        fresh = self.now - timedelta(seconds=SEEN_AGAIN_SECONDS)
        for machine_id in sorted(machine_ids):
            known = await self.session.get(MachineRow, machine_id)
            if known is not None and known.ours and known.seen_at > fresh:
                continue
            row = await self._machine(machine_id)
            row.seen_at, row.tenant_id = self.now, tenant_id
            row.traceparent = row.traceparent or telemetry.current_traceparent()
            await self._tell(row, replace(_machine_of(row), ours=True))

    async def was_told(self, fact: Fact) -> None:
        """Somebody told everybody so, perhaps we ourselves."""
        row = await self._machine(fact.machine_id)
        _write(row, interruptions.told_by_others(_machine_of(row), fact))

    async def tell_due(self) -> None:
        """The notices that were told to nobody because their end was far."""
        due = select(MachineRow).where(MachineRow.due_at <= self.now).order_by(MachineRow.due_at)
        for row in await self.session.scalars(due.limit(DUE_AT_ONCE).with_for_update(skip_locked=True)):
            await self._tell(row, _machine_of(row))

    async def _tell(self, row: MachineRow, machine: Machine) -> bool:
        """Whether something was told. It belongs to the trace of what runs on the machine."""
        machine, facts, row.due_at = interruptions.to_tell(machine, self.now, self.lead_seconds)
        _write(row, machine)
        if not facts:
            return False
        with telemetry.tracer().start_as_current_span(
            "cloud's word",
            context=telemetry.context_from(row.traceparent),
            attributes={"sskai.tenant": row.tenant_id, "sskai.machine": row.machine_id},
        ):
            await tell(self.session, *facts)
        return True

    async def _machine(self, machine_id: str) -> MachineRow:
        """What is known of a machine, locked; a new row if this is the first that is heard of it."""
        new = upsert(MachineRow).values(machine_id=machine_id, seen_at=self.now)
        await self.session.execute(new.on_conflict_do_nothing())
        statement = select(MachineRow).filter_by(machine_id=machine_id).with_for_update()
        return (await self.session.scalars(statement.execution_options(populate_existing=True))).one()

    async def set_aside(self, source: str, raw: Raw, problem: str) -> None:
        """Keep what cannot be read, or not be handled, with its reason; the same thing once."""
        digest = hashlib.sha256(_text(raw).encode(errors="replace")).hexdigest()[:32]
        await self._keep_aside(f"{source}:{digest}", source, raw, problem)
        NOTICES.labels(source=source, outcome="set-aside").inc()

    async def _keep_aside(self, notice_id: str, source: str, raw: Raw, problem: str) -> None:
        kept = await self.session.scalar(select(func.count()).where(NoticeRow.problem.is_not(None))) or 0
        if kept >= MAX_SET_ASIDE:
            return
        body = _text(raw)[:MAX_KEPT_BODY_CHARACTERS]
        if await self._remember(notice_id=notice_id, source=source, problem=problem, body=body):
            log.warning("interruption message set aside", source=source, problem=problem)

    async def _remember(self, **columns: str) -> bool:
        """False: this message was dealt with before."""
        values = upsert(NoticeRow).values(**columns, received_at=self.now)
        found = await self.session.execute(values.on_conflict_do_nothing().returning(NoticeRow.notice_id))
        return found.first() is not None

    async def forget(self) -> None:
        """Messages past their time, strangers' machines, and those of ours that are long gone."""
        read = NoticeRow.problem.is_(None) & (NoticeRow.received_at < self.now - ID_RETENTION)
        await self.session.execute(delete(NoticeRow).where(read | (NoticeRow.received_at < self.now - ASIDE_RETENTION)))
        stranger = MachineRow.ours.is_(False)
        await self.session.execute(
            delete(MachineRow).where(stranger, MachineRow.seen_at < self.now - STRANGER_RETENTION)
        )
        await self.session.execute(delete(MachineRow).where(MachineRow.seen_at < self.now - MACHINE_RETENTION))
        newest = select(MachineRow.machine_id).where(stranger).order_by(MachineRow.seen_at.desc()).offset(MAX_STRANGERS)
        await self.session.execute(delete(MachineRow).where(stranger, MachineRow.machine_id.in_(newest)))


def _text(raw: Raw) -> str:
    text = raw.body if isinstance(raw.body, str) else json.dumps(raw.body, default=str)
    return text.replace("\0", "").encode(errors="replace").decode()


def _machine_of(row: MachineRow) -> Machine:
    return Machine(
        row.machine_id,
        row.ours,
        events.InterruptionNoticed.FromString(row.notice) if row.notice is not None else None,
        row.notice_told,
        events.MachineLost.FromString(row.loss) if row.loss is not None else None,
        row.loss_told,
    )


def _write(row: MachineRow, machine: Machine) -> None:
    row.ours, row.notice_told, row.loss_told = machine.ours, machine.notice_told, machine.loss_told
    row.notice = machine.notice.SerializeToString() if machine.notice is not None else None
    row.loss = machine.loss.SerializeToString() if machine.loss is not None else None


async def cursor(session: AsyncSession, source: str) -> int:
    """How far a source was read; 0 at the beginning."""
    return await session.scalar(select(CursorRow.sequence).filter_by(source=source)) or 0


async def move_cursor(session: AsyncSession, source: str, sequence: int) -> None:
    """Forwards only: of two replicas that read the same source, the slower one may come last."""
    statement = upsert(CursorRow).values(source=source, sequence=sequence)
    furthest = func.greatest(CursorRow.sequence, statement.excluded.sequence)
    await session.execute(statement.on_conflict_do_update(index_elements=["source"], set_={"sequence": furthest}))
