"""`/v1/plans/ID/replays`: a stored decision made again, as it was or by another policy."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import StringConstraints

from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.waiting import answered
from services.gateway.api.world import Here, Id, IdempotencyKey, World, key_reused, not_found
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from services.gateway.plain import iso
from services.gateway.store import Store
from services.gateway.tables import PlanRow, ReplayRow
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/plans", tags=["plans"])


class ReplayForm(Form):
    # Absent: the policy that decided. The optimizer knows which there are and answers an unknown one with a problem.
    policy: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,60}$")] | None = None


@router.post("/{plan_id}/replay")
async def replay_plan(
    plan_id: Id,
    request: Request,
    *,
    here: Here,
    caller: Caller,
    form: ReplayForm | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Decide again from the stored inputs: 200 with whether it comes out equal and how it differs, 422 if it cannot be
    replayed, 202 with the replay's address if it takes longer."""
    plan = await _plan(here, caller, plan_id)
    if plan.status == "pending":
        raise Problem(409, "The plan is not made yet", f"{plan.id} is pending: there is nothing to replay yet")
    # A dry run is known here by its request's id, and to the optimizer by the id that it gave its decision.
    decision_id = plan.plan_id or plan.id
    asked = (form or ReplayForm()).policy or ""
    replay_id = await _ask(
        decision_id, asked, body=await request.body(), here=here, caller=caller, idempotency_key=idempotency_key
    )
    row = await answered(here, decision_id, lambda store: store.replay(caller.tenant_id, decision_id, replay_id))
    if row is None:
        raise not_found("replay", replay_id)
    if row.status == "failed":
        raise Problem(422, "The plan cannot be replayed", row.body["problem"], plan_id=plan.id, replay_id=replay_id)
    headers = {"Location": f"/v1/plans/{plan.id}/replays/{replay_id}"}
    return JSONResponse(shown(row, plan), 202 if row.status == "pending" else 200, headers=headers)


@router.get("/{plan_id}/replays/{replay_id}")
async def get_replay(plan_id: Id, replay_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """A replay: `pending`, `replayed` or `failed` (see `problem`)."""
    plan = await _plan(here, caller, plan_id)
    async with here.database.transaction() as session:
        row = await Store(session).replay(caller.tenant_id, plan.plan_id or plan.id, replay_id)
    if row is None:
        raise not_found("replay", replay_id)
    return shown(row, plan)


def shown(row: ReplayRow, plan: PlanRow) -> dict[str, Any]:
    """The optimizer's words; `stored_choice` and `choice` are candidates, or null for a refusal."""
    document = {name: value for name, value in row.body.items() if name not in ("tenant_id", "replay_id")}
    return {
        **document,
        "id": row.replay_id,
        "object": "plan.replay",
        "status": row.status,
        "plan_id": plan.id,
        "policy": row.policy or None,
        "created_at": iso(row.created_at),
    }


async def _plan(here: World, caller: Principal, plan_id: str) -> PlanRow:
    async with here.database.transaction() as session:
        row = await Store(session).plan(caller.tenant_id, plan_id)
    if row is None:
        raise not_found("plan", plan_id)
    return row


async def _ask(
    decision_id: str, policy: str, *, body: bytes, here: World, caller: Principal, idempotency_key: str | None
) -> str:
    """Tell PlanReplayRequested; returns the replay's id."""
    now = here.now()
    try:
        async with here.database.transaction() as session:

            async def make() -> Answer:
                event = events.PlanReplayRequested(
                    plan_id=decision_id,
                    tenant_id=caller.tenant_id,
                    replay_id=new_id("replay"),
                    policy=policy,
                    requested_at=timestamp(now),
                )
                await Store(session).expect_replay(event)
                await tell(session, event)
                return Answer(202, {"id": event.replay_id})

            digested = digest(f"POST /v1/plans/{decision_id}/replay", body)
            answer = await once(session, caller.tenant_id, idempotency_key, digested, make, now=now)
    except KeyReusedError as error:
        raise key_reused(error) from error
    return str(answer.body["id"])
