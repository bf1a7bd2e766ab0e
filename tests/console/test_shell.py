"""Signing in and the layout: by key and by link, in both languages and themes, on a desk and a phone, by keyboard."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import KEY, LINK, Stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = {
    "/": "Dashboard",
    "/data": "Data",
    "/models": "Models",
    "/train": "Train",
    "/jobs": "Jobs",
    "/endpoints": "Endpoints",
    "/monitoring": "Monitoring",
    "/costs": "Costs",
    "/settings": "Settings",
}


async def test_a_key_signs_in_and_leads_to_what_was_asked_for(open_page: Open) -> None:
    page = await open_page("/jobs?state=running")
    await expect(page).to_have_title("Sign in · SSKAI")
    await screenshot(page, "signin")
    assert await violations(page) == []
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_text("Enter an API key.")).to_be_visible()
    await page.get_by_label("API key").fill("sskai_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("This key is not valid")).to_be_visible()
    await expect(page.get_by_label("API key")).to_be_focused()
    await page.get_by_label("API key").fill(KEY)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    assert page.url.endswith("/jobs?state=running")


async def test_a_link_signs_in_at_once_and_leaves_no_secret_in_the_address(open_page: Open, stub: Stub) -> None:
    page = await open_page(f"/signin#link={LINK}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Dashboard")
    assert [asked.body for asked in stub.asked if asked.method == "POST"] == [{"link": LINK}]
    assert "link" not in page.url
    old = await open_page("/signin#link=used")
    await expect(old.get_by_text("The link cannot be used")).to_be_visible()
    await expect(old.get_by_role("link", name="Continue with Acme SSO")).to_be_visible()


@pytest.mark.parametrize(("theme", "locale"), [("light", "en-US"), ("dark", "ko-KR")])
async def test_the_layout_has_its_landmarks_and_nothing_that_axe_finds_serious(
    open_page: Open, stub: Stub, theme: str, locale: str
) -> None:
    stub.sign_in()
    page = await open_page("/", theme=theme, locale=locale)
    await expect(page.locator("html")).to_have_attribute("lang", locale[:2])
    await expect(page.get_by_role("main")).to_be_visible()
    await expect(page.get_by_role("navigation", name="주 메뉴" if locale == "ko-KR" else "Main")).to_be_visible()
    await expect(page.locator('[data-state="live"]')).to_be_visible()
    await screenshot(page, f"dashboard-{theme}")
    assert await violations(page) == []
    signin = await open_page("/settings/nothing-here", theme=theme, locale=locale)
    await expect(signin.get_by_role("heading", level=1)).to_be_visible()
    assert await violations(signin) == []


async def test_every_page_of_the_navigation_has_its_heading_and_title(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    page = await open_page("/")
    for path, title in PAGES.items():
        await page.get_by_role("navigation", name="Main").get_by_role("link", name=title, exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(title)
        # Settings begin with their first part, which is told before them.
        await expect(page).to_have_title(re.compile(rf"(^|· ){title} · SSKAI$"))
        assert urlsplit(page.url).path.startswith(path)
        await screenshot(page, f"page-{title.lower()}")


async def test_language_theme_and_project_are_chosen_by_keyboard(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    page = await open_page("/jobs")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    await page.keyboard.press("Tab")
    await expect(page.get_by_text("Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    await page.get_by_role("button", name="Language").press("Enter")
    await page.get_by_role("menuitem", name="한국어").press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("작업")
    await page.get_by_role("button", name="테마").press("Enter")
    await page.get_by_role("menuitem", name="어둡게").press("Enter")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.get_by_role("button", name=re.compile("프로젝트")).press("Enter")
    await expect(page.get_by_role("menuitem", name="Lab")).to_be_in_viewport()
    await screenshot(page, "project-menu-dark")
    await page.get_by_role("menuitem", name="Lab").press("Enter")
    await expect(page.get_by_role("button", name="프로젝트: Lab")).to_be_visible()
    await page.get_by_role("button", name=re.compile("계정")).press("Enter")
    await page.get_by_role("menuitem", name="로그아웃").press("Enter")
    await expect(page).to_have_title("로그인 · SSKAI")
    assert stub.session is None


async def test_on_a_phone_the_navigation_is_a_drawer(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    page = await open_page("/", width=390, height=780)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await screenshot(page, "phone")
    await page.get_by_role("button", name="Open the navigation").click()
    await page.get_by_role("dialog").get_by_role("link", name="Jobs").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert await violations(page) == []


async def test_a_session_that_ended_leads_to_signing_in(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    page = await open_page("/costs")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Costs")
    stub.session = None
    await page.reload()
    await expect(page).to_have_title("Sign in · SSKAI")
    assert "next=%2Fcosts" in page.url
