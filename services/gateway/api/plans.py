"""`/v1/plans`: what a job would cost, where and why, before anything is spent."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.resolving import resolve
from services.gateway.api.world import (
    After,
    Here,
    Id,
    IdempotencyKey,
    Limit,
    World,
    key_reused,
    not_found,
    page,
    unprocessable,
)
from services.gateway.jobfile import JobFile, JobFileError
from services.gateway.keys import Principal
from services.gateway.plain import iso
from services.gateway.store import Store
from services.gateway.tables import PlanRow
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/plans", tags=["plans"])

LOOK_SECONDS = 5  # at the latest, should a notification be lost with its connection


@router.post("")
async def request_plan(
    job: JobFile, request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """A dry run: 200 with the table of candidates, 422 if nothing meets the constraints, 202 with the plan's address
    if it takes longer."""
    plan_id = await _ask(job, await request.body(), here, caller, idempotency_key)
    row = await _answered(here, caller, plan_id)
    if row is None:
        raise not_found("plan", plan_id)
    if row.status == "refused":
        body = row.body
        raise Problem(
            422,
            "Nothing meets the constraints",
            f"{body['detail']} {body['advice']}".strip(),
            plan_id=row.id,
            reason=body["reason"],
            advice=body["advice"],
        )
    status = 202 if row.status == "pending" else 200
    return JSONResponse(shown(row), status, headers={"Location": f"/v1/plans/{row.id}"})


@router.get("")
async def list_plans(
    here: Here, caller: Caller, job_id: After = None, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """Plans and dry runs, newest first; of one job with `job_id`."""
    async with here.database.transaction() as session:
        rows = await Store(session).plans(caller.tenant_id, job_id, after, limit + 1)
    return page([shown(row) for row in rows], limit)


@router.get("/{plan_id}")
async def get_plan(plan_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """A plan, or a dry run: `pending`, `proposed` or `refused`."""
    async with here.database.transaction() as session:
        row = await Store(session).plan(caller.tenant_id, plan_id)
    if row is None:
        raise not_found("plan", plan_id)
    return shown(row)


def shown(row: PlanRow) -> dict[str, Any]:
    """The optimizer's words; `candidates` best first, the first is the chosen one."""
    document = {name: value for name, value in row.body.items() if name != "tenant_id"}
    return {
        **document,
        "id": row.id,
        "object": "plan",
        "status": row.status,
        "job_id": None if row.preview else row.job_id,
        "preview": row.preview,
        "created_at": iso(row.created_at),
    }


async def _ask(job: JobFile, body: bytes, here: World, caller: Principal, idempotency_key: str | None) -> str:
    """Tell PlanRequested; returns the id under which the answer will stand."""
    now = here.now()
    try:
        async with here.database.transaction() as session:
            store = Store(session)

            async def make() -> Answer:
                spec = await resolve(job, here, caller, store.library, to_run=False)
                event = events.PlanRequested(
                    job_id=new_id("plan"), tenant_id=caller.tenant_id, spec=spec, requested_at=timestamp(now)
                )
                await store.expect_plan(event)
                await tell(session, event)
                return Answer(202, {"id": event.job_id})

            digested = digest("POST /v1/plans", body)
            answer = await once(session, caller.tenant_id, idempotency_key, digested, make, now=now)
    except JobFileError as error:
        raise unprocessable("The job cannot be planned", error) from error
    except KeyReusedError as error:
        raise key_reused(error) from error
    return str(answer.body["id"])


async def _answered(here: World, caller: Principal, plan_id: str) -> PlanRow | None:
    """The plan when its answer came, or as it stands when the time is over."""
    clock = asyncio.get_running_loop().time
    until = clock() + here.settings.plan_wait_seconds
    with here.hub.waiting(plan_id) as woken:
        while True:
            woken.clear()
            async with here.database.transaction() as session:
                row = await Store(session).plan(caller.tenant_id, plan_id)
            left = until - clock()
            if row is None or row.status != "pending" or left <= 0 or here.hub.closing.is_set():
                return row
            await here.hub.pause(woken, min(left, LOOK_SECONDS))
