"""Costs: sums by the day and by what they were for, budgets, one receipt in full, and exports."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub
from tests.console.test_data import dataset, listing
from tests.console.test_models import RECEIPT

pytestmark = pytest.mark.asyncio(loop_scope="session")


def totals(spent_usd: float, **changes: Any) -> dict[str, Any]:
    saved = {"on_demand_usd": 3 * spent_usd, "saving_usd": 2 * spent_usd, "saving_fraction": 2 / 3}
    return {"spent_usd": spent_usd, **saved, "machine_seconds": 36_000.0} | changes


COSTS = {
    "object": "costs",
    "since": "2026-11-01",
    "until": "2026-11-29",
    "groups": [totals(0.0005, day="2026-11-28", job="job_1"), totals(4.0, day="2026-11-29", job="dataset_2@2")],
    "total": totals(4.0005),
    "time_saved_seconds": 23_400.0,
}
BUDGET = {
    "id": "budget_1",
    "object": "budget",
    "scope": "tenant",
    "target": "tenant_acme",
    "amount_usd": 100.0,
    "period": "month",
    "thresholds": [0.5, 0.8, 1.0],
    "action": "warn",
    "spent_usd": 70.0,
    "reserved_usd": 15.0,
    "left_usd": 15.0,
}


async def test_where_money_went_and_a_budget_is_changed(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    stub.answers |= {
        "GET /v1/costs": COSTS,
        "GET /v1/budgets": listing(BUDGET),
        "GET /v1/receipts": listing(RECEIPT),
        "GET /v1/receipts/job_1": RECEIPT,
        "GET /v1/jobs": listing({"id": "job_1", "name": "support-bot"}),
        "GET /v1/endpoints": listing(),
        "GET /v1/datasets": listing(dataset(2)),
        "GET /v1/models": listing(),
        "PUT /v1/budgets": BUDGET,
    }
    page = await open_page("/costs")
    await expect(page.get_by_role("rowheader", name="support-bot")).to_be_visible()
    await expect(page.get_by_text("$0.0005")).to_be_visible()
    await expect(page.get_by_role("link", name="Storage of support@2")).to_be_visible()
    await expect(page.get_by_role("img", name="85% is spent or reserved")).to_be_visible()
    await screenshot(page, "costs")
    assert await violations(page) == []
    csv = page.get_by_role("link", name="CSV")
    assert "format=csv&since=" in (await csv.get_attribute("href") or "")
    await page.get_by_text("Last month").click()
    await expect(page).to_have_url("/costs?span=last")
    await page.get_by_role("button", name="Change the budget of Whole project").click()
    await page.get_by_label("Amount in USD").fill("150")
    await page.get_by_role("dialog").get_by_text("Stop", exact=True).click()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    put = {"scope": "tenant", "amount_usd": 150, "period": "month", "thresholds": [0.5, 0.8, 1], "action": "stop"}
    assert [asked.body for asked in stub.asked if asked.method == "PUT"] == [put]
    await page.get_by_role("link", name="support-bot").last.click()
    await expect(page.get_by_text("One g5.xlarge on demand")).to_be_visible()
    await expect(page.get_by_text("Work done again after 1 interruption: 31 s.")).to_be_visible()
    await screenshot(page, "receipt")
    assert await violations(page) == []


@pytest.mark.heavy
async def test_a_viewer_on_a_phone_sees_that_the_ledger_is_away_and_sets_nothing(open_page: Open, stub: Stub) -> None:
    stub.sign_in(role="viewer", scopes=["read"])
    stub.answers["GET /v1/costs"] = (502, {"title": "The monitor does not answer"})
    stub.answers["GET /v1/budgets"] = listing(BUDGET | {"spent_usd": None, "reserved_usd": None, "left_usd": None})
    stub.answers["GET /v1/receipts"] = listing()
    page = await open_page("/costs", theme="dark", locale="ko-KR", width=390)
    await expect(page.get_by_text("지금은 비용 원장이 응답하지 않습니다.")).to_be_visible()
    await expect(page.get_by_text("작업이 끝나면 바로 영수증이 발행됩니다.")).to_be_visible()
    await expect(page.get_by_role("button", name="예산 설정")).to_have_count(0)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await violations(page) == []
