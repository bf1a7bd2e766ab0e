"""The dashboard: the month's figures, jobs that move by events, decisions at once, and words for each event."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import expect

from services.gateway.overview import ACTIVITY
from tests.console.conftest import ROOT, Open, screenshot, violations
from tests.console.stub import Stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

SUMS = {
    "since": "2026-11-01",
    "until": "2026-11-29",
    "paid_usd": 41.2,
    "on_demand_usd": 171.9,
    "saved_usd": 130.7,
    "saved_fraction": 0.7603,
    "time_saved_seconds": 93_600.0,
}
JOB = {
    "id": "job_1",
    "object": "job",
    "kind": "finetune",
    "name": "support-bot",
    "state": "running",
    "model": "qwen3-8b",
    "dataset": "dataset://support/3",
    "attempt": 2,
    "waiting": None,
    "progress": {"step": 180, "total_steps": 450, "phase": "training", "loss": 1.934, "eta_seconds": 1500.0},
    "spent_usd": 3.21,
    "budget_usd": 15.0,
    "submitted_at": "2026-11-29T10:00:00Z",
    "ended_at": None,
}
RETRAIN = {
    "kind": "retrain",
    "id": "retrain_1",
    "title": "helpdesk",
    "detail": "input-length drifted",
    "since": "2026-11-29T11:00:00Z",
    "link": "/monitoring/endpoint_1",
}
OVERVIEW: dict[str, Any] = {
    "object": "overview",
    "month": SUMS,
    "last_30_days": SUMS | {"since": "2026-10-31"},
    "last_365_days": SUMS,
    "cost_per_day": [
        {"day": f"2026-11-{day:02}", "paid_usd": 0.4 * day % 3, "on_demand_usd": 1.6 * day % 9} for day in range(5, 30)
    ],
    "budget": {"id": "b", "amount_usd": 100.0, "spent_usd": 41.2, "reserved_usd": 12.0, "left_usd": 46.8},
    "jobs": [JOB],
    "job_counts": {"running": 1, "succeeded": 4},
    "endpoint_counts": {"ready": 1},
    "decisions": [RETRAIN],
    "activity": [
        {
            "id": 9,
            "type": "AttemptResumed",
            "subject": "job_1",
            "name": "support-bot",
            "at": "2026-11-29T11:30:00Z",
            "fields": {"attempt": 2, "from_step": 180, "gap_seconds": 21.4},
        },
        {
            "id": 8,
            "type": "DatasetRejected",
            "subject": "dataset_1",
            "name": None,
            "at": "2026-11-29T11:00:00Z",
            "fields": {"name": "faq", "row": 3, "column": "messages[1].content", "reason": "is empty"},
        },
    ],
}
NOTHING: dict[str, Any] = {
    "month": None,
    "last_30_days": None,
    "last_365_days": None,
    "cost_per_day": None,
    "budget": None,
    "jobs": [],
    "job_counts": {},
    "endpoint_counts": {},
    "decisions": [],
    "activity": [],
}


async def test_what_runs_moves_by_events_and_a_retrain_is_decided_at_once(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    stub.answers["GET /v1/overview"] = OVERVIEW
    stub.answers["POST /v1/endpoints/endpoint_1/retraining/retrain_1/approve"] = {"object": "endpoint.retraining"}
    page = await open_page("/")
    await expect(page.get_by_text("76% less than $171.90 on demand")).to_be_visible()
    await expect(page.get_by_text("$46.80 of $100.00 left")).to_be_visible()
    await expect(page.get_by_text("support-bot goes on from step 180, attempt 2")).to_be_visible()
    await expect(page.get_by_text("row 3 · messages[1].content · is empty")).to_be_visible()
    await expect(page.locator('[data-state="live"]')).to_be_visible()
    read = len([asked for asked in stub.asked if asked.path == "/v1/overview"])
    stub.tell("AttemptProgressed", "job_1", step=225, total_steps=450, phase="training", loss=1.8, eta_seconds=600)
    progress = page.get_by_role("progressbar", name="Progress of support-bot")
    await expect(progress).to_have_attribute("aria-valuenow", "50")
    await expect(page.get_by_text("10 min left")).to_be_visible()
    assert len([asked for asked in stub.asked if asked.path == "/v1/overview"]) == read
    await screenshot(page, "dashboard")
    assert await violations(page) == []
    stub.answers["GET /v1/overview"] = OVERVIEW | {"decisions": []}
    await page.get_by_role("button", name="Approve retraining for helpdesk").click()
    await expect(page.get_by_text("Nothing waits for you.")).to_be_visible()
    await page.get_by_role("button", name="Show as a table").click()
    await expect(page.get_by_role("rowheader", name="Nov 29")).to_be_visible()


async def test_a_new_project_is_led_to_its_first_steps(open_page: Open, stub: Stub) -> None:
    stub.sign_in(role="viewer", scopes=["read"])
    stub.answers["GET /v1/overview"] = OVERVIEW | NOTHING
    stub.answers["GET /v1/datasets"] = {"object": "list", "data": [{}], "has_more": False, "next": None}
    page = await open_page("/", theme="dark", locale="ko-KR", width=390)
    await expect(page.get_by_role("link", name="모델 학습")).to_be_visible()
    await expect(page.locator('li[data-next="true"]')).to_contain_text("모델 학습")
    await expect(page.get_by_text("지금은 비용 원장이 응답하지 않습니다").first).to_be_visible()
    await expect(page.get_by_role("link", name="새 학습")).to_have_count(0)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await screenshot(page, "dashboard-new")
    assert await violations(page) == []


@pytest.mark.parametrize("locale", ["en", "ko"])
async def test_each_event_of_the_activity_has_words(locale: str) -> None:
    words = (ROOT / f"console/src/locales/{locale}/dashboard.ts").read_text()
    told = set(re.findall(r'"activity\.([A-Z]\w+)":', words))
    assert {type_.DESCRIPTOR.name for type_ in ACTIVITY} <= told
