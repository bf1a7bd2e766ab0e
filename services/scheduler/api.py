"""What the gateway may ask the scheduler: what the pods of a job's attempts print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query
from sqlalchemy import select

from services.scheduler import keptlogs
from services.scheduler.domain import State
from services.scheduler.store import AttemptRow, JobRow
from sskai.cluster import Cluster, ClusterUnavailableError, LogPage, NoLogError, RefusedError
from sskai.database import Database
from sskai.http import Problem, install_problem_handlers
from sskai.internal import Tenant
from sskai.objects import Objects, ObjectsUnavailableError

MAX_LINES = 10_000
NOTHING = LogPage((), "")


@dataclass(frozen=True, slots=True)
class Told:
    """A job's attempts, and the one that is asked about (0: there is none yet)."""

    numbers: list[int]
    number: int
    job_id: str
    machine_id: str
    attempt_ended: bool
    job_ended: bool


def build(database: Database, cluster: Cluster, internal_token: str, objects: Objects | None = None) -> FastAPI:
    """The app. `objects`: where logs are kept that the cluster no longer has."""
    app = FastAPI(title="SSKAI scheduler", openapi_url=None)
    app.state.internal_token = internal_token
    install_problem_handlers(app)

    @app.get("/v1/jobs/{job_id}/logs")
    async def job_logs(
        job_id: str,
        tenant_id: Tenant,
        attempt: Annotated[int | None, Query(ge=1)] = None,
        tail: Annotated[int, Query(ge=1, le=MAX_LINES)] = 100,
        after: Annotated[str, Query(max_length=200)] = "",
    ) -> dict[str, Any]:
        """The last lines of an attempt, by default the newest, or those after a position. `ended`: no more will come,
        once a page is empty. `missing`: why no log is kept, else empty."""
        told = await _told(database, tenant_id, job_id, attempt)
        page, missing = await _page(cluster, objects, told, tail, after)
        return {
            "job_id": job_id,
            "attempt": told.number,
            "attempts": told.numbers,
            "lines": [{"text": line.text, **({"at": line.at} if line.at else {})} for line in page.lines],
            "truncated": page.truncated,
            "after": page.after,
            "missing": missing,
            "ended": told.attempt_ended,
            "job_ended": told.job_ended,
        }

    return app


async def _told(database: Database, tenant_id: str, job_id: str, attempt: int | None) -> Told:
    async with database.transaction() as session:
        job = await session.get(JobRow, job_id)
        if job is None or job.tenant_id != tenant_id:
            raise Problem(404, "No such job", f"the scheduler knows no job {job_id[:120]!r}")
        rows = await session.execute(
            select(AttemptRow.number, AttemptRow.machine_id, AttemptRow.ended_at)
            .where(AttemptRow.job_id == job_id)
            .order_by(AttemptRow.number)
        )
        attempts = {number: (machine_id, ended_at) for number, machine_id, ended_at in rows}
        job_ended = State(job.state).ended
    numbers = list(attempts)
    number = attempt or max(numbers, default=0)
    if number and number not in attempts:
        known = ", ".join(map(str, numbers)) or "none"
        raise Problem(404, "No such attempt", f"attempt: {job_id} has the attempts {known}", field="attempt")
    machine_id, ended_at = attempts.get(number, ("", None))
    return Told(numbers, number, job_id, machine_id, ended_at is not None, job_ended)


async def _page(cluster: Cluster, objects: Objects | None, told: Told, tail: int, after: str) -> tuple[LogPage, str]:
    if not told.machine_id:
        return NOTHING, ""  # it waits for a machine
    try:
        return await cluster.log(told.machine_id, tail=tail, after=after), ""
    except (NoLogError, RefusedError) as error:
        kept = await _kept(objects, told, tail, after)
        return (LogPage((), after), str(error)) if kept is None else (kept, "")
    except ClusterUnavailableError as error:
        raise Problem(503, "The cluster is away", str(error)[:500], headers={"Retry-After": "2"}) from error


async def _kept(objects: Objects | None, told: Told, tail: int, after: str) -> LogPage | None:
    if objects is None:
        return None
    try:
        return await keptlogs.read(objects, told.job_id, told.number, tail=tail, after=after)
    except ObjectsUnavailableError as error:
        raise Problem(503, "The object store is away", str(error)[:500], headers={"Retry-After": "2"}) from error
