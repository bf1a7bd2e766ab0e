"""`/v1/jobs`: submit, look, cancel."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from services.gateway import timeline
from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api import traces
from services.gateway.api.auth import Caller
from services.gateway.api.etags import NOT_MODIFIED, Conditions, tagged
from services.gateway.api.submitting import cancel, submit
from services.gateway.api.world import (
    Here,
    Id,
    IdempotencyKey,
    Paged,
    key_reused,
    not_found,
    page,
    respond,
    unprocessable,
)
from services.gateway.domain import Attempt, JobState, JobView
from services.gateway.jobfile import JobFile, JobFileError, Name, Reference
from services.gateway.plain import iso, plain
from services.gateway.store import Store
from services.gateway.tables import JobRow, ReceiptRow
from sskai.contract import moment
from sskai.events import v1 as events
from sskai.http import Problem
from sskai.money import NANO_PER_USD

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("", status_code=202)
async def submit_job(
    job: JobFile, request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Accept a job. What is wrong with it at the door is said now; what no machine can do fails the job later."""
    now = here.now()
    rate: dict[str, str] = {}
    try:
        async with here.database.transaction() as session:
            store = Store(session)

            async def make() -> Answer:
                nonlocal rate
                row, rate = await submit(job, here, caller, store, now)
                return Answer(202, shown(row, None))

            digested = digest("POST /v1/jobs", await request.body())
            answer = await once(session, caller.tenant_id, idempotency_key, digested, make, now=now)
    except JobFileError as error:
        raise unprocessable("The job cannot be accepted", error) from error
    except KeyReusedError as error:
        raise key_reused(error) from error
    response = respond(answer)
    response.headers.update(rate)
    response.headers["Location"] = f"/v1/jobs/{answer.body['id']}"
    return response


@router.get("")
async def list_jobs(
    here: Here,
    caller: Caller,
    paging: Paged,
    *,
    state: JobState | None = None,
    kind: Literal["finetune", "train"] | None = None,
    name: Name | None = None,
    model: Annotated[Reference | None, Query(description="The id of the model that is trained")] = None,
    dataset: Annotated[Reference | None, Query(description="An id, `NAME@VERSION` or `NAME`")] = None,
) -> dict[str, Any]:
    """The tenant's jobs, newest first, in short."""
    async with here.database.transaction() as session:
        store = Store(session)
        dataset_id = None
        if dataset is not None:
            found = await store.library.dataset(caller.tenant_id, dataset)
            dataset_id = found.dataset_id if found else dataset  # jobs of a deleted one are still found by its id
        rows = await store.jobs(
            caller.tenant_id, paging, state=state, kind=kind, name=name, model_id=model, dataset_id=dataset_id
        )
    return page([summary(row) for row in rows], paging.limit)


@router.get("/{job_id}", response_model=dict[str, Any], responses=NOT_MODIFIED)
async def get_job(job_id: Id, here: Here, caller: Caller, conditions: Conditions) -> Response:
    """One job: its specification, plan, attempts, progress, loss curve, checkpoints, spend, end and receipt."""
    async with here.database.transaction() as session:
        store = Store(session)
        row = await store.job(caller.tenant_id, job_id)
        receipt = await store.receipt(caller.tenant_id, job_id)
    if row is None:
        raise not_found("job", job_id)
    return tagged(shown(row, receipt), conditions)


