"""S24: headers, CORS, documents that can be switched off, errors without stacks, a 404 that tells nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from services.gateway.settings import Settings
from sskai.contract import new_id
from tests.gateway.conftest import ADMIN_KEY, House
from tests.security.conftest import standing

pytestmark = pytest.mark.asyncio(loop_scope="session")

STACK = ("Traceback", 'File "/', ".py", "services.gateway", "sqlalchemy", "psycopg", "starlette", "site-packages")


def client_of(house: House, **changed: Any) -> httpx2.AsyncClient:
    """Of the application with other settings, without a socket. Bugs are answered, not raised."""
    app = standing(house, **changed)
    broken = APIRouter()

    @broken.get("/v1/broken")
    async def broken_route() -> None:
        raise RuntimeError(f"a bug with {ADMIN_KEY} in it")

    @broken.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>")

    app.include_router(broken)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return httpx2.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plain(running: House) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(running) as client:
        yield client


FAILURES: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/v1/broken", {}, 500),
    ("GET", "/v1/nowhere", {}, 404),
    ("GET", "/v1/jobs/job_x", {}, 404),
    ("GET", "/v1/jobs/%00", {}, 404),
    ("PUT", "/v1/jobs", {}, 405),
    ("GET", "/v1/jobs", {"headers": {"Authorization": "Bearer sskai_wrong"}}, 401),
    ("POST", "/v1/keys", {"json": {"name": "<script>"}}, 422),
    ("POST", "/v1/jobs", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 422),
    ("POST", "/v1/jobs", {"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 422),
    ("POST", "/v1/jobs", {"content": b"x" * 2_000_000, "headers": {"Content-Type": "application/json"}}, 413),
    ("POST", "/v1/datasets", {"content": b"x", "headers": {"Content-Type": "text/html"}}, 415),
    ("GET", "/v1/jobs", {"params": {"limit": "10000000000"}}, 422),
    ("GET", "/v1/figures", {}, 503),
    ("POST", "/v1/chat/completions", {"content": b"[]", "headers": {"Content-Type": "application/json"}}, 400),
]


@pytest.mark.parametrize(("method", "path", "sent", "status"), FAILURES)
async def test_every_failure_is_a_document_without_a_stack(
    plain: httpx2.AsyncClient, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    answer = await plain.request(method, path, **sent)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] in ("application/problem+json", "application/json")
    assert not [word for word in STACK if word in answer.text.replace(path, "")], answer.text
    assert ADMIN_KEY not in answer.text
    assert json.loads(answer.text)
    secure(answer)


def secure(answer: httpx2.Response) -> None:
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


async def test_every_answer_has_the_headers(house: House, plain: httpx2.AsyncClient) -> None:
    for path in ("/v1/jobs", "/v1/models", "/v1/keys", "/v1/nowhere"):
        secure(await house.ann.get(path))
    secure(await house.admin.post("/v1/keys", json={"name": "shown-once"}))
    page = await plain.get("/page")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src" not in policy, "scripts come from here alone, and none stands in a page"
    assert "strict-transport-security" not in page.headers
    assert "max-age" in (await plain.get("https://gateway/v1/jobs")).headers["strict-transport-security"]


async def test_what_serves_says_nothing_of_its_version(house: House) -> None:
    answer = await house.ann.get("/v1/jobs")
    assert not any(character.isdigit() for character in answer.headers.get("server", ""))
    assert "x-powered-by" not in answer.headers


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_pages_of_elsewhere_may_read_nothing_unless_a_setting_names_them(
    house: House, plain: httpx2.AsyncClient
) -> None:
    elsewhere = {"Origin": "https://evil.example"}
    for answer in (
        await plain.get("/v1/jobs", headers=elsewhere),
        await plain.options("/v1/jobs", headers=elsewhere | PREFLIGHT),
        await plain.get("/v1/broken", headers=elsewhere),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]
    async with client_of(house, allowed_origins="https://app.example, http://localhost:5173") as open_to:
        named = {"Origin": "https://app.example"}
        answer = await open_to.get("/v1/jobs", headers=named)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in answer.headers, "a cookie of ours never goes along"
        assert (await open_to.options("/v1/jobs", headers=named | PREFLIGHT)).status_code == 200
        for other in ("https://evil.example", "https://app.example.evil.example", "null", "http://app.example"):
            answer = await open_to.get("/v1/jobs", headers={"Origin": other})
            assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(ValidationError, match="write scheme and host alone"):
        Settings(allowed_origins="*")


async def test_the_documents_can_be_switched_off(house: House, plain: httpx2.AsyncClient) -> None:
    documents = ("/openapi.json", "/asyncapi.yaml", "/docs")
    assert [(await plain.get(path)).status_code for path in documents] == [200, 200, 200]
    async with client_of(house, api_documents=False) as without:
        for path in (*documents, "/redoc"):
            answer = await without.get(path)
            assert (answer.status_code, answer.json()) == (404, (await without.get("/v1/nowhere")).json())
        assert (await without.get("/v1/jobs")).status_code == 200


async def test_what_is_not_there_is_always_the_same(house: House) -> None:
    """Whether nobody has it, somebody else has it, or it cannot be an id: one shape, no more said."""
    job = await house.job(house.bob)
    told = []
    for job_id in (job["id"], new_id("job"), "a..b", "%00", "a" * 200, "';--"):
        answer = await house.ann.get(f"/v1/jobs/{job_id}")
        body = answer.json()
        told.append((answer.status_code, tuple(body), body["type"], body["status"]))
    assert len(set(told)) == 1
    assert told[0][0] == 404
