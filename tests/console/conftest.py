"""The built console in a headless Chromium, before a stub of the gateway; screenshots go to build/screenshots."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, Page, async_playwright, expect

from sskai.testing import wait_for
from tests.console.stub import Stub, StubGateway

ROOT = Path(__file__).parents[2]
DIST = ROOT / "console/dist"
AXE = ROOT / "console/node_modules/axe-core/axe.min.js"
SCREENSHOTS = ROOT / "build/screenshots"
CHROMIUM = shutil.which("chromium")

# Machines are shared: how long a page takes is a matter of benchmarks.
LIMIT_MS = 15_000
expect.set_options(timeout=LIMIT_MS)

Open = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: `make test-console` installs it")
    if not (DIST / "index.html").is_file() or not AXE.is_file():
        pytest.skip("the console is not built: `make console`")
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway() -> AsyncIterator[tuple[str, StubGateway]]:
    app = StubGateway(DIST)
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await wait_for(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", app
    server.should_exit = True
    await task


@pytest_asyncio.fixture(loop_scope="session")
async def stub(gateway: tuple[str, StubGateway]) -> AsyncIterator[Stub]:
    """What this test's gateway answers."""
    _, app = gateway
    app.stub = Stub()
    yield app.stub
    app.stub.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, gateway: tuple[str, StubGateway], stub: Stub) -> AsyncIterator[Open]:
    """`page = await open_page("/jobs", theme="dark", locale="ko", width=390)`.

    Whatever a page writes to the browser's console as an error fails the test, so a breach of the content policy, too.
    """
    url, _ = gateway
    contexts, errors = [], []

    async def open_(
        path: str, *, theme: str = "light", locale: str = "en-US", width: int = 1280, height: int = 800
    ) -> Page:
        context = await browser.new_context(
            base_url=url,
            color_scheme=theme,
            locale=locale,
            reduced_motion="reduce",
            viewport={"width": width, "height": height},
        )
        contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
        await page.goto(path)
        return page

    yield open_
    for context in contexts:
        await context.close()
    assert errors == []


def is_error(message: Any) -> bool:
    # That a request was refused is said by the page, where it matters.
    return message.type == "error" and not message.text.startswith("Failed to load resource")


async def violations(page: Page) -> list[str]:
    """What axe-core finds that is serious or worse: the rule, and where."""
    await page.evaluate(AXE.read_text())
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']}: {node['target']} {node.get('failureSummary', '')}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


async def screenshot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
