"""Settings: a key is shown once, a webhook tested, its failed delivery sent again, the audit log verified."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub
from tests.console.test_endpoints import listing

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY: dict[str, Any] = {
    "id": "key_1", "object": "key", "name": "ci", "prefix": "sskai_ABCDEFGH", "scopes": ["read", "infer", "write"],
    "operator": False, "sampled": True, "created_by": "user_1", "created_at": "2026-11-29T12:00:00Z",
    "expires_at": None, "last_used_at": None, "revoked_at": None,
}  # fmt: skip
MEMBER = {
    "id": "member_1", "object": "member", "email": "ann@acme.example", "name": "Ann Lee", "role": "admin",
    "state": "active", "created_at": "2026-11-29T12:00:00Z",
}  # fmt: skip
HOOK: dict[str, Any] = {
    "id": "webhook_1", "object": "webhook", "url": "https://example.org/sskai", "types": ["JobFailed"], "enabled": True,
    "created_at": "2026-11-29T12:00:00Z", "disabled_at": None, "previous_secret_until": None,
}  # fmt: skip
DELIVERY = {
    "id": "delivery_1", "object": "webhook.delivery", "state": "failed", "type": "JobFailed", "event_id": "evt_1",
    "tries": 10, "told_at": "2026-11-29T12:00:00Z", "delivered_at": None, "next_try_at": None, "last_status": 500,
    "last_problem": "500 Internal Server Error",
}  # fmt: skip
ENTRY = {
    "id": "audit_1", "object": "audit.entry", "seq": 7, "at": "2026-11-29T12:00:00Z", "action": "key.create",
    "actor": {"kind": "user", "id": "user_1", "name": "Ann Lee"}, "target": "key_1", "status": 201,
    "before_sha256": None, "after_sha256": "0" * 64, "previous_sha256": "1" * 64, "sha256": "2" * 64,
}  # fmt: skip
LIMITS = [
    {"name": "jobs.active", "limit": None, "used": 3, "unit": "jobs"},
    {"name": "members", "limit": 1000, "used": 1, "unit": "members"},
    {"name": "dataset.bytes", "limit": 104_857_600, "used": None, "unit": "bytes"},
    {"name": "budget.tenant.month", "limit": 100.0, "used": 91.5, "unit": "USD"},
]


def answer_about_settings(stub: Stub) -> None:
    hook = "/v1/webhooks/webhook_1"
    stub.answers |= {
        "GET /v1/keys": listing(KEY),
        "POST /v1/keys": KEY | {"name": "notebook", "key": "sskai_shown-once"},
        "GET /v1/members": listing(MEMBER),
        "DELETE /v1/members/member_1": (409, {"title": "The last admin", "detail": "A project keeps an admin"}),
        "GET /v1/webhooks": listing(HOOK),
        "POST /v1/webhooks": HOOK | {"secret": "whsec_shown-once"},
        f"GET {hook}": HOOK,
        f"GET {hook}/deliveries": listing(DELIVERY),
        f"POST {hook}/test": {"delivery_id": "delivery_2"},
        f"POST {hook}/deliveries/delivery_1/replay": DELIVERY | {"state": "waiting"},
        "GET /v1/limits": {"object": "limits", "data": LIMITS},
        "GET /v1/audit": listing(ENTRY),
        "GET /v1/audit/verify": {"valid": True, "entries": 7, "broken_at": None},
        "GET /openapi.json": {"info": {"version": "0.1.0"}},
    }


async def test_an_admin_makes_a_key_a_webhook_and_verifies_the_log(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    answer_about_settings(stub)
    page = await open_page("/settings/keys")
    parts = page.get_by_role("navigation", name="Settings")
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("Name").fill("notebook")
    await page.get_by_role("button", name="Create key").click()
    await expect(page.get_by_text("sskai_shown-once")).to_be_visible()
    made = next(asked.body for asked in stub.asked if asked.method == "POST")
    assert made == {"name": "notebook", "scopes": ["read", "infer", "write"], "sampled": True, "expires_in": "90d"}
    assert await violations(page) == []

    await parts.get_by_role("link", name="Members").click()
    await page.get_by_role("button", name="Remove ann@acme.example").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.get_by_text("A project keeps an admin")).to_be_visible()

    await parts.get_by_role("link", name="Webhooks").click()
    await page.get_by_role("link", name="https://example.org/sskai").click()
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.get_by_text("A test event is on its way")).to_be_visible()
    await page.get_by_role("button", name="Replay JobFailed").click()
    await expect(page.get_by_text("It is sent again")).to_be_visible()
    assert await violations(page) == []

    await parts.get_by_role("link", name="Audit log").click()
    await page.get_by_role("button", name="Verify the chain").click()
    await expect(page.get_by_text("7 entries, unbroken")).to_be_visible()
    assert await violations(page) == []


@pytest.mark.heavy
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
async def test_every_part_fits_its_screen(open_page: Open, stub: Stub, theme: str, width: int) -> None:
    stub.sign_in()
    answer_about_settings(stub)
    for part in ("", "/keys", "/members", "/webhooks", "/webhooks/webhook_1", "/limits", "/audit", "/about"):
        page = await open_page(f"/settings{part}", theme=theme, width=width, locale="ko-KR")
        await expect(page.get_by_role("heading", level=2).first).to_be_visible()
        await expect(page.locator(".sk-skeleton")).to_have_count(0)
        await screenshot(page, f"settings{part.replace('/', '-')}-{theme}-{width}")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await violations(page) == []


@pytest.mark.heavy
async def test_a_viewer_sees_no_audit_log_and_is_offered_no_key(open_page: Open, stub: Stub) -> None:
    stub.sign_in(role="viewer", scopes=["read"])
    answer_about_settings(stub)
    page = await open_page("/settings/keys")
    await expect(page.get_by_text("sskai_ABCDEFGH")).to_be_visible()
    await expect(page.get_by_role("button", name="New key")).to_have_count(0)
    await page.get_by_role("link", name="Audit log").click()
    await expect(page.get_by_text("Only admins see this")).to_be_visible()
    assert not any(asked.path == "/v1/audit" for asked in stub.asked)
