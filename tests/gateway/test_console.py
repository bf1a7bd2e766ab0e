"""The console's files as the gateway hands them out: kept for good or asked for again, never in the API's way."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from starlette.responses import PlainTextResponse

from services.gateway.console import Console
from tests.gateway.conftest import House

API_ANSWER = PlainTextResponse("the API", 404)
PAGE = "<!doctype html><title>SSKAI</title>"
SCRIPT = "export const answer = 42;\n"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets/app-Ab12.js").write_text(SCRIPT)
    (folder / "assets/app-Ab12.js.br").write_bytes(b"brotli")
    (folder / "index.html").write_text(PAGE)
    (tmp_path / "secret.txt").write_text("not to be seen")
    return folder


@pytest.fixture
async def browser(dist: Path) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(Console(dist, API_ANSWER, "http://127.0.0.1:8333/path"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://console") as client:
        yield client


async def test_an_address_of_the_console_answers_its_page(browser: httpx2.AsyncClient) -> None:
    for path in ("/", "/jobs/job_1", "/v1x", "/documents"):
        answer = await browser.get(path)
        assert (answer.status_code, answer.text) == (200, PAGE)
        assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "connect-src 'self' http://127.0.0.1:8333;" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"


async def test_an_asset_is_kept_for_good_and_comes_compressed(browser: httpx2.AsyncClient) -> None:
    plain = await browser.get("/assets/app-Ab12.js", headers={"Accept-Encoding": "identity"})
    assert plain.text == SCRIPT
    assert "immutable" in plain.headers["cache-control"]
    assert plain.headers["content-type"].startswith("text/javascript")
    packed = await browser.head("/assets/app-Ab12.js", headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "br"
    assert packed.headers["content-length"] == "6"


async def test_an_asset_that_is_gone_is_not_answered_by_a_page(browser: httpx2.AsyncClient) -> None:
    assert (await browser.get("/assets/app-old.js")).status_code == 404


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/../../secret.txt", "//etc/passwd"])
async def test_nothing_outside_of_the_build_is_handed_out(browser: httpx2.AsyncClient, path: str) -> None:
    answer = await browser.get(f"http://console{path}")
    assert "not to be seen" not in answer.text
    assert answer.text in (PAGE, "Not found")


async def test_the_api_s_paths_and_changes_are_the_api_s(browser: httpx2.AsyncClient) -> None:
    for path in ("/v1", "/v1/nothing", "/v2/models", "/openapi.json/x", "/metrics", "/readyz/x"):
        assert (await browser.get(path)).text == "the API"
    assert (await browser.post("/jobs")).text == "the API"


async def test_a_new_build_is_served_without_a_restart(browser: httpx2.AsyncClient, dist: Path) -> None:
    await browser.get("/")
    (dist / "assets/app-Cd34.js").write_text("new")
    (dist / "index.html").write_text("new page")
    os.utime(dist / "index.html", ns=(1, 1))
    assert (await browser.get("/")).text == "new page"
    assert (await browser.get("/assets/app-Cd34.js")).text == "new"


async def test_where_nothing_is_built_the_page_says_what_to_do(tmp_path: Path) -> None:
    transport = httpx2.ASGITransport(Console(tmp_path / "none", API_ANSWER, "http://127.0.0.1:8333"))
    async with httpx2.AsyncClient(transport=transport, base_url="http://console") as client:
        answer = await client.get("/")
    assert answer.status_code == 503
    assert "make console" in answer.text


@pytest.mark.asyncio(loop_scope="session")
async def test_the_gateway_keeps_its_problem_documents(house: House) -> None:
    for answer in (await house.ann.get("/v1/nothing"), await house.ann.post("/nothing", json={})):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    page = await house.ann.get("/jobs")
    assert page.headers["content-type"].startswith("text/html")
