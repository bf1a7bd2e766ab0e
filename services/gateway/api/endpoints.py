"""`/v1/endpoints`: serve a model, look, take it away."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field
from sqlalchemy import text

from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
from services.gateway.api.resolving import find_model, require_servable, require_weights
from services.gateway.api.world import (
    After,
    Here,
    Id,
    IdempotencyKey,
    Limit,
    key_reused,
    not_found,
    page,
    respond,
    unprocessable,
)
from services.gateway.endpoints import EndpointState, EndpointView
from services.gateway.jobfile import Form, JobFileError, Name, Reference
from services.gateway.plain import iso
from services.gateway.store import Store
from services.gateway.tables import EndpointRow
from services.gateway.values import Model
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])


class EndpointForm(Form):
    name: Name  # what clients write into "model"
    model: Reference  # NAME@VERSION, model://NAME/VERSION, NAME (its newest version), or a foundation model's id
    kind: Literal["adapter", "serverless", "spot"] = "adapter"
    # Share of requests told, redacted, as InferenceSampled: what drift detection sees.
    sample_rate: Annotated[float, Field(ge=0, le=1)] = 1.0


@router.post("", status_code=202)
async def create_endpoint(
    form: EndpointForm, request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Serve a model under a name. 202: it is `requested`, and `ready` (or `failed`) once inference has loaded it."""
    now = here.now()
    try:
        async with here.database.transaction() as session:
            store = Store(session)

            async def make() -> Answer:
                model = await find_model(form.model, here, caller, store.library, field="model")
                await require_servable(model, here, caller, store.library, "model")
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
                event = _requested(form, model, caller.tenant_id)
                event.requested_at.CopyFrom(timestamp(now))
                row = await store.add_endpoint(event, model.id)
                await tell(session, event)
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
async def list_endpoints(here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The tenant's endpoints, newest first."""
    async with here.database.transaction() as session:
        rows = await Store(session).endpoints(caller.tenant_id, after, limit + 1)
    return page([shown(row) for row in rows], limit)


@router.get("/{endpoint_id}")
async def get_endpoint(endpoint_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One endpoint and its state."""
    async with here.database.transaction() as session:
        row = await Store(session).endpoint(caller.tenant_id, endpoint_id)
    if row is None:
        raise not_found("endpoint", endpoint_id)
    return shown(row)


@router.delete("/{endpoint_id}", status_code=202)
async def delete_endpoint(endpoint_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Take it away; asked again, it changes nothing more."""
    async with here.database.transaction() as session:
        store = Store(session)
        row = await store.endpoint(caller.tenant_id, endpoint_id, lock=True)
        if row is None:
            raise not_found("endpoint", endpoint_id)
        if row.state not in (EndpointState.DELETING, EndpointState.DELETED):
            event = events.EndpointDeletionRequested(
                endpoint_id=endpoint_id, tenant_id=caller.tenant_id, requested_at=timestamp(here.now())
            )
            await store.follow_endpoint(event)
            await tell(session, event)
        return shown(row)


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
        **EndpointView.model_validate(row.view).model_dump(mode="json"),
        "created_at": iso(row.created_at),
    }


def _requested(form: EndpointForm, model: Model, tenant_id: str) -> events.EndpointRequested:
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
    )
