"""How soon a page of the console can be used. Part of gateway.

The gateway of `overview` (1,000 jobs, 100,000 events) serves the built console to a headless Chromium that has signed
in. A page counts from the moment that its address is gone to, with an empty cache of the page's data, until its heading
stands and nothing of it is being loaded any more; scripts and styles come from the browser's cache, as they do from the
second visit on, but for the first page of all.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import httpx2
from playwright.async_api import Page, async_playwright

from benchmarks.figures import Figure, figure
from benchmarks.gateway import overview

CONSOLE = Path(__file__).parents[2] / "console/dist/index.html"
PAGES = ("/", "/data", "/models", "/train", "/jobs", "/endpoints", "/monitoring", "/costs", "/settings")
VISITS = 5
GOAL_SECONDS = 1.5
LIMIT_MS = 30_000
BEING_LOADED = "[aria-busy='true'], .sk-loading, .sk-skeleton"


async def measure(server_url: str) -> list[Figure]:
    """Medians by page, the worst of which has the goal, and the first load of all. Raises RuntimeError."""
    chromium = shutil.which("chromium")
    if chromium is None or not CONSOLE.is_file():
        raise RuntimeError("pages needs chromium and the built console: `make test-console` brings both")
    async with overview.running(server_url) as url, async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        context = await browser.new_context(base_url=url, viewport={"width": 1280, "height": 800})
        page = await context.new_page()
        page.set_default_timeout(LIMIT_MS)
        await page.goto(await _link(url))
        await _usable(page)
        first = await _seconds(page, "/")
        seconds = {path: [await _seconds(page, path) for _ in range(VISITS)] for path in PAGES}
        await browser.close()
    medians = {path: statistics.median(taken) for path, taken in seconds.items()}
    worst = max(medians, key=medians.__getitem__)
    how = f"median of {VISITS} visits; {overview.JOBS} jobs, {overview.EVENTS} events; by page: " + ", ".join(
        f"{path} {taken:.2f}" for path, taken in medians.items()
    )
    return [
        figure("page_interactive_worst_median", medians[worst], "s", GOAL_SECONDS, "lower", how=f"{worst}; {how}"),
        figure("page_interactive_first_load", first, "s", GOAL_SECONDS, "lower", how="the first after signing in"),
    ]


async def _seconds(page: Page, path: str) -> float:
    began = time.perf_counter()
    await page.goto(path, wait_until="commit")
    await _usable(page)
    return time.perf_counter() - began


async def _usable(page: Page) -> None:
    await page.locator("main h1").first.wait_for(state="visible")
    loading = page.locator(BEING_LOADED)
    while await loading.count():  # noqa: ASYNC110 (a page has nobody to wait for)
        await asyncio.sleep(0.01)


async def _link(url: str) -> str:
    headers = {"Authorization": f"Bearer {overview.KEY}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers) as client:
        link: dict[str, Any] = (await client.post("/v1/session/links")).raise_for_status().json()
    return str(link["url"])
