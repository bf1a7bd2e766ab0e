"""Monitoring: what drifts and breaks promises, and a retraining that somebody approves."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub
from tests.console.test_endpoints import ENDPOINT, listing

pytestmark = pytest.mark.asyncio(loop_scope="session")

DRIFTED = ENDPOINT | {"drifted_at": "2026-11-29T12:00:00Z", "drift_signal": "input-content"}
EXPLANATION = "Requests are about other subjects: 0.78 in the last 24 of 60 samples, 0.65 in the training data."
TEST: dict[str, Any] = {
    "signal": "input-content", "member": "", "reference": "training-data", "statistic": 1214.6, "threshold": 833.3,
    "sample_size": 60, "reference_size": 250, "reference_mean": 0.65, "recent_mean": 0.78, "recent_samples": 24,
    "unit": "novelty of rare words from 0 to 1",
}  # fmt: skip
ALARM = {"signal": "input-content", "statistic": 1214.6, "threshold": 833.3, "sample_size": "60",
         "detected_at": "2026-11-29T12:00:00Z", "explanation": EXPLANATION}  # fmt: skip
DRIFT = {
    "object": "endpoint.drift", "endpoint_id": "endpoint_1",
    "versions": [{
        "model_id": "model_1", "version": 1, "samples": 60, "healthy_window": {"samples": 60, "ready": False},
        "alpha": 0.01, "updated_at": "2026-11-29T12:00:00Z", "alarms": [ALARM],
        "tests": [TEST, TEST | {"signal": "input-length", "statistic": 2.0, "unit": "words", "reference_mean": 4.2}],
    }],
}  # fmt: skip
OBJECTIVE = {
    "name": "availability", "target": 0.99, "at_most_seconds": None, "severity": "page",
    "breached_since": "2026-11-29T12:00:00Z", "budget_left_fraction": 0.4,
    "burn_rates": {"300s": 31.0, "1800s": 20.4, "3600s": 16.2, "21600s": 4.1, "259200s": 0.9, "2592000s": 0.4},
}  # fmt: skip
SUGGESTION = {
    "retrain_id": "retrain_1", "version": 1, "reason": "drift", "detail": "input-content drifted", "data": "dataset",
    "state": "waiting", "suggested_at": "2026-11-29T12:00:00Z", "expires_at": "2026-12-02T12:00:00Z",
}  # fmt: skip
POLICY = {
    "mode": "approve", "on": {"drift": True, "new_dataset": False, "schedule": None}, "data": "dataset",
    "budget_usd_per_month": 40.0, "cooldown": "21600s", "confirmations": {"alarms": 1, "samples": 0},
    "max_job_budget_usd": None,
}  # fmt: skip
RETRAINING: dict[str, Any] = {
    "object": "endpoint.retraining", "endpoint_id": "endpoint_1", "policy": POLICY, "set_by": "owner", "next_at": None,
    "spent_usd": 0.0005, "in_flight": None, "refused_now": None, "pending": [SUGGESTION],
    "timeline": [
        {"at": "2026-11-29T12:00:02Z", "kind": "suggested", "retrain_id": "retrain_1", "job_id": None,
         "detail": "input-content drifted"},
        {"at": "2026-11-29T12:00:01Z", "kind": "drift", "retrain_id": None, "job_id": None, "signal": "input-content",
         "explanation": EXPLANATION},
    ],
}  # fmt: skip
DECISION = {
    "kind": "retrain",
    "id": "retrain_1",
    "title": "support",
    "detail": "drift",
    "link": "/monitoring/endpoint_1",
}


def answer_about_monitoring(stub: Stub) -> None:
    path = "/v1/endpoints/endpoint_1"
    stub.answers |= {
        "GET /v1/endpoints": listing(DRIFTED),
        "GET /v1/overview": {"object": "overview", "decisions": [DECISION]},
        "GET /v1/datasets": listing({"id": "dataset_1", "name": "support", "version": 2}),
        f"GET {path}": DRIFTED,
        f"GET {path}/drift": DRIFT,
        f"GET {path}/objectives": listing(OBJECTIVE),
        f"GET {path}/retraining": RETRAINING,
        f"POST {path}/retraining/retrain_1/approve": {"object": "retrain", "id": "retrain_1", "approved": True},
        f"PUT {path}/retraining": {"object": "endpoint.retraining", "policy": POLICY},
    }


async def test_a_drift_is_explained_and_its_retraining_approved(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    answer_about_monitoring(stub)
    page = await open_page("/monitoring")
    await expect(page.get_by_text("1 retraining waits for your decision")).to_be_visible()
    await expect(page.get_by_role("cell", name="Availability")).to_be_visible()
    assert await violations(page) == []
    await page.get_by_role("cell").get_by_role("link", name="support").click()
    await expect(page.get_by_text(EXPLANATION).first).to_be_visible()
    await expect(page.get_by_text("Broken: act now")).to_be_visible()
    assert await violations(page) == []
    await page.get_by_role("button", name="Approve").click()
    await expect(page.get_by_text("Told.")).to_be_visible()
    await page.get_by_label("Budget a month").fill("25")
    await page.get_by_role("button", name="Save policy").click()
    await expect(page.get_by_text("The policy holds from now on")).to_be_visible()
    saved = next(asked.body for asked in stub.asked if asked.method == "PUT")
    assert saved == {name: value for name, value in POLICY.items() if value is not None} | {
        "budget_usd_per_month": 25,
        "cooldown": "6h",
    }


@pytest.mark.heavy
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
async def test_it_fits_its_screen(open_page: Open, stub: Stub, theme: str, width: int) -> None:
    stub.sign_in(role="viewer", scopes=["read"])
    answer_about_monitoring(stub)
    page = await open_page("/monitoring/endpoint_1", theme=theme, width=width, locale="ko-KR")
    await expect(page.get_by_text("input-content drifted").first).to_be_visible()
    await expect(page.get_by_role("button", name="승인")).to_have_count(0)
    await screenshot(page, f"monitoring-{theme}-{width}")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await violations(page) == []
