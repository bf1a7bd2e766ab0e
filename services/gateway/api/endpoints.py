"""`/v1/endpoints`: serve a model, look, take it away."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, model_validator
from sqlalchemy import text

from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.etags import NOT_MODIFIED, Conditions, IfMatch, require_match, tagged
from services.gateway.api.feedback import ask
from services.gateway.api.replicas import ReplicasForm, count, placements, planned_options
from services.gateway.api.resolving import find_model, require_servable, require_weights
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
    respond,
    unprocessable,
)
from services.gateway.endpointfile import TrafficForm as ExpectedTraffic
from services.gateway.endpoints import EndpointState, EndpointView
from services.gateway.jobfile import Form, JobFileError, MachinesForm, Name, Reference
from services.gateway.keys import Principal
from services.gateway.plain import iso
from services.gateway.store import Store
from services.gateway.tables import EndpointRow
from services.gateway.values import Model
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem
from sskai.money import NANO_PER_USD

router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])


Share = Annotated[float, Field(ge=0, le=1)]


class PromotionForm(Form):
    """How a new version is judged; what is absent keeps its value, or its default."""

    mode: Literal["suggest", "approve", "auto"] | None = None
    steps: Annotated[list[Share], Field(min_length=1, max_length=20)] | None = None  # shares of traffic, rising
    minimum_requests: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None  # of the canary, in each step
    minimum_seconds: Annotated[float, Field(ge=0, le=30 * 86_400)] | None = None
    maximum_seconds: Annotated[float, Field(ge=0, le=365 * 86_400)] | None = None
    error_tolerance: Share | None = None
    latency_tolerance: Annotated[float, Field(ge=0, le=100)] | None = None
    quality_tolerance: Share | None = None
    shadow_fraction: Share | None = None
    sticky_by_key: bool | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        steps = self.steps or [1.0]
        if steps[0] <= 0 or any(one >= other for one, other in pairwise(steps)):
            raise ValueError("steps rise, and the first one is above 0")
        if (self.minimum_seconds or 0) > (86_400 if self.maximum_seconds is None else self.maximum_seconds):
            raise ValueError("maximum_seconds (a day unless it is given) is below minimum_seconds")
        return self

    def rules(self) -> events.EndpointTrafficRequested.Rules:
        return events.EndpointTrafficRequested.Rules(**self.model_dump(exclude_none=True))


class TrafficForm(Form):
    """One change at a time: a version to try, a word on the one that is tried, or other rules."""

    canary: Reference | None = None
    promote: Literal[True] | None = None
    roll_back: Literal[True] | None = None
    promotion: PromotionForm | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(one is not None for one in (self.canary, self.promote, self.roll_back)) > 1:
            raise ValueError("send one of canary, promote and roll_back")
        if not self.model_fields_set:
            raise ValueError("send canary, promote, roll_back or promotion")
        return self


class EndpointForm(Form):
    name: Name  # what clients write into "model"
    model: Reference  # NAME@VERSION, model://NAME/VERSION, NAME (its newest version), or a foundation model's id
    kind: Literal["adapter", "serverless", "spot"] = "adapter"
    # Share of requests told, redacted, as InferenceSampled: what drift detection sees.
    sample_rate: Share = 1.0
    promotion: PromotionForm | None = None  # with a mode: new versions of the model are tried by themselves
    canary: Reference | None = None  # a version to try from the start
    # Of kind spot: how many replicas, and where: on machines like these, for this traffic, or by a plan that there is.
    replicas: ReplicasForm | None = None
    resources: MachinesForm | None = None
    traffic: ExpectedTraffic | None = None
    plan: Id | None = None
    engine: Literal["auto", "embedded", "vllm"] = "auto"
    project: Name | None = None  # whose budget pays

    @model_validator(mode="after")
    def _of_spot(self) -> Self:
        given = sorted({"replicas", "resources", "traffic", "plan", "engine"} & self.model_fields_set)
        if self.kind != "spot" and given:
            raise ValueError(f"{given[0]} goes with kind: spot")
        if self.plan is not None and (self.resources or self.traffic):
            raise ValueError("send plan, or resources and traffic to plan for")
        return self


@router.post("", status_code=202)
async def create_endpoint(
    form: EndpointForm, request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Serve a model under a name. 202: it is `requested`, and `ready` (or `failed`) once inference has loaded it."""
    now = here.now()
    try:
        options = await _planned(form, here, caller)
        async with here.database.transaction() as session:
            store = Store(session)

            async def make() -> Answer:
                model = await find_model(form.model, here, caller, store.library, field="model", keep=True)
                await require_servable(model, here, caller, store.library, "model", planned=form.kind == "spot")
                require_weights(model, here, "model")
                # Of two requests for one name the second sees the first one's endpoint.
                await session.execute(
                    text("SELECT pg_advisory_xact_lock(hashtext(:name))"),
                    {"name": f"endpoint:{caller.tenant_id}:{form.name}"},
                )
                if await store.has_endpoint_named(caller.tenant_id, form.name):
                    raise Problem(
                        409,
                        "The name is taken",
                        f"An endpoint {form.name!r} is there: delete it or choose another name",
                    )
                event = _requested(form, model, caller.tenant_id, options)
                event.requested_at.CopyFrom(timestamp(now))
                row = await store.add_endpoint(event, model.id)
                await tell(session, event)
                if form.promotion is not None:
                    await tell(session, _wish(row, "rules", form.promotion, now))
                if form.canary is not None:
                    await tell(session, await _canary(form, row, here, caller, store))
                return Answer(202, shown(row))

            digested = digest("POST /v1/endpoints", await request.body())
            answer = await once(session, caller.tenant_id, idempotency_key, digested, make, now=now)
    except JobFileError as error:
        raise unprocessable("The endpoint cannot be made", error) from error
    except KeyReusedError as error:
        raise key_reused(error) from error
    response = respond(answer)
    response.headers["Location"] = f"/v1/endpoints/{answer.body['id']}"
    return response


