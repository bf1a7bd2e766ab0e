"""Looks at every objective again and again, and tells what broke and what is whole again."""

from __future__ import annotations

from datetime import UTC, datetime

from services.monitor import metrics, objectives
from services.monitor.objective_store import ObjectiveStore, observed
from services.monitor.objectives import Verdict
from services.monitor.tables import ObjectiveRow
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events


async def watch_objectives(database: Database) -> None:
    """Judge all objectives by what was counted until now. State and event commit together, so a breach is told once."""
    after = ("", "")
    while True:
        async with database.snapshot() as session:
            now = datetime.now(UTC)
            page = await ObjectiveStore(session).page(after)
            if not page:
                return
            counted = await ObjectiveStore(session).counted(page, now)
        after = (page[-1].endpoint_id, page[-1].objective)
        async with database.transaction() as session:
            for row in await ObjectiveStore(session).lock(page):
                seen = observed(row, counted)
                since = {rule: datetime.fromisoformat(at) for rule, at in row.breached.items()}
                verdict = objectives.judge(row.target, seen, since, now)
                row.breached = {rule: at.isoformat() for rule, at in verdict.breached.items()}
                row.burn_rates = {str(seconds): one.burn_rate(row.target) for seconds, one in seen.items()}
                await tell(session, *_events(row, verdict, now))


def _events(
    row: ObjectiveRow, verdict: Verdict, now: datetime
) -> list[events.ObjectiveBreached | events.ObjectiveRecovered]:
    if verdict.told is not None:
        told = verdict.told
        metrics.OBJECTIVE_BREACHES.labels(objective=row.objective, severity=told.rule.severity).inc()
        return [
            events.ObjectiveBreached(
                endpoint_id=row.endpoint_id,
                tenant_id=row.tenant_id,
                objective=row.objective,
                value=told.quality.good_fraction,
                target=row.target,
                window_seconds=told.rule.long_seconds,
                breached_at=timestamp(now),
                severity=told.rule.severity,
                rule=told.rule.name,
                burn_rate=told.burn_rate,
                answers=told.quality.answers,
            )
        ]
    if verdict.recovered_from is not None:
        return [
            events.ObjectiveRecovered(
                endpoint_id=row.endpoint_id,
                tenant_id=row.tenant_id,
                objective=row.objective,
                breached_at=timestamp(verdict.recovered_from),
                recovered_at=timestamp(now),
            )
        ]
    return []
