"""The HTTP application: routers, limits, problem documents, traces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import structlog
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from services.gateway import access
from services.gateway.access import Scope
from services.gateway.api import (
    audit,
    budgets,
    chat,
    costs,
    cuts,
    datasets,
    docs,
    drift,
    endpoints,
    events,
    feedback,
    figures,
    files,
    fine_tuning,
    infer,
    jobs,
    keys,
    limits,
    logs,
    members,
    models,
    objectives,
    oidc,
    openai_errors,
    overview,
    plans,
    playground,
    receipts,
    replays,
    retraining,
    session,
    tenants,
    traces,
    upload_parts,
    uploads,
    webhooks,
)
from services.gateway.api.answers_document import complete
from services.gateway.api.auth import authenticate
from services.gateway.api.bodylimit import BodyLimit
from services.gateway.api.door import Door
from services.gateway.api.headers import SecureHeaders, allow_origins
from services.gateway.api.world import PROBLEM_RESPONSES, World
from services.gateway.asking import Requests
from services.gateway.console import Console
from services.gateway.hub import listening
from services.gateway.keys import Keys
from services.gateway.oidc import Client, Provider
from services.gateway.uploads import USUAL_PART_BYTES
from sskai.http import install_problem_handlers, spans_of_requests

log = structlog.get_logger()

# A part of OpenAI's usual size, and the form around it.
MAX_PART_BODY_BYTES = USUAL_PART_BYTES + 64 * 1024
RESOURCES = (
    overview, datasets, cuts, models, jobs, plans, replays, endpoints, objectives, retraining, drift, playground,
    receipts, events, traces, figures, chat, infer, feedback, keys, costs, budgets, webhooks, session, tenants,
    members, logs, files, uploads, fine_tuning, upload_parts, oidc, audit, limits,
)  # fmt: skip


def build_app(world: World) -> FastAPI:
    """The gateway's API around its parts. The lifespan makes the operator's key and listens to the event log."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        world.database.around = (await Requests.of(world.database)).around
        await ensure_admin_key(world)
        async with world.http, aclosing(world.onward), listening(world.hub, world.database.url):
            yield

    settings = world.settings
    app = FastAPI(
        title="SSKAI",
        summary="Fine-tune on the cheapest spot capacity, survive every interruption, serve, watch, retrain.",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,  # `docs.py` has one that needs no network
        redoc_url=None,
        responses=PROBLEM_RESPONSES,
        openapi_url="/openapi.json" if settings.api_documents else None,
        # A stream of events lasts for hours: its span would come when nobody asks for it any more.
        telemetry=spans_of_requests(but=r"/v1/events|/v1/jobs/[^/]+/logs"),
    )
    app.state.world = world
    world.provider = provider_of(world)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]
    install_problem_handlers(app, openai_errors.shaped)
    resources = (*RESOURCES, docs) if settings.api_documents else RESOURCES
    for resource in resources:
        app.include_router(resource.router, dependencies=[Depends(authenticate)])
    access.require_complete(
        (method, route.path)
        for resource in resources
        for route in resource.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    )
    app.router.default = Console(settings.console_dir, app.router.default, world.objects.access.url)
    app.add_middleware(
        BodyLimit,
        limit_bytes=settings.max_body_bytes,
        by_path={
            "/v1/datasets": settings.max_dataset_bytes,
            "/v1/files": settings.max_dataset_bytes,
            "/v1/uploads/": MAX_PART_BODY_BYTES,
            "/v1/models": settings.max_model_bytes,
            "/v2/models/": settings.max_tensors_bytes,
        },
    )
    # Around everything, also around what answers a bug with 500: middleware that is added stands within that.
    inner = app.build_middleware_stack
    app.build_middleware_stack = lambda: SecureHeaders(  # type: ignore[method-assign]
        allow_origins(Door(inner(), world.api_limits), settings.origins)
    )
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The document, valid as 3.1: FastAPI describes a stream's items by a word that only 3.2 knows.

    What is public names no credentials, though it goes through `authenticate` as well.
    """
    if app.openapi_schema:
        return app.openapi_schema
    document = FastAPI.openapi(app)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            known = access.ACCESS.get((method.upper(), path))
            if known is not None and known.scope is Scope.PUBLIC:
                operation.pop("security", None)
            for response in operation["responses"].values():
                for media in response.get("content", {}).values():
                    media["schema"] = media.pop("itemSchema", media.get("schema", {}))
    return complete(document)


async def ensure_admin_key(world: World) -> None:
    """The key of SSKAI_ADMIN_KEY is valid, whatever the database says."""
    key = world.settings.admin_key.get_secret_value()
    if key:
        async with world.database.transaction() as session:
            await Keys(session).ensure_admin(key, world.now())
        world.known_keys.forget()


def provider_of(world: World) -> Provider | None:
    """The identity provider of the settings, if one is named."""
    settings = world.settings
    if not settings.oidc_issuer:
        return None
    client_id, secret = settings.oidc_client_id, settings.oidc_client_secret.get_secret_value()
    client = Client(settings.oidc_issuer, client_id, secret, settings.oidc_audience or client_id)
    return Provider(client, world.http)
