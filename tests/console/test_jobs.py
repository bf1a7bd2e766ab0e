"""Jobs: the list, and a job while it runs, when it waits, and after its end."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import expect
from starlette.responses import Response

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub
from tests.console.training_documents import JOB, JOB_ID, PLAN, PROGRESS, RECEIPT, TIMELINE, TRACE, model, page

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAITING = {
    "rule": "quota",
    "detail": "20 of 20 jobs of this tenant run",
    "since": "2026-11-29T11:57:00Z",
    "earliest_start": "2026-11-29T12:20:00Z",
    "expected_start": "2026-11-29T12:41:00Z",
    "latest_start": "2026-11-29T13:10:00Z",
    "position": 2,
}


def prepare(stub: Stub) -> None:
    stub.sign_in()
    waiting = JOB | {"id": "job_02", "name": "reviews", "state": "held", "progress": None, "waiting": WAITING}
    failed = JOB | {"id": "job_03", "name": "digits", "state": "failed", "dataset": None, "budget_usd": None}
    log = "".join(
        f"id: 2:{number}\nevent: line\ndata: {json.dumps({'attempt': 2, 'text': f'step {number} loss 1.{number}'})}\n\n"
        for number in range(1, 40)
    )
    stub.answers |= {
        "GET /v1/jobs": page(JOB, waiting, failed),
        f"GET /v1/jobs/{JOB_ID}": JOB,
        f"GET /v1/jobs/{JOB_ID}/timeline": TIMELINE,
        f"GET /v1/jobs/{JOB_ID}/trace": TRACE,
        f"GET /v1/jobs/{JOB_ID}/logs": Response(log + "event: end\ndata: {}\n\n", media_type="text/event-stream"),
        "GET /v1/jobs/job_02": waiting,
        "GET /v1/plans/plan_1": PLAN,
        "GET /v1/models": page(model("support-bot@1", origin="trained", job_id=JOB_ID)),
        "GET /v1/endpoints": page(),
        f"POST /v1/jobs/{JOB_ID}/cancel": JOB | {"state": "cancelling"},
    }


async def test_a_job_is_followed_from_the_list_to_its_end(open_page: Open, stub: Stub) -> None:
    prepare(stub)
    at = await open_page("/jobs")
    await expect(at.get_by_text("Waiting for its turn")).to_be_visible()
    await screenshot(at, "jobs")
    assert await violations(at) == []
    await at.get_by_role("link", name="support-bot").click()
    await expect(at.get_by_role("img", name="Attempts and spot prices")).to_be_visible()
    await expect(at.get_by_text("steps 0 to 124 · 4 steps lost · drained (spot-interrupted)")).to_be_visible()
    stub.tell("AttemptProgressed", JOB_ID, step=200, tokens_per_second=5000.0)
    await expect(at.get_by_role("img", name="Throughput")).to_be_visible()
    await screenshot(at, "job")
    assert await violations(at) == []
    await at.get_by_role("button", name="Logs").click()
    await expect(at.get_by_text("step 39 loss 1.39")).to_be_visible()
    assert await at.get_by_role("group", name="Logs").evaluate("log => log.scrollTop > 0")
    end = {"at": "2026-11-29T13:40:00Z", "state": "succeeded", "reason": "", "advice": "", "steps": 400, "tokens": 1}
    end |= {"eval_loss_before": 2.9, "eval_loss_after": 1.2}
    done = JOB | {"state": "succeeded", "end": end, "receipt": RECEIPT, "progress": PROGRESS | {"step": 400}}
    stub.answers[f"GET /v1/jobs/{JOB_ID}"] = done
    stub.tell("JobSucceeded", JOB_ID)
    await expect(at.get_by_text("support-bot@1 is ready")).to_be_visible()
    link = at.get_by_role("link", name="Deploy")
    assert await link.get_attribute("href") == "/endpoints?model=support-bot%401"
    await at.get_by_role("button", name="Overview").click()
    await expect(at.get_by_text("The same work on demand")).to_be_visible()
    await screenshot(at, "job-ended")


@pytest.mark.heavy
async def test_it_is_cancelled_after_a_question(open_page: Open, stub: Stub) -> None:
    prepare(stub)
    at = await open_page(f"/jobs/{JOB_ID}?tab=trace", theme="dark")
    await at.get_by_role("button", name="POST /v1/jobs", exact=True).click()
    await expect(at.get_by_text("sskai.job")).to_be_visible()
    assert await violations(at) == []
    await at.get_by_role("button", name="Cancel job").click()
    await expect(at.get_by_role("dialog", name="Cancel support-bot?")).to_be_visible()
    await at.get_by_role("button", name="Cancel the job").click()
    await expect(at.get_by_text("Cancelling")).to_be_visible()
    await at.get_by_role("button", name="Plan").click()
    await expect(at.get_by_role("heading", name="Candidates")).to_be_visible()
    await at.get_by_role("button", name="Job file").click()
    await expect(at.get_by_label("job.yaml", exact=True)).to_contain_text("accelerators: L4:1")


@pytest.mark.heavy
async def test_a_job_that_waits_says_why_and_until_when_on_a_phone_in_korean(open_page: Open, stub: Stub) -> None:
    prepare(stub)
    stub.answers["GET /v1/jobs/job_02/timeline"] = TIMELINE | {"attempts": [], "events": [], "prices": []}
    at = await open_page("/jobs/job_02", theme="dark", locale="ko-KR", width=390)
    await expect(at.get_by_text("차례를 기다리는 중").first).to_be_visible()
    await expect(at.get_by_text("대기 순서 2번")).to_be_visible()
    assert await at.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await violations(at) == []
    await screenshot(at, "job-waiting-ko")
    stub.answers["GET /v1/jobs/job_02/timeline"] = TIMELINE
    phone = await open_page(f"/jobs/{JOB_ID}", width=390)
    await expect(phone.get_by_role("img", name="Attempts and spot prices")).to_be_visible()
    assert await phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await screenshot(phone, "job-phone")
