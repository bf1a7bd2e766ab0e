"""`/v1/endpoints/{endpoint}/retraining`: when its model is trained again, who has to say yes, and how the loop goes."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, Field, StringConstraints

from services.gateway import retraining
from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.resolving import find_endpoint
from services.gateway.api.world import Here, Id, World, not_found
from services.gateway.jobfile import Duration, Form, duration_seconds
from services.gateway.keys import Principal
from services.gateway.retrain_log import RetrainLog
from services.gateway.store import Store
from sskai import cron
from sskai.contract import timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])

MAX_COOLDOWN_SECONDS = 366 * 86_400


def _schedule(text: str) -> str:
    if len(cron.parse(text).minutes) > 1:
        raise cron.ScheduleError("minute: name one: more often than hourly nothing is trained again")
    return text


def _cooldown(text: str) -> str:
    if duration_seconds(text) > MAX_COOLDOWN_SECONDS:
        raise ValueError("is over a year: write up to 366d")
    return text


Usd = Annotated[float, Field(gt=0, le=1e9)]
Schedule = Annotated[str, StringConstraints(max_length=cron.MAX_CHARACTERS), AfterValidator(_schedule)]


class TriggersForm(Form):
    """What a retrain is wanted for."""

    drift: bool = True
    new_dataset: bool = False  # a newer version of what the served version was trained on
    schedule: Schedule | None = None  # cron, five fields, UTC


class ConfirmationsForm(Form):
    """When a drift counts: after so many alarms of one signal, over so many samples."""

    alarms: Annotated[int, Field(ge=1, le=20)] = 1
    samples: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class RetrainingForm(Form):
    mode: Literal["suggest", "approve", "auto"]
    on: TriggersForm = TriggersForm()
    data: Literal["dataset", "traffic"] = "dataset"
    budget_usd_per_month: Usd | None = None  # of all retrains in a calendar month (UTC)
    cooldown: Annotated[Duration, AfterValidator(_cooldown)] | None = None  # without it: the operator's
    confirmations: ConfirmationsForm = ConfirmationsForm()
    max_job_budget_usd: Usd | None = None


@router.put("/{endpoint}/retraining", status_code=202)
async def put_policy(endpoint: Id, form: RetrainingForm, here: Here, caller: Caller) -> dict[str, Any]:
    """The policy from now on. `endpoint`: its id or its name."""
    async with here.database.transaction() as session:
        row = await find_endpoint(Store(session), caller, endpoint, living=True)
        await tell(
            session,
            events.RetrainingPolicySet(
                endpoint_id=row.endpoint_id,
                tenant_id=caller.tenant_id,
                mode=form.mode,
                on_drift=form.on.drift,
                on_new_dataset=form.on.new_dataset,
                schedule=form.on.schedule or "",
                data=form.data,
                budget_usd_per_month=form.budget_usd_per_month,
                cooldown_seconds=None if form.cooldown is None else duration_seconds(form.cooldown),
                confirm_alarms=form.confirmations.alarms,
                confirm_samples=form.confirmations.samples,
                max_job_budget_usd=form.max_job_budget_usd,
                set_at=timestamp(here.now()),
            ),
        )
        return {"object": "endpoint.retraining", "endpoint_id": row.endpoint_id, "policy": form.model_dump()}


@router.delete("/{endpoint}/retraining", status_code=202)
async def remove_policy(endpoint: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """The operator's rules hold again; asked again, it changes nothing more."""
    async with here.database.transaction() as session:
        row = await find_endpoint(Store(session), caller, endpoint, living=True)
        removed = events.RetrainingPolicyRemoved(
            endpoint_id=row.endpoint_id, tenant_id=caller.tenant_id, removed_at=timestamp(here.now())
        )
        await tell(session, removed)
        return {"object": "endpoint.retraining", "endpoint_id": row.endpoint_id, "policy": None}


@router.get("/{endpoint}/retraining")
async def get_retraining(endpoint: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """The policy that holds, what waits for somebody (`pending`), and the loop so far (`timeline`), newest first."""
    async with here.database.transaction() as session:
        row = await find_endpoint(Store(session), caller, endpoint)
        told, jobs = await RetrainLog(session).loop(caller.tenant_id, row.endpoint_id)
        endpoint_id = row.endpoint_id
    answer = await monitor.ask(here, caller, f"/v1/retraining/{endpoint_id}")
    return {
        "object": "endpoint.retraining",
        "endpoint_id": endpoint_id,
        **json.loads(bytes(answer.body)),
        "timeline": retraining.timeline(endpoint_id, told, jobs),
    }


@router.post("/{endpoint}/retraining/{retrain_id}/approve", status_code=202)
async def approve(endpoint: Id, retrain_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Train again, as it was suggested; budgets still count, the cooldown does not."""
    return await _decide(here, caller, endpoint, retrain_id, approved=True)


@router.post("/{endpoint}/retraining/{retrain_id}/decline", status_code=202)
async def decline(endpoint: Id, retrain_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Leave the model as it is."""
    return await _decide(here, caller, endpoint, retrain_id, approved=False)


async def _decide(here: World, caller: Principal, endpoint: str, retrain_id: str, *, approved: bool) -> dict[str, Any]:
    """The monitor takes the first decision that is told, so of two at once one has no effect."""
    now = here.now()
    async with here.database.transaction() as session:
        row = await find_endpoint(Store(session), caller, endpoint, living=True)
        told = await RetrainLog(session).retrain(caller.tenant_id, row.endpoint_id, retrain_id)
        if not told:
            raise not_found("suggestion", retrain_id)
        if why := retraining.undecidable(told, now):
            raise Problem(409, why.title, why.detail)
        decided = events.RetrainDecided(
            endpoint_id=row.endpoint_id,
            tenant_id=caller.tenant_id,
            retrain_id=retrain_id,
            approved=approved,
            decided_by=caller.key_id,
            decided_at=timestamp(now),
        )
        await tell(session, decided)
        return {"object": "retrain", "id": retrain_id, "endpoint_id": row.endpoint_id, "approved": approved}
