"""A new user in a browser, on the whole system: signed in by the address that `sskai up` prints, from a file of
conversations to a chat with a model of their own, touching nothing else. The pictures of it stand in docs/images.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import ConsoleMessage, Page, async_playwright, expect

from sskai.demo import corpus
from sskai.local import weights
from tests.journeys.conftest import Stack

ROOT = Path(__file__).parents[2]
DIST = ROOT / "console/dist/index.html"
PICTURES = ROOT / "build/screenshots/journey"
CHROMIUM = shutil.which("chromium")
ROWS = 60
PATIENCE_MS = 30_000
TRAINED_MS = 600_000  # a whole fine-tuning of 135 million weights on shared cores

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest_asyncio.fixture
async def page(running: Stack) -> AsyncIterator[Page]:
    """A browser at the console's door; what it logs as an error fails the test."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: `make test-console` installs it")
    if not DIST.is_file():
        pytest.skip("the console is not built: `make console`")
    errors: list[str] = []
    async with async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        context = await browser.new_context(
            base_url=running.state.gateway_url, viewport={"width": 1280, "height": 800}, locale="en-US"
        )
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()

        def note(said: ConsoleMessage) -> None:
            # Whether somebody is signed in, the console asks first; a browser calls the answer "nobody" an error.
            asks_who = said.location["url"].endswith("/v1/session") and "401" in said.text
            if said.type == "error" and not asks_who:
                errors.append(f"{said.text} {said.location['url']}")

        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        await browser.close()
    assert errors == []


async def test_from_signing_in_to_a_chat_with_a_model_of_their_own(running: Stack, page: Page, tmp_path: Path) -> None:
    weights.fetch()  # as `sskai up` does
    expect.set_options(timeout=PATIENCE_MS)
    file = tmp_path / "conversations.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in corpus.training_rows()[:ROWS]))
    with running.client() as client:
        await page.goto(client.session.link()["url"])
    await expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")
    await picture(page, "first-steps")

    await page.get_by_role("link", name="Data", exact=True).click()
    await page.locator('input[type="file"]').set_input_files(file)
    await page.get_by_label("Dataset name").fill("small-talk")
    await page.get_by_role("button", name="Upload", exact=True).click()
    await expect(page.get_by_text(f"Version 1: {ROWS} rows")).to_be_visible()
    await expect(page.get_by_role("link", name="small-talk")).to_be_visible()
    await picture(page, "data")

    await page.get_by_role("link", name="Train", exact=True).click()
    await page.get_by_role("radio", name="small-talk").check()
    await page.get_by_role("button", name="Next: Model").click()
    await page.get_by_role("radio", name=weights.NAME).check()
    await page.get_by_role("button", name="Next: Method").click()
    await page.get_by_label("Epochs").fill("0.5")
    await page.get_by_role("button", name="Next: Goal").click()
    await page.get_by_role("textbox", name="Budget").fill("2")
    await page.get_by_role("button", name="Show the plan").click()
    start = page.get_by_role("button", name="Start training")
    await expect(start).to_be_enabled(timeout=120_000)
    await picture(page, "plan")
    await start.click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("small-talk")
    await expect(page.get_by_text("Running").first).to_be_visible(timeout=TRAINED_MS)
    await expect(page.get_by_text("Succeeded").first).to_be_visible(timeout=TRAINED_MS)
    await picture(page, "job")

    await page.get_by_role("link", name=re.compile("Deploy")).first.click()
    await page.get_by_role("button", name="Create endpoint").click()
    await expect(page.get_by_role("tab", name="Playground")).to_be_visible()
    await page.get_by_role("tab", name="Playground").click()
    await page.get_by_role("textbox", name="Message").fill("What is AI?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text(re.compile(r"\d+ tokens")).first).to_be_visible(timeout=120_000)
    await picture(page, "chat")

    for name in ("Dashboard", "Models", "Monitoring", "Costs"):
        await page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(name)
        await expect(page.get_by_role("main").get_by_text("small-talk").first).to_be_visible()
        await picture(page, name.lower())


async def picture(page: Page, name: str) -> None:
    """At rest: what is being loaded has come."""
    await expect(page.locator(".sk-loading, [aria-busy=true]")).to_have_count(0)
    PICTURES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=PICTURES / f"{name}.png")
