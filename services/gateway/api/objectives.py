"""`/v1/endpoints/{endpoint}/objectives`: what an endpoint promises. The monitor watches, and tells what breaks."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Response
from pydantic import Field, model_validator

from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.resolving import find_endpoint
from services.gateway.api.world import Here, Id, World
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from services.gateway.store import Store
from sskai.contract import timestamp
from sskai.delivery import tell
from sskai.events import v1 as events

router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])


class ObjectiveForm(Form):
    """A share of good answers: without server error (availability), or up to so many seconds."""

    name: Literal["availability", "time-to-first-token", "latency"]
    target: Annotated[float, Field(ge=0.5, le=0.99999)]
    at_most_seconds: Annotated[float, Field(gt=0, le=3_600)] | None = None

    @model_validator(mode="after")
    def _limit(self) -> Self:
        if (self.at_most_seconds is None) != (self.name == "availability"):
            raise ValueError(
                "at_most_seconds goes with time-to-first-token and latency, which need it: an answer is good up to it"
            )
        return self


class ObjectivesForm(Form):
    objectives: Annotated[list[ObjectiveForm], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({one.name for one in self.objectives}) < len(self.objectives):
            raise ValueError("objectives: each name once")
        return self


@router.put("/{endpoint}/objectives", status_code=202)
async def set_objectives(endpoint: Id, form: ObjectivesForm, here: Here, caller: Caller) -> dict[str, Any]:
    """What it promises from now on; what it promised before is forgotten. `endpoint`: its id or its name."""
    told = [events.EndpointObjectivesSet.Objective(**one.model_dump(exclude_none=True)) for one in form.objectives]
    await _tell(here, caller, endpoint, told)
    return {"object": "list", "data": [one.model_dump() for one in form.objectives]}


@router.get("/{endpoint}/objectives")
async def get_objectives(endpoint: Id, here: Here, caller: Caller) -> Response:
    """What it promises, whether it keeps it, and how fast it spends its budgets of errors."""
    async with here.database.transaction() as session:
        row = await find_endpoint(Store(session), caller, endpoint)
    return await monitor.ask(here, caller, f"/v1/objectives/{row.endpoint_id}")


@router.delete("/{endpoint}/objectives", status_code=202)
async def withdraw_objectives(endpoint: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """It promises nothing any more; asked again, it changes nothing more."""
    await _tell(here, caller, endpoint, [])
    return {"object": "list", "data": []}


async def _tell(
    here: World, caller: Principal, endpoint: str, objectives: list[events.EndpointObjectivesSet.Objective]
) -> None:
    async with here.database.transaction() as session:
        row = await find_endpoint(Store(session), caller, endpoint, living=True)
        await tell(
            session,
            events.EndpointObjectivesSet(
                endpoint_id=row.endpoint_id,
                tenant_id=caller.tenant_id,
                name=row.name,
                objectives=objectives,
                set_at=timestamp(here.now()),
            ),
        )