@router.post("/{job_id}/cancel", status_code=202)
async def cancel_job(job_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Ask for the end of a job; what runs may save first. Asked again, it changes nothing more; 409 if it has ended."""
    return shown(await cancel(here, caller, job_id), None)


@router.get("/{job_id}/timeline")
async def get_job_timeline(job_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """A Gantt as data: a lane per attempt, the waits between them, what happened when, and what the offers cost."""
    now = here.now()
    async with here.database.transaction() as session:
        store = Store(session)
        row = await store.job(caller.tenant_id, job_id)
        if row is None or row.submitted_at is None:
            raise not_found("job", job_id)
        job = _on_the_timeline(row, row.submitted_at)
        marks = await store.timelines.marks(caller.tenant_id, job_id)
        notices = await store.timelines.notices(timeline.machines(marks))
        prices = await store.timelines.prices(timeline.offers(marks), job.submitted_at, job.ended_at or now)
    return timeline.assemble(job, marks, notices, prices, now)


@router.get("/{job_id}/trace")
async def get_job_trace(job_id: Id, here: Here, caller: Caller) -> Response:
    """The trace that began with the job's submission, as a tree of spans."""
    async with here.database.transaction() as session:
        row = await Store(session).job(caller.tenant_id, job_id)
    if row is None:
        raise not_found("job", job_id)
    if not row.trace_id:
        raise Problem(404, "No trace", f"{job_id} was not submitted in a trace")
    return await traces.fetch(here, caller, row.trace_id)


def _on_the_timeline(row: JobRow, submitted_at: datetime) -> timeline.Job:
    view = JobView.model_validate(row.view)
    spec = events.JobSpec.FromString(row.spec or b"")
    return timeline.Job(
        job_id=row.job_id,
        name=row.name,
        state=row.state,
        submitted_at=submitted_at,
        ended_at=view.end.at if view.end else None,
        deadline=moment(spec.deadline) if spec.HasField("deadline") else None,
        budget_usd=spec.budget_usd if spec.HasField("budget_usd") else None,
        spent_usd=row.spent_nano_usd / NANO_PER_USD,
        on_demand_usd=row.on_demand_nano_usd / NANO_PER_USD,
        steps={number: attempt.progress.step for number, attempt in view.attempts.items() if attempt.progress},
    )


def summary(row: JobRow) -> dict[str, Any]:
    """What a list shows."""
    return _in_short(row, JobView.model_validate(row.view), events.JobSpec.FromString(row.spec or b""))


def _in_short(row: JobRow, view: JobView, spec: events.JobSpec) -> dict[str, Any]:
    attempt = view.newest_attempt
    progress = attempt.progress.model_dump(mode="json") if attempt and attempt.progress else None
    return {
        "id": row.job_id,
        "object": "job",
        "kind": spec.kind,
        "name": row.name,
        "state": row.state,
        "model": spec.model.model_id,
        # None: the model's code brings its data.
        "dataset": f"dataset://{spec.dataset.name}/{spec.dataset.version}" if spec.HasField("dataset") else None,
        "attempt": attempt.number if attempt else 0,
        "waiting": _waiting(view),
        "progress": progress,
        "spent_usd": row.spent_nano_usd / NANO_PER_USD,
        "budget_usd": spec.budget_usd if spec.HasField("budget_usd") else None,
        "submitted_at": iso(row.submitted_at) if row.submitted_at else None,
        "updated_at": iso(row.updated_at),
        "ended_at": iso(view.end.at) if view.end else None,
    }


def shown(row: JobRow, receipt: ReceiptRow | None) -> dict[str, Any]:
    """Everything that is known of a job. `losses`: pairs of step and loss, thinned evenly in a long job."""
    view, spec = JobView.model_validate(row.view), events.JobSpec.FromString(row.spec or b"")
    told = plain(spec)
    del told["model"]["config_json"]
    document = view.model_dump(mode="json")
    return {
        **_in_short(row, view, spec),
        "spec": told,
        "trace_id": row.trace_id or None,
        "plan_id": view.plan_id or None,
        "placement": document["chosen"],
        "requeue": document["requeue"],
        "attempts": [_attempt(attempt) for attempt in view.attempts.values()],
        "checkpoints": list(document["checkpoints"].values()),
        "losses": view.losses(),
        "on_demand_usd": row.on_demand_nano_usd / NANO_PER_USD,
        "budget_fraction_reached": view.budget_fraction,
        "end": document["end"],
        "receipt": receipt.body if receipt else None,
    }


def _waiting(view: JobView) -> dict[str, Any] | None:
    """What holds the job and until when; None: nothing does."""
    if view.state is not JobState.HELD or view.hold is None:
        return None
    hold = view.hold
    times = (hold.since or hold.at, hold.expected_start, hold.earliest_start, hold.latest_start)
    since, expected, earliest, latest = (iso(at) if at else None for at in times)
    return {
        "rule": hold.rule,
        "detail": hold.detail,
        "since": since,
        "expected_start": expected,
        "earliest_start": earliest,
        "latest_start": latest,
        "position": hold.position,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {"outcome": attempt.outcome, **attempt.model_dump(mode="json", exclude={"curve"})}
