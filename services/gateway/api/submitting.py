"""How a job is accepted, by whatever route it comes: within the tenant's limits, with its event, in one transaction."""

from __future__ import annotations

from datetime import datetime

from services.gateway import quotas
from services.gateway.api import ratelimits
from services.gateway.api.resolving import resolve
from services.gateway.api.world import World, not_found
from services.gateway.domain import JobState
from services.gateway.jobfile import JobFile
from services.gateway.keys import Principal
from services.gateway.quotas import Quotas
from services.gateway.store import Store
from services.gateway.tables import JobRow
from sskai import telemetry
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

RETRY_SECONDS = 60


async def submit(
    job: JobFile, here: World, caller: Principal, store: Store, now: datetime
) -> tuple[JobRow, dict[str, str]]:
    """The job's row, and headers that say how many more may come.

    Raises JobFileError, and Problem if the tenant has too many jobs.
    """
    spec = quotas.held(await resolve(job, here, caller, store.library, to_run=True), _quotas(here))
    event = events.JobSubmitted(
        job_id=new_id("job"), tenant_id=caller.tenant_id, spec=spec, submitted_at=timestamp(now)
    )
    limit = here.settings.max_active_jobs_per_tenant
    row, active = await store.submit_job(event, telemetry.current_trace_id(), now, count_to=limit)
    if active >= limit:
        raise _too_many_jobs(limit, active)
    await tell(store.session, event)
    return row, ratelimits.of_jobs(limit, active + 1)


async def cancel(here: World, caller: Principal, job_id: str) -> JobRow:
    """Asked again, it changes nothing more. Raises Problem if there is no such job, or it has ended."""
    now = here.now()
    async with here.database.transaction() as session:
        store = Store(session)
        row = await store.job(caller.tenant_id, job_id, lock=True)
        if row is None:
            raise not_found("job", job_id)
        if JobState(row.state).ended:
            raise Problem(409, "The job has ended", f"{job_id} has {row.state}: nothing is left to cancel")
        if row.state != JobState.CANCELLING:
            event = events.JobCancelRequested(
                job_id=job_id, tenant_id=caller.tenant_id, requested_by=caller.key_id, requested_at=timestamp(now)
            )
            await store.follow_job(event, now)
            await tell(session, event)
        return row


def _too_many_jobs(limit: int, active: int) -> Problem:
    detail = f"{active} jobs have not ended, and {limit} may be there at the same time: wait, or cancel some"
    headers = {"Retry-After": str(RETRY_SECONDS), **ratelimits.of_jobs(limit, active)}
    return Problem(429, "Too many jobs", detail, headers=headers)


def _quotas(here: World) -> Quotas:
    settings = here.settings
    return Quotas(settings.max_accelerators_per_job, settings.max_usd_per_hour_per_job, settings.max_epochs_per_job)
