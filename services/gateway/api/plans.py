"""`/v1/plans`: what a job or an endpoint would cost, where and why, before anything is spent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Discriminator, Tag

from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.etags import NOT_MODIFIED, Conditions, tagged
from services.gateway.api.resolving import resolve, resolve_endpoint
from services.gateway.api.waiting import answered
from services.gateway.api.world import (
    After,
    Here,
    Id,
    IdempotencyKey,
    Paged,
    World,
    key_reused,
    not_found,
    page,
    unprocessable,
)
from services.gateway.endpointfile import EndpointFile
from services.gateway.jobfile import JobFile, JobFileError
from services.gateway.keys import Principal
from services.gateway.plain import iso
from services.gateway.store import PlanKind, Store
from services.gateway.tables import PlanRow
from sskai.contract import key_of, new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/plans", tags=["plans"])


def _kind(document: Any) -> str:
    """Which file it is; what is neither is told so by the job file's own check."""
    kind = document.get("kind") if isinstance(document, dict) else None
    return PlanKind.ENDPOINT if kind == PlanKind.ENDPOINT else PlanKind.FINETUNE


PlanFile = Annotated[
    Annotated[JobFile, Tag(PlanKind.FINETUNE)] | Annotated[EndpointFile, Tag(PlanKind.ENDPOINT)],
    Discriminator(_kind),
    Body(
        json_schema_extra={
            "discriminator": {
                "propertyName": "kind",
                "mapping": {
                    PlanKind.FINETUNE: "#/components/schemas/JobFile",
                    "train": "#/components/schemas/JobFile",
                    PlanKind.ENDPOINT: "#/components/schemas/EndpointFile",
                },
            }
        }
    ),
]


@router.post("")
async def request_plan(
    file: PlanFile, request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """A dry run of a job, or of an endpoint (`kind: endpoint`): 200 with the table of candidates or options, 422 if
    nothing meets the constraints, 202 with the plan's address if it takes longer."""
    plan_id = await ask_for_plan(file, await request.body(), here, caller, idempotency_key)
    row = await answered(here, plan_id, lambda store: store.plan(caller.tenant_id, plan_id))
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
    here: Here,
    caller: Caller,
    paging: Paged,
    *,
    job_id: After = None,
    kind: PlanKind | None = None,
    status: Literal["pending", "proposed", "refused"] | None = None,
) -> dict[str, Any]:
    """Plans and dry runs, newest first; of one job with `job_id`."""
    async with here.database.transaction() as session:
        rows = await Store(session).plans(caller.tenant_id, paging, job_id=job_id, kind=kind, status=status)
    return page([shown(row) for row in rows], paging.limit)


@router.get("/{plan_id}", response_model=dict[str, Any], responses=NOT_MODIFIED)
async def get_plan(plan_id: Id, here: Here, caller: Caller, conditions: Conditions) -> Response:
    """A plan, or a dry run: `pending`, `proposed` or `refused`."""
    async with here.database.transaction() as session:
        row = await Store(session).plan(caller.tenant_id, plan_id)
    if row is None:
        raise not_found("plan", plan_id)
    return tagged(shown(row), conditions)


def shown(row: PlanRow) -> dict[str, Any]:
    """The optimizer's words; `candidates` (of an endpoint: `options`) best first, the first is the chosen one."""
    document = {name: value for name, value in row.body.items() if name != "tenant_id"}
    return {
        **document,
        "id": row.id,
        "object": "plan",
        "kind": row.kind,
        "status": row.status,
        "job_id": None if row.preview else row.job_id,
        "preview": row.preview,
        "created_at": iso(row.created_at),
    }


async def ask_for_plan(
    file: JobFile | EndpointFile, body: bytes, here: World, caller: Principal, idempotency_key: str | None
) -> str:
    """Tell that a plan is wanted; returns the id under which the answer will stand."""
    now = here.now()
    try:
        async with here.database.transaction() as session:
            store = Store(session)

            async def make() -> Answer:
                event = await _request(file, here, caller, store)
                event.requested_at.CopyFrom(timestamp(now))
                await store.expect_plan(event)
                await tell(session, event)
                return Answer(202, {"id": key_of(event)})

            digested = digest("POST /v1/plans", body)
            answer = await once(session, caller.tenant_id, idempotency_key, digested, make, now=now)
    except JobFileError as error:
        raise unprocessable(
            f"The {'endpoint' if file.kind == 'endpoint' else 'job'} cannot be planned", error
        ) from error
    except KeyReusedError as error:
        raise key_reused(error) from error
    return str(answer.body["id"])


async def _request(
    file: JobFile | EndpointFile, here: World, caller: Principal, store: Store
) -> events.PlanRequested | events.EndpointPlanRequested:
    """What asks the optimizer, with everything resolved. Raises JobFileError."""
    if isinstance(file, EndpointFile):
        endpoint = await resolve_endpoint(
            file, here, caller, store.library, base_is_running=store.has_ready_endpoint_on
        )
        return events.EndpointPlanRequested(plan_id=new_id("plan"), tenant_id=caller.tenant_id, spec=endpoint)
    job = await resolve(file, here, caller, store.library, to_run=False)
    return events.PlanRequested(job_id=new_id("plan"), tenant_id=caller.tenant_id, spec=job)