@router.get("")
async def list_endpoints(
    here: Here,
    caller: Caller,
    paging: Paged,
    *,
    state: EndpointState | None = None,
    name: After = None,
    kind: Literal["adapter", "serverless", "spot"] | None = None,
    model: Annotated[Reference | None, Query(description="As it is shown: `NAME@VERSION`, or a base's id")] = None,
) -> dict[str, Any]:
    """The tenant's endpoints, newest first."""
    async with here.database.transaction() as session:
        rows = await Store(session).endpoints(caller.tenant_id, paging, state=state, name=name, kind=kind, model=model)
    return page([shown(row) for row in rows], paging.limit)


@router.get("/{endpoint_id}", response_model=dict[str, Any], responses=NOT_MODIFIED)
async def get_endpoint(endpoint_id: Id, here: Here, caller: Caller, conditions: Conditions) -> Response:
    """One endpoint and its state."""
    async with here.database.transaction() as session:
        row = await Store(session).endpoint(caller.tenant_id, endpoint_id)
    if row is None:
        raise not_found("endpoint", endpoint_id)
    traffic = None
    if row.state == EndpointState.READY:
        with suppress(Problem):  # what the gateway knows by itself is worth an answer
            answer = await ask(here, caller, "GET", f"/v1/endpoints/{row.endpoint_id}/traffic")
            traffic = answer.json() if answer.status_code == 200 else None
    return tagged({**shown(row), "traffic": traffic}, conditions, state=changeable(row))


@router.patch("/{endpoint_id}", status_code=202)
async def change_traffic(
    endpoint_id: Id, form: TrafficForm, here: Here, caller: Caller, if_match: IfMatch
) -> dict[str, Any]:
    """Try a version, promote it, roll it back (or the last promotion, if none is tried), or set the rules."""
    now = here.now()
    try:
        async with here.database.transaction() as session:
            store = Store(session)
            row = await store.endpoint(caller.tenant_id, endpoint_id, lock=True)
            if row is None:
                raise not_found("endpoint", endpoint_id)
            require_match(if_match, changeable(row))
            if row.state not in (EndpointState.REQUESTED, EndpointState.READY):
                raise Problem(409, "The endpoint does not answer", f"It is {row.state}: make another one")
            if form.canary is not None:
                await tell(session, await _canary(form, row, here, caller, store))
            elif form.promotion is not None:
                await tell(session, _wish(row, "rules", form.promotion, now))
            if form.promote or form.roll_back:
                await tell(session, _wish(row, "promote" if form.promote else "roll-back", None, now))
            return shown(row)
    except JobFileError as error:
        raise unprocessable("The canary cannot be tried", error) from error


