"""The loop that leads new versions to their endpoints' names, or back. All of it is one transaction a turn: a process
that is killed in between has done nothing, and the next one does it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference import promotion
from services.inference.domain import Endpoint, State
from services.inference.promotion import Figures, Rollout, Seen, Stage
from services.inference.rollouts import Rollouts, rollout_of
from services.inference.store import Store
from services.inference.tables import RolloutRow
from sskai import claims, telemetry
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

LEASE_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 2.0
# After the end, until the canary gives its memory back: by then every process has read where the name points now.
CLEAN_UP_SECONDS = 5.0


@dataclass(frozen=True)
class Clock:
    """How long the loop waits; tests are quicker."""

    look_again_seconds: float = LOOK_AGAIN_SECONDS
    clean_up_seconds: float = CLEAN_UP_SECONDS


async def advance_rollouts(database: Database, clock: Clock) -> None:
    """Look at every rollout that is due, and move it if it is time."""
    while rows := await claims.claim(database, RolloutRow, limit=1, lease_seconds=LEASE_SECONDS):
        row = rows[0]
        with telemetry.within(row.traceparent):
            async with database.transaction() as session:
                if row.stage in promotion.ENDED:
                    await _clean_up(session, row)
                else:
                    await _advance(session, row, clock)


async def _clean_up(session: AsyncSession, row: RolloutRow) -> None:
    store = Store(session)
    canary = await store.endpoint(rollout_of(row).canary_id, row.tenant_id)
    if canary is not None and canary.state not in (State.DELETING, State.DELETED):
        await store.save(canary.to(State.DELETING))
    await claims.release(session, row, due_in_seconds=None)


async def _advance(session: AsyncSession, row: RolloutRow, clock: Clock) -> None:
    now = datetime.now(UTC)
    store, rollouts = Store(session), Rollouts(session)
    before = rollout_of(row)
    endpoint = await store.endpoint(before.endpoint_id, before.tenant_id)
    canary = await store.endpoint(before.canary_id, before.tenant_id)
    figures = await rollouts.figures(before.endpoint_id, before.rollout_id)
    served = figures.get((before.version, False), Figures())
    seen = Seen(
        endpoint_answers=endpoint is not None and endpoint.answers,
        canary_ready=canary is not None and canary.state == State.READY,
        canary_failure=_failure(canary),
        champion=figures.get((before.from_version, False), Figures()),
        canary=served,
        seconds_in_step=(now - row.step_started_at).total_seconds(),
        requests_in_step=served.requests - row.requests_before,
        evaluations=await rollouts.evaluations(before),
    )
    after = promotion.advance(before, seen)
    moved = (after.stage, after.step) != (before.stage, before.step)
    values = {"step_started_at": now, "requests_before": served.requests} if moved else {}
    if not await claims.release(
        session,
        row,
        due_in_seconds=clock.clean_up_seconds if after.ended else clock.look_again_seconds,
        stage=after.stage,
        step=after.step,
        reason=after.reason,
        ended_at=now if after.ended else None,
        **values,
    ):
        return
    if not moved:
        return
    log.info("rollout", rollout=after.rollout_id, stage=after.stage, step=after.step, reason=after.reason)
    if after.stage == Stage.PROMOTED and canary is not None:
        await rollouts.give_name(after, canary)
    if (event := told(after, now)) is not None:
        await tell(session, event)


def _failure(canary: Endpoint | None) -> str:
    if canary is None:
        return "it is gone"
    return canary.failure or "failed" if canary.state == State.FAILED else ""


def told(rollout: Rollout, now: datetime) -> Message | None:
    """What everybody hears of a rollout that has just come to where it is."""
    names: dict[str, Any] = {
        "endpoint_id": rollout.endpoint_id,
        "tenant_id": rollout.tenant_id,
        "model_id": rollout.model_id,
        "version": rollout.version,
    }
    if rollout.stage == Stage.CANARY:
        return events.CanaryStarted(**names, traffic_fraction=rollout.fraction, started_at=timestamp(now))
    if rollout.stage == Stage.PROMOTED:
        return events.ModelPromoted(
            **names, alias="champion", previous_version=rollout.from_version, promoted_at=timestamp(now)
        )
    if rollout.stage == Stage.ROLLED_BACK:
        return events.ModelRolledBack(
            **names, to_version=rollout.from_version, reason=rollout.reason, rolled_back_at=timestamp(now)
        )
    return None
