"""The OpenAI-compatible API, spoken to the gateway: it has checked the user's key and names the tenant."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from services.inference import metrics, openai, painting, replica_api, tensors, traffic_api, v2, vectors
from services.inference.answering import Desk, answer, unknown_model
from services.inference.domain import Endpoint, State
from services.inference.images import ImageRequest
from services.inference.openai import ChatRequest, CompletionRequest, EmbeddingRequest, Refusal
from services.inference.replicas import Replicas
from services.inference.store import Store
from services.inference.tables import ModelVersionRow
from sskai.database import Database

log = structlog.get_logger()

MAX_BODY_BYTES = 8 * 1024 * 1024


def build(desk: Desk, database: Database, internal_token: str, replicas: Replicas) -> FastAPI:
    """The application. An empty `internal_token` refuses everybody: an open door must not be the default."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await desk.fleet.aclose()

    app = FastAPI(title="SSKAI inference", openapi_url=None, lifespan=lifespan)
    _count_on_demand(desk)

    def tenant_of(request: Request) -> str:
        """Whose request this is, by the gateway's word."""
        token = request.headers.get("x-sskai-internal", "")
        if not internal_token or not hmac.compare_digest(token.encode(), internal_token.encode()):
            raise Refusal(401, "Only the gateway may call this service.", kind="authentication_error")
        tenant_id = request.headers.get("x-sskai-tenant", "")
        if not tenant_id:
            raise Refusal(401, "The header X-SSKAI-Tenant is missing.", kind="authentication_error")
        return tenant_id

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        tenant_id = tenant_of(request)
        return await answer(desk, request, openai.parse(ChatRequest, await _body(request)), tenant_id)

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        tenant_id = tenant_of(request)
        return await answer(desk, request, openai.parse(CompletionRequest, await _body(request)), tenant_id)

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        tenant_id = tenant_of(request)
        return await vectors.embed(desk, request, openai.parse(EmbeddingRequest, await _body(request)), tenant_id)

    @app.post("/v1/images/generations")
    async def paint(request: Request) -> Response:
        tenant_id = tenant_of(request)
        return await painting.generate(desk, request, openai.parse(ImageRequest, await _body(request)), tenant_id)

    @app.post("/v2/models/{name}/infer")
    async def infer(request: Request, name: str) -> Response:
        tenant_id = tenant_of(request)
        body = await _body(request)
        # Numbers are many: the loop answers others meanwhile.
        asked = await asyncio.to_thread(v2.parse, body, request.headers.get(v2.LENGTH_HEADER))
        return await tensors.infer(desk, request, name, asked, tenant_id)

    @app.get("/v2/models/{name}")
    async def metadata(request: Request, name: str) -> dict[str, Any]:
        return await tensors.described(desk, name, tenant_of(request))

    @app.get("/v2/models/{name}/ready")
    async def ready(request: Request, name: str) -> dict[str, Any]:
        endpoints = [one for one in desk.router.endpoints(tenant_of(request)) if one.name == name]
        if not endpoints:
            raise unknown_model(name)
        # One that sleeps is ready, too: the next request wakes it.
        return {"name": name, "ready": endpoints[0].state == State.READY}

    app.include_router(replica_api.routes(replicas))
    app.include_router(traffic_api.routes(database, desk.tally, tenant_of))

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        endpoints = desk.router.endpoints(tenant_of(request))
        return {"object": "list", "data": await _described(database, endpoints)}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        endpoints = [one for one in desk.router.endpoints(tenant_of(request)) if one.name == name]
        if not endpoints:
            raise unknown_model(name)
        return (await _described(database, endpoints))[0]

    @app.exception_handler(Refusal)
    async def refused(_request: Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse(refusal.body, status_code=refusal.status, headers=refusal.headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return await refused(request, Refusal(error.status_code, message))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", path=request.url.path, exc_info=error)
        return await refused(request, Refusal(500, "Internal error; it was logged.", kind="server_error"))

    return app


def _count_on_demand(desk: Desk) -> None:
    """Gauges are read when Prometheus asks, not kept."""

    def occupancy(field: str) -> float:
        return float(getattr(desk.fleet.occupancy(), field))

    metrics.ACTIVE.set_function(lambda: occupancy("active"))
    metrics.WAITING.set_function(lambda: occupancy("waiting"))
    metrics.LOADED.set_function(lambda: float(len(desk.fleet.endpoint_ids)))


async def _body(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise Refusal(413, f"The body is over {MAX_BODY_BYTES} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def _described(database: Database, endpoints: list[Endpoint]) -> list[dict[str, Any]]:
    async with database.transaction() as session:
        versions = await Store(session).versions(endpoints)
    return [_model(one, versions.get((one.model_id, one.version))) for one in endpoints]


def _model(endpoint: Endpoint, version: ModelVersionRow | None) -> dict[str, Any]:
    """OpenAI's model object. `root` and `parent` as vLLM tells them: an adapter names the base it lies on."""
    tuned = bool(endpoint.artifact_uri)
    return {
        "id": endpoint.name,
        "object": "model",
        "created": int((version.ready_at if version else endpoint.requested_at).timestamp()),
        "owned_by": endpoint.tenant_id,
        "root": f"{endpoint.model_id}@{endpoint.version}" if tuned else endpoint.base_model_id,
        "parent": endpoint.base_model_id if tuned else None,
        "state": "sleeping" if endpoint.state == State.READY and not endpoint.replicas else endpoint.state,
        "job_id": version.job_id if version else None,
        "dataset_id": version.dataset_id if version else None,
    }
