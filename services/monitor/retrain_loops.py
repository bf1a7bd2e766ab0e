"""What the monitor does about retraining by the clock: schedules that are due, suggestions that nobody decided on."""

from __future__ import annotations

from datetime import UTC, datetime

from services.monitor.domain import Rules
from services.monitor.retrain_handlers import Wish, expired, give_up, want
from services.monitor.retrain_store import WAITING, RetrainStore, schedule_of
from services.monitor.retraining import Reason
from services.monitor.store import Store
from services.monitor.tables import RetrainingRow, SuggestionRow
from sskai import claims
from sskai.database import Database
from sskai.delivery import tell

AT_A_TIME = 20
RETRY_SECONDS = 60.0  # of a schedule whose endpoint is not known here yet


async def follow_schedules(database: Database, rules: Rules, now: datetime | None = None) -> None:
    """Want a retrain of every endpoint whose time has come: once, however many monitors look and however late."""
    while claimed := await claims.claim(database, RetrainingRow, limit=AT_A_TIME):
        for row in claimed:
            async with database.transaction() as session:
                await _want_on_schedule(row, Store(session, rules), now or datetime.now(UTC))


async def _want_on_schedule(claimed: RetrainingRow, store: Store, now: datetime) -> None:
    retrains = RetrainStore(store)
    endpoint = await store.endpoint(claimed.endpoint_id)
    schedule = schedule_of(claimed.schedule)
    if schedule is None or (endpoint is not None and endpoint.deleted):
        await claims.release(store.session, claimed, due_in_seconds=None, scheduled_for=None)
        return
    if endpoint is None or endpoint.tenant_id != claimed.tenant_id:
        await claims.release(store.session, claimed, due_in_seconds=RETRY_SECONDS)
        return
    # The database's clock said that it is time. By ours it may be a second before, and then the same time comes next.
    at = max(now, claimed.scheduled_for or now)
    next_at = schedule.next_after(at)
    due_in_seconds = (next_at - now).total_seconds() if next_at else None
    if not await claims.release(store.session, claimed, due_in_seconds=due_in_seconds, scheduled_for=next_at):
        return  # the policy has changed meanwhile, or another monitor has it
    row = await retrains.row(claimed.endpoint_id, claimed.tenant_id)
    detail = f"it is time by the schedule {claimed.schedule}"
    await tell(store.session, *await want(endpoint, row, Wish(Reason.SCHEDULE, detail), store, now))


async def end_suggestions(database: Database, rules: Rules, now: datetime | None = None) -> None:
    """Suggestions that nobody decided on in time."""
    while claimed := await claims.claim(database, SuggestionRow, limit=AT_A_TIME):
        for one in claimed:
            async with database.transaction() as session:
                store = Store(session, rules)
                await store.endpoint(one.endpoint_id)  # locked first, as decisions do
                row = await RetrainStore(store).suggestion(one.retrain_id)
                if row is not None and row.state == WAITING and row.lease_token == one.lease_token:
                    await tell(session, give_up(row, expired(row), now or datetime.now(UTC)))


async def forget_suggestions(database: Database) -> None:
    """What was decided long ago."""
    async with database.transaction() as session:
        await RetrainStore(Store(session)).forget(datetime.now(UTC))