@router.delete("/{endpoint_id}", status_code=202)
async def delete_endpoint(endpoint_id: Id, here: Here, caller: Caller, if_match: IfMatch) -> dict[str, Any]:
    """Take it away; asked again, it changes nothing more."""
    async with here.database.transaction() as session:
        store = Store(session)
        row = await store.endpoint(caller.tenant_id, endpoint_id, lock=True)
        if row is None:
            raise not_found("endpoint", endpoint_id)
        require_match(if_match, changeable(row))
        if row.state not in (EndpointState.DELETING, EndpointState.DELETED):
            event = events.EndpointDeletionRequested(
                endpoint_id=endpoint_id, tenant_id=caller.tenant_id, requested_at=timestamp(here.now())
            )
            await store.follow_endpoint(event)
            await tell(session, event)
        return shown(row)


def changeable(row: EndpointRow) -> dict[str, Any]:
    """What a change of the endpoint begins from: its tag stays the same while tokens and dollars are counted."""
    view = EndpointView.model_validate(row.view)
    return {
        "id": row.endpoint_id,
        "model_id": row.model_id,
        "version": row.version,
        "state": row.state,
        "canary_version": view.canary_version,
    }


def _wish(
    row: EndpointRow, action: str, promotion: PromotionForm | None, now: datetime
) -> events.EndpointTrafficRequested:
    return events.EndpointTrafficRequested(
        endpoint_id=row.endpoint_id,
        tenant_id=row.tenant_id,
        action=action,
        rules=promotion.rules() if promotion else None,
        requested_at=timestamp(now),
    )


async def _canary(
    form: EndpointForm | TrafficForm, row: EndpointRow, here: World, caller: Principal, store: Store
) -> events.EndpointTrafficRequested:
    """The wish to try another version of the endpoint's model, or an adapter on its base. Raises JobFileError."""
    model = await find_model(form.canary or "", here, caller, store.library, field="canary", keep=True)
    await require_servable(model, here, caller, store.library, "canary", planned=row.kind == "spot")
    require_weights(model, here, "canary")
    version = model.version if model.artifact_uri else 0
    related = model.model_id == row.model_id or (row.version == 0 and model.base_model_id == row.model_id)
    if not related:
        raise JobFileError("canary", f"{model.id} is no version of {row.model}: make an endpoint of its own for it")
    if version == row.version:
        raise JobFileError("canary", f"{model.id} answers already: choose another version")
    event = _wish(row, "canary", form.promotion, here.now())
    event.model_id, event.version = model.model_id, version
    event.base_model_id, event.base_uri, event.artifact_uri = model.base_model_id, model.base_uri, model.artifact_uri
    return event


def shown(row: EndpointRow) -> dict[str, Any]:
    return {
        "id": row.endpoint_id,
        "object": "endpoint",
        "name": row.name,
        "kind": row.kind,
        "model": row.model,
        "model_id": row.model_id,
        "version": row.version,
        "sample_rate": row.sample_rate,
        "state": row.state,
        **_view(EndpointView.model_validate(row.view)),
        "created_at": iso(row.created_at),
    }


def _view(view: EndpointView) -> dict[str, Any]:
    """Money in USD, as everywhere in the API."""
    shown = view.model_dump(mode="json")
    return {
        **{name: value for name, value in shown.items() if not name.endswith("_nano_usd")},
        "spent_usd": view.spent_nano_usd / NANO_PER_USD,
        "on_demand_usd": view.on_demand_nano_usd / NANO_PER_USD,
        "usd_per_million_tokens": view.usd_per_million_tokens,
    }


async def _planned(form: EndpointForm, here: World, caller: Principal) -> list[events.EndpointOption]:
    """Of kind spot: the ways to serve it; of the others: none is needed."""
    if form.kind != "spot":
        return []
    return await planned_options(
        name=form.name,
        model=form.model,
        plan_id=form.plan,
        resources=form.resources,
        traffic=form.traffic,
        here=here,
        caller=caller,
    )


def _requested(
    form: EndpointForm, model: Model, tenant_id: str, options: list[events.EndpointOption]
) -> events.EndpointRequested:
    """A trained version is an adapter on its base; any other model is a base itself, version 0."""
    return events.EndpointRequested(
        endpoint_id=new_id("endpoint"),
        tenant_id=tenant_id,
        name=form.name,
        kind=form.kind,
        model_id=model.model_id,
        version=model.version if model.artifact_uri else 0,
        base_model_id=model.base_model_id,
        base_uri=model.base_uri,
        artifact_uri=model.artifact_uri,
        sample_rate=form.sample_rate,
        promotion_mode=(form.promotion.mode if form.promotion else None) or "",
        placements=placements(options),
        replicas=count(form.replicas, options) if form.kind == "spot" else None,
        engine="" if form.engine == "auto" else form.engine,
        project=form.project or "",
    )
