"""The wizard: from data to a plan and its job, with the gateway's refusals at their fields."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub
from tests.console.training_documents import JOB, JOB_ID, PLAN, dataset, model, page

pytestmark = pytest.mark.asyncio(loop_scope="session")

BASE = "smollm2-135m-instruct"


def prepare(stub: Stub) -> None:
    stub.sign_in()
    turns = [{"role": "user", "content": "Where is my order?"}, {"role": "assistant", "content": "Soon."}]
    support = dataset("support", 2)
    stub.answers |= {
        "GET /v1/datasets": page(support, dataset("faq", 1), dataset("support", 1)),
        "GET /v1/datasets/support@2": support,
        "GET /v1/datasets/support@2/preview": {"object": "dataset.preview", "id": "x", "rows": [{"messages": turns}]},
        "GET /v1/models": page(model(BASE), model("llama-3.1-8b-instruct", available=False, licence="llama3.1")),
        "POST /v1/plans": PLAN,
        "POST /v1/jobs": JOB,
        f"GET /v1/jobs/{JOB_ID}": JOB,
    }


def next_step(at: Page, name: str) -> object:
    return at.get_by_role("button", name=name).click()


async def test_data_model_method_goal_plan_job(open_page: Open, stub: Stub) -> None:
    prepare(stub)
    at = await open_page("/train")
    await at.get_by_role("radio", name="support").check()
    await expect(at.get_by_text("Where is my order?")).to_be_visible()
    assert await violations(at) == []
    await screenshot(at, "train-data")
    await next_step(at, "Next: Model")
    await at.get_by_role("radio", name=BASE).check()
    await next_step(at, "Next: Method")
    await at.get_by_label("Epochs").fill("2000")
    await expect(at.get_by_text("Too large: 0 to 1,000.")).to_be_visible()
    await at.get_by_label("Epochs").fill("3")
    assert await violations(at) == []
    await screenshot(at, "train-method")
    await at.reload()
    await expect(at.get_by_label("Epochs")).to_have_value("3")
    await next_step(at, "Next: Goal")
    await at.get_by_role("textbox", name="Budget").fill("15")
    stub.answers["POST /v1/plans"] = PLAN | {"status": "pending", "candidates": []}
    stub.answers["GET /v1/plans/plan_1"] = PLAN | {"status": "pending"}
    await next_step(at, "Show the plan")
    await expect(at.get_by_text("Every machine in the catalogue")).to_be_visible()
    stub.answers["GET /v1/plans/plan_1"] = PLAN
    stub.tell("PlanProposed", "plan_1")
    chart = at.get_by_role("listbox", name="Time against total cost of each candidate")
    await expect(chart.get_by_role("option")).to_have_count(4)
    await chart.get_by_role("option", name="Chosen").focus()
    await at.keyboard.press("ArrowLeft")
    await expect(chart.get_by_role("option", name="g5.2xlarge")).to_be_focused()
    await at.get_by_text("Copy as job.yaml").click()
    await expect(at.get_by_label("job.yaml", exact=True)).to_contain_text("total_usd: 15")
    assert await violations(at) == []
    await at.evaluate("scrollTo(0, 0)")
    await screenshot(at, "train-plan")
    await at.get_by_role("button", name="Start training").click()
    await expect(at.get_by_role("heading", level=1)).to_have_text("support-bot")
    planned, started = [asked.body for asked in stub.asked if asked.method == "POST" and asked.path != "/v1/session"]
    assert (
        planned
        == started
        == {
            "kind": "finetune",
            "name": "support",
            "model": {"base": BASE, "method": "lora"},
            "dataset": {"uri": "dataset://support/2"},
            "hyperparameters": {"n_epochs": 3},
            "objective": "cheapest",
            "budget": {"total_usd": 15},
        }
    )


@pytest.mark.heavy
async def test_what_the_gateway_refuses_stands_at_its_field(open_page: Open, stub: Stub) -> None:
    prepare(stub)
    problem = {"title": "The job cannot be planned", "field": "deadline", "detail": "deadline 1s is not in the future"}
    stub.answers["POST /v1/plans"] = (422, problem)
    at = await open_page(f"/train?dataset=support@2&model={BASE}", theme="dark", width=390)
    await expect(at.get_by_role("radio", name=BASE)).to_be_checked()
    assert await at.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await at.get_by_role("link", name="Plan").click()
    await at.get_by_role("link", name="Go to Goal").click()
    await expect(at.get_by_text("1s is not in the future")).to_be_visible()
    await screenshot(at, "train-goal-phone-dark")
    assert await violations(at) == []
    refused = {
        "title": "Nothing meets the constraints",
        "detail": "10 USD too little. Raise it.",
        "advice": "Raise it.",
    }
    stub.answers["POST /v1/plans"] = (422, refused | {"plan_id": "plan_2", "reason": "budget"})
    await at.get_by_role("textbox", name="Budget").fill("0.01")
    await next_step(at, "Show the plan")
    await expect(at.get_by_text("10 USD too little.")).to_be_visible()
    await expect(at.get_by_role("button", name="Start training")).to_be_disabled()


@pytest.mark.heavy
async def test_a_wrong_row_is_named_and_viewers_are_told(open_page: Open, stub: Stub) -> None:
    prepare(stub)
    row = {"title": "The dataset was refused", "detail": "x", "row": 7, "column": "messages[1]", "reason": "is empty"}
    stub.answers["POST /v1/datasets"] = (422, row)
    at = await open_page("/train", locale="ko-KR")
    await at.get_by_role("button", name="데이터셋 업로드").click()
    file = {"name": "Chats (1).jsonl", "mimeType": "application/jsonl", "buffer": b"{}\n"}
    await at.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    await expect(at.get_by_label("데이터셋 이름")).to_have_value("chats-1")
    await at.get_by_role("button", name="업로드 및 검사").click()
    await expect(at.get_by_text("7행 messages[1]: is empty")).to_be_visible()
    await screenshot(at, "train-ko")
    stub.sign_in(role="viewer", scopes=["read"])
    viewer = await open_page("/train")
    await expect(viewer.get_by_text("Viewers cannot train")).to_be_visible()
