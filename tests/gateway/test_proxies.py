"""Chat and traces are passed on: to doubles of inference and the monitor on real sockets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from sskai.http import PROBLEM_JSON
from sskai.testing import wait_for
from tests.gateway.conftest import House, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = {"model": "bot", "messages": [{"role": "user", "content": "hi"}]}
TRACE = "0123456789abcdef0123456789abcdef"


@dataclass
class Neighbours:
    """Plays inference and the monitor. `away`: so many requests are answered `away_status` first."""

    away: int = 0
    away_status: int = 503
    seen: list[dict[str, Any]] = field(default_factory=list)
    closed: int = 0
    tokens: int = 3
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    tenants_trace: str = ""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = await request.json()
            self.seen.append({"headers": dict(request.headers), "body": body})
            if len(self.seen) <= self.away:
                return Response(status_code=self.away_status)
            if body["model"] == "nothing":
                return JSONResponse({"error": {"message": "no such model", "type": "x", "code": "y"}}, 404)
            if body.get("stream"):
                return StreamingResponse(self._stream(), media_type="text/event-stream")
            return JSONResponse({"choices": [{"message": {"content": "hello"}}]})

        @app.post("/v1/embeddings")
        async def embed(request: Request) -> Response:
            return JSONResponse({"object": "list", "asked": await request.json()})

        @app.post("/v1/images/generations")
        async def paint(request: Request) -> Response:
            asked, tenant = await request.json(), request.headers["x-sskai-tenant"]
            self.seen.append({"headers": dict(request.headers), "body": asked})
            if asked["model"] == "support":
                error = {"message": "draws no pictures", "type": "invalid_request_error", "param": "model", "code": "x"}
                return JSONResponse({"error": error}, 400)
            picture = base64.b64encode(tenant.encode() * 100_000).decode()
            return JSONResponse({"created": 1, "data": [{"b64_json": picture}]})

        @app.api_route("/v2/models/{path:path}", methods=["GET", "POST"])
        async def classify(path: str, request: Request) -> Response:
            told = {"path": path, "method": request.method, "tenant": request.headers["x-sskai-tenant"]}
            if tensors_at := request.headers.get("inference-header-content-length"):
                told["tensors_at"] = tensors_at
            return JSONResponse({**told, "body": (await request.body()).decode()})

        @app.get("/v1/traces/{trace_id}")
        async def trace(trace_id: str, request: Request) -> Response:
            if request.headers["x-sskai-tenant"] != self.tenants_trace:
                return Response(status_code=404)
            told = {"trace_id": trace_id, "internal": request.headers["x-sskai-internal"]}
            return JSONResponse({**told, "shape": request.query_params["shape"]})

        @app.get("/v1/figures")
        async def figures(request: Request) -> Response:
            if request.query_params.get("window") == "5m":
                return JSONResponse({"title": "Not such a window", "status": 422}, 422, media_type=PROBLEM_JSON)
            return JSONResponse({"asked": dict(request.query_params), "tenant": request.headers["x-sskai-tenant"]})

        @app.get("/v1/drift/{endpoint_id}")
        async def drift(endpoint_id: str, request: Request) -> Response:
            if request.headers["x-sskai-tenant"] != self.tenants_trace:
                return Response(status_code=404)
            return JSONResponse({"endpoint_id": endpoint_id, "versions": []})

        return app

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.tokens):
                yield f'data: {{"n": {number}}}\n\n'.encode()
                if number == 0 and self.tokens > 3:
                    await self.gate.wait()
            yield b"data: [DONE]\n\n"
        finally:
            self.closed += 1


@pytest_asyncio.fixture(loop_scope="session")
async def neighbours(house: House) -> AsyncIterator[Neighbours]:
    double = Neighbours()
    async with serving(double.app()) as url:
        house.world.settings.inference_url = url
        house.world.settings.otlp_url = url
        yield double
        double.gate.set()


async def tenant_of(house: House) -> str:
    tenant_id: str = (await house.ann.get("/v1/keys")).json()["data"][0]["tenant_id"]
    return tenant_id


async def test_a_chat_goes_to_inference_with_the_tenant_and_without_the_key(
    house: House, neighbours: Neighbours
) -> None:
    answer = await house.ann.post("/v1/chat/completions", json=CHAT)
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    (seen,) = neighbours.seen
    assert seen["body"] == CHAT
    assert seen["headers"]["x-sskai-tenant"] == await tenant_of(house)
    assert seen["headers"]["x-sskai-internal"] == "internal"
    assert "authorization" not in seen["headers"]


async def test_embeddings_and_classifiers_are_passed_on_too(house: House, neighbours: Neighbours) -> None:
    body = {"model": "support", "input": ["hello"]}
    assert (await house.ann.post("/v1/embeddings", json=body)).json()["asked"] == body
    tenant_id = await tenant_of(house)
    infer = await house.ann.post("/v2/models/spam/infer", content=b'{"inputs": []}')
    told = {"path": "spam/infer", "method": "POST", "tenant": tenant_id, "body": '{"inputs": []}'}
    assert infer.json() == told
    large = b"x" * 3 * 1024 * 1024  # pictures are larger than words
    headers = {"Inference-Header-Content-Length": "12", "Content-Type": "application/octet-stream"}
    binary = (await house.ann.post("/v2/models/spam/infer", content=large, headers=headers)).json()
    assert (len(binary["body"]), binary["tensors_at"]) == (len(large), "12")
    too_large = await house.ann.post("/v2/models/spam/infer", content=b"x" * (8 * 1024 * 1024 + 1))
    assert (too_large.status_code, too_large.headers["content-type"]) == (413, "application/problem+json")
    for path in ("spam", "spam/ready"):
        answer = await house.ann.get(f"/v2/models/{path}")
        assert answer.json() == {"path": path, "method": "GET", "tenant": tenant_id, "body": ""}


async def test_pictures_come_through_the_official_client(house: House, neighbours: Neighbours) -> None:
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client:
        answer = await client.images.generate(model="painter", prompt="a cat", user="ann", extra_body={"seed": 3})
        assert answer.data is not None
        assert base64.b64decode(answer.data[0].b64_json or "") == (await tenant_of(house)).encode() * 100_000
        (seen,) = neighbours.seen
        assert seen["body"] == {"model": "painter", "prompt": "a cat", "user": "ann", "seed": 3}
        assert len(seen["headers"]["x-sskai-session"]) == 32
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.generate(model="support", prompt="a cat")
        assert refused.value.param == "model"
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key="sskai_nobodys", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.images.generate(model="painter", prompt="a cat")
    unnamed = await house.ann.post("/v1/images/generations", json={"prompt": "a cat"})
    assert (unnamed.status_code, unnamed.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_pictures_count_against_their_keys_limits(house: House, neighbours: Neighbours) -> None:
    house.world.settings.request_burst_per_key, house.world.settings.requests_per_second_per_key = 1, 0.01
    body = {"model": "painter", "prompt": "a cat"}
    assert (await house.ann.post("/v1/images/generations", json=body)).status_code == 200
    refused = await house.ann.post("/v1/images/generations", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.headers["retry-after"]) > 1


async def test_tokens_come_as_they_are_made(house: House, neighbours: Neighbours) -> None:
    neighbours.tokens = 4
    async with house.ann.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == 'data: {"n": 0}'  # the others wait behind the gate
        neighbours.gate.set()
        rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert len(rest) == 4


async def test_a_client_that_leaves_frees_its_place(house: House, neighbours: Neighbours) -> None:
    neighbours.tokens = 4
    async with house.ann.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        await anext(answer.aiter_lines())
    await wait_for(lambda: neighbours.closed == 1)


async def test_a_restart_of_inference_is_waited_for(house: House, neighbours: Neighbours) -> None:
    neighbours.away = 3
    assert (await house.ann.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert len(neighbours.seen) == 4


async def test_who_made_an_endpoint_may_ask_it_before_inference_has_heard_of_it(
    house: House, neighbours: Neighbours
) -> None:
    neighbours.away, neighbours.away_status = 2, 404
    assert (await house.ann.post("/v1/chat/completions", json=CHAT)).status_code == 404
    neighbours.seen.clear()
    form = {"name": CHAT["model"], "model": "tiny-llama"}
    assert (await house.ann.post("/v1/endpoints", json=form)).status_code == 202
    assert (await house.ann.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert len(neighbours.seen) == 3
    neighbours.seen.clear()
    assert (await house.bob.post("/v1/chat/completions", json=CHAT)).status_code == 404


async def test_an_absent_inference_is_an_error_in_openais_shape(house: House) -> None:
    house.world.settings.inference_url = "http://127.0.0.1:9"
    house.world.settings.inference_retry_seconds = 0.3
    answer = await house.ann.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "unavailable"


async def test_errors_have_openais_shape(house: House, neighbours: Neighbours) -> None:
    missing = await house.ann.post("/v1/chat/completions", json={**CHAT, "model": "nothing"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "y")
    for body in (b"{", b"[]", b'{"model": 7}'):
        refused = await house.ann.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    nobody = await house.ann.post("/v1/chat/completions", json=CHAT, headers={"Authorization": "Bearer sskai_no"})
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, "invalid_api_key")


async def test_drift_is_the_monitors_to_show(house: House, neighbours: Neighbours) -> None:
    neighbours.tenants_trace = await tenant_of(house)
    path = "/v1/endpoints/endpoint_1/drift"
    assert (await house.ann.get(path)).json() == {"endpoint_id": "endpoint_1", "versions": []}
    assert (await house.bob.get(path)).status_code == 404
    house.world.settings.otlp_url = "http://127.0.0.1:9"
    assert (await house.ann.get(path)).status_code == 503


async def test_a_trace_is_the_monitors_to_show(house: House, neighbours: Neighbours) -> None:
    neighbours.tenants_trace = await tenant_of(house)
    answer = await house.ann.get(f"/v1/traces/{TRACE}")
    assert answer.json() == {"trace_id": TRACE, "internal": "internal", "shape": "list"}
    assert (await house.ann.get(f"/v1/traces/{TRACE}?shape=tree")).json()["shape"] == "tree"
    assert (await house.ann.get(f"/v1/traces/{TRACE}?shape=star")).status_code == 422
    assert (await house.bob.get(f"/v1/traces/{TRACE}")).status_code == 404
    assert (await house.ann.get("/v1/traces/not-a-trace")).status_code == 404
    house.world.settings.otlp_url = "http://127.0.0.1:9"
    assert (await house.ann.get(f"/v1/traces/{TRACE}")).status_code == 503


async def test_figures_are_the_monitors_to_tell(house: House, neighbours: Neighbours) -> None:
    answer = await house.ann.get("/v1/figures?window=1h&group_by=endpoint_id&whole=true")
    assert answer.json() == {
        "asked": {"window": "1h", "group_by": "endpoint_id", "whole": "true"},
        "tenant": await tenant_of(house),
    }
    refused = await house.ann.get("/v1/figures?window=5m")
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    house.world.settings.otlp_url = "http://127.0.0.1:9"
    assert (await house.ann.get("/v1/figures")).status_code == 503
