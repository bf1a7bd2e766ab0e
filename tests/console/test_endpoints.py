"""Endpoints: deploying one, its page with canary and figures, and a conversation with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENDPOINT: dict[str, Any] = {
    "id": "endpoint_1", "object": "endpoint", "name": "support", "kind": "spot", "model": "bot@1",
    "model_id": "model_1", "version": 1, "sample_rate": 1.0, "state": "ready", "ready_at": "2026-11-29T12:00:00Z",
    "load_seconds": 4.2,
    "cold_start_seconds": None, "failed_at": None, "reason": "", "advice": "", "replicas": 2, "drifted_at": None,
    "drift_signal": "", "drift_explanation": "", "served_version": None, "canary_version": 2, "canary_fraction": 0.05,
    "spent_usd": 0.0123, "on_demand_usd": 0.041, "input_tokens": 12_000, "output_tokens": 4_000,
    "usd_per_million_tokens": 0.77, "created_at": "2026-11-29T11:59:00Z",
}  # fmt: skip
FIGURES = {"shadow": False, "errors": 0, "error_rate": 0.0, "p50_seconds": 0.8, "p95_seconds": 1.4}
TRAFFIC: dict[str, Any] = {
    "object": "endpoint.traffic", "promotion": "approve", "history": [], "versions": [],
    "split": [
        {"version": 1, "role": "champion", "fraction": 0.95}, {"version": 2, "role": "canary", "fraction": 0.05},
    ],
    "rollout": {
        "id": "rollout_1", "version": 2, "from_version": 1, "mode": "approve", "stage": "canary", "step": 0,
        "steps": [0.05, 0.25, 1.0], "minimum_requests": 50, "minimum_seconds": 600, "shadow_fraction": 0.0,
        "reason": None,
        "versions": [
            {"version": 1, "requests": 400, "feedback": 3, "mean_score": 0.9, **FIGURES},
            {"version": 2, "requests": 21, "feedback": 0, "mean_score": None, **FIGURES},
        ],
        "win_rate": {"value": 0.55, "low": 0.3, "high": 0.8, "feedback": 12}, "evaluations": [],
    },
}  # fmt: skip
SPREAD = {"count": 20, "total": 8.0, "mean": 0.05, "p50": 0.4, "p95": 0.6, "p99": 0.7}
VALUES = ("time_to_first_token_seconds", "time_per_output_token_seconds", "input_tokens", "output_tokens")
ROW: dict[str, Any] = {
    "name": "chat support", "window_start": "2026-11-29T12:00:00Z", "spans": 20, "errors": 0, "error_fraction": 0.0,
    "spans_per_second": 0.3, "mean_seconds": 0.9, "p50_seconds": 0.8, "p95_seconds": 1.4, "p99_seconds": 1.6,
    "exemplar_trace_id": None, "values": dict.fromkeys(VALUES, SPREAD),
}  # fmt: skip
PLAYGROUND: dict[str, Any] = {
    "object": "endpoint.playground", "name": "support", "model": "bot@1", "state": "ready", "task": "text-generation",
    "context_tokens": 8192, "operation": "chat", "route": "/v1/chat/completions", "streams": True,
    "parameters": [
        {"name": "max_completion_tokens", "type": "integer", "default": 256, "minimum": 1, "maximum": 8192,
         "choices": []},
        {"name": "temperature", "type": "number", "default": 1.0, "minimum": 0, "maximum": 2, "choices": []},
    ],
    "examples": ["How do I get a refund?"], "body": {"model": "support"},
    "snippets": {"curl": "curl http://127.0.0.1:8000/v1/chat/completions", "python": "import os"},
}  # fmt: skip


def chunk(**changes: Any) -> str:
    return f"data: {json.dumps({'id': 'chatcmpl_1', 'choices': [], **changes})}\n\n"


ANSWER = (
    chunk(choices=[{"delta": {"content": "Within "}}])
    + chunk(choices=[{"delta": {"content": "30 days."}, "finish_reason": "stop"}])
    + chunk(usage={"prompt_tokens": 9, "completion_tokens": 4})
    + "data: [DONE]\n\n"
)


def listing(*rows: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(rows), "has_more": False, "next": None}


def answer_about_endpoints(stub: Stub) -> None:
    path = f"/v1/endpoints/{ENDPOINT['id']}"
    other = ENDPOINT | {"id": "endpoint_2", "name": "support-old", "canary_version": None, "kind": "adapter"}
    models = [{"id": f"bot@{version}", "name": "bot", "version": version, "available": True} for version in (1, 2, 3)]
    stub.answers |= {
        "GET /v1/endpoints": listing(ENDPOINT, other),
        f"GET {path}": ENDPOINT | {"traffic": TRAFFIC},
        f"GET {path}/objectives": listing(),
        f"GET {path}/playground": PLAYGROUND,
        "GET /v1/models": listing(*models),
        "GET /v1/figures": {"window_seconds": 60.0, "figures": [ROW]},
        f"PATCH {path}": ENDPOINT,
        f"DELETE {path}": ENDPOINT | {"state": "deleting"},
        "POST /v1/endpoints": ENDPOINT,
        "POST /v1/chat/completions": ANSWER,
        "POST /v1/feedback": {"object": "feedback", "id": "chatcmpl_1"},
    }


async def test_an_endpoint_is_deployed_asked_judged_and_deleted(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    answer_about_endpoints(stub)
    page = await open_page("/endpoints?model=bot@3")
    await expect(page.get_by_role("dialog", name="New endpoint")).to_be_visible()
    await expect(page.get_by_label("Name", exact=True)).to_have_value("bot")
    await page.get_by_role("radio", name="Serverless").check()
    await page.get_by_role("button", name="Create endpoint").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("support")
    made = next(asked.body for asked in stub.asked if (asked.method, asked.path) == ("POST", "/v1/endpoints"))
    assert (made["kind"], made["model"]) == ("serverless", "bot@3")
    assert "replicas" not in made
    await expect(page.get_by_text("v1 · v2 as canary, 5 %")).to_be_visible()
    await expect(page.get_by_text("70% below on demand")).to_be_visible()
    assert await violations(page) == []

    await page.get_by_role("tab", name="Playground").click()
    await page.get_by_role("button", name="How do I get a refund?").click()
    await expect(page.get_by_text("Within 30 days.")).to_be_visible()
    await expect(page.get_by_text("4 tokens")).to_be_visible()
    await page.get_by_role("button", name="Good answer").click()
    await expect(page.get_by_text("Noted")).to_be_visible()
    assert await violations(page) == []
    assert stub.asked[-1].body == {"id": "chatcmpl_1", "label": "up"}

    await page.get_by_role("tab", name="Versions").click()
    await page.get_by_role("button", name="Promote", exact=True).click()
    await page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    await expect(page.get_by_text("Asked for")).to_be_visible()
    assert any(asked.body == {"promote": True} for asked in stub.asked if asked.method == "PATCH")

    await page.get_by_role("button", name="Delete", exact=True).click()
    await page.get_by_role("button", name="Delete endpoint").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Endpoints")
    assert await violations(page) == []


@pytest.mark.heavy
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
async def test_each_part_of_it_fits_its_screen(open_page: Open, stub: Stub, theme: str, width: int) -> None:
    stub.sign_in()
    answer_about_endpoints(stub)
    for tab in ("overview", "playground", "versions", "code"):
        page = await open_page(f"/endpoints/endpoint_1?tab={tab}", theme=theme, width=width, locale="ko-KR")
        await expect(page.get_by_role("heading", level=1)).to_have_text("support")
        await expect(page.locator(".sk-skeleton")).to_have_count(0)
        await screenshot(page, f"endpoint-{tab}-{theme}-{width}")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await violations(page) == []


@pytest.mark.heavy
async def test_a_failed_one_says_why_and_a_viewer_is_offered_nothing_to_change(open_page: Open, stub: Stub) -> None:
    stub.sign_in(role="viewer", scopes=["read"])
    answer_about_endpoints(stub)
    failed = {"state": "failed", "reason": "out-of-memory", "advice": "Choose a larger machine."}
    stub.answers["GET /v1/endpoints/endpoint_1"] = ENDPOINT | failed
    page = await open_page("/endpoints/endpoint_1", theme="dark")
    await expect(page.get_by_role("alert")).to_contain_text("Choose a larger machine.")
    await expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    await expect(page.get_by_role("tab", name="Playground")).to_have_count(0)
