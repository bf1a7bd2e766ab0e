"""Datasets: uploads with the row that was refused, large ones in parts, reports and previews."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub

pytestmark = pytest.mark.asyncio(loop_scope="session")

REPORT = {
    "characters": 8184,
    "duplicates": 3,
    "share_learnt": 0.7027,
    "characters_per_row": {"min": 18, "median": 66.0, "p95": 120.0, "max": 165},
}
LINEAGE = {
    "parent_dataset_id": "dataset_1",
    "parent_version": 1,
    "endpoint_id": "endpoint_1",
    "since": "2026-11-20T00:00:00Z",
    "until": "2026-11-27T00:00:00Z",
    "corrections": 12,
    "liked": 30,
}


def dataset(version: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"dataset_{version}",
        "object": "dataset",
        "name": "support",
        "version": version,
        "uri": f"dataset://support/{version}",
        "format": "messages",
        "rows": 100 + 20 * version,
        "bytes": 18_506,
        "sha256": "d142a183e36d69c4",
        "estimated_tokens": 2046,
        "report": REPORT,
        "lineage": None,
        "created_at": "2026-11-29T11:00:00Z",
    } | changes


def listing(*data: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(data), "has_more": False, "next": None}


async def test_a_refused_upload_shows_its_row_and_a_corrected_one_is_kept(
    open_page: Open, stub: Stub, tmp_path: Path
) -> None:
    stub.sign_in()
    stub.answers["GET /v1/datasets"] = listing(dataset(2, lineage=LINEAGE), dataset(1))
    refusal = {"detail": "row 2, messages[1].content: is empty", "row": 2, "column": "messages[1].content"}
    stub.answers["POST /v1/datasets"] = (422, {"title": "The dataset was refused", "reason": "is empty"} | refusal)
    good, empty = (
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": each}]} for each in ("ho", "")
    )
    file = tmp_path / "My FAQ.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in (good, empty, good)))
    page = await open_page("/data")
    await expect(page.get_by_role("link", name="support")).to_be_visible()
    await page.locator('input[type="file"]').set_input_files(file)
    await expect(page.get_by_label("Dataset name")).to_have_value("my-faq")
    await page.get_by_role("button", name="Upload", exact=True).click()
    wrong = page.locator('.sk-data-lines li[data-wrong="true"]')
    await expect(wrong).to_contain_text('"content": ""')
    await expect(page.locator(".sk-data-lines li")).to_have_count(3)
    await expect(page.get_by_text("Correct row 2 in My FAQ.jsonl")).to_be_visible()
    await screenshot(page, "data-refused")
    assert await violations(page) == []
    stub.answers["POST /v1/datasets"] = dataset(1, name="my-faq", rows=3)
    await page.locator('input[type="file"]').set_input_files(file)
    await page.get_by_role("button", name="Upload", exact=True).click()
    await expect(page.get_by_text("Version 1: 3 rows")).to_be_visible()


@pytest.mark.heavy
async def test_a_large_file_goes_in_the_parts_that_are_missing(open_page: Open, stub: Stub, tmp_path: Path) -> None:
    stub.sign_in()
    stub.answers["GET /v1/datasets"] = listing()
    upload = {"id": "upload_1", "status": "pending", "part_bytes": 64 << 20, "name": "large", "file": None}
    stub.answers["POST /v1/uploads"] = upload | {"problem": None}
    stub.answers["GET /v1/uploads/upload_1"] = upload | {
        "problem": None,
        "parts": [{"part_number": 1, "bytes": 64 << 20}],
    }
    stub.answers["POST /v1/uploads/upload_1/parts"] = (409, {"title": "The upload is over", "detail": "begin again"})
    stub.answers["GET /v1/datasets/dataset_9"] = dataset(9, name="large")
    file = tmp_path / "large.jsonl"
    with file.open("wb") as sparse:
        sparse.truncate((64 << 20) + 1000)
    page = await open_page("/data")
    for _ in range(2):
        await page.locator('input[type="file"]').set_input_files(file)
        await page.get_by_role("button", name="Upload", exact=True).click()
        if stub.answers["POST /v1/uploads/upload_1/parts"] == {"object": "upload.part"}:
            break
        await expect(page.get_by_text("Not uploaded: begin again")).to_be_visible()
        stub.answers["POST /v1/uploads/upload_1/parts"] = {"object": "upload.part"}
        stub.answers["POST /v1/uploads/upload_1/complete"] = upload | {
            "status": "completed",
            "file": {"id": "dataset_9"},
        }
        await page.reload()
        await expect(page.get_by_text("large.jsonl (67.1 MB) was not uploaded whole.")).to_be_visible()
        stub.asked.clear()
    await expect(page.get_by_text("Version 9: 280 rows")).to_be_visible()
    sent = [asked.body for asked in stub.asked if asked.path.endswith("/parts")]
    assert len(sent) == 1, "the first part is there"
    assert b'name="part_number"\r\n\r\n2\r\n' in sent[0]
    assert not [asked for asked in stub.asked if asked.path == "/v1/uploads"], "the upload goes on"
    await expect(page.get_by_text("was not uploaded whole")).to_have_count(0)


async def test_a_version_has_its_report_rows_lineage_and_use(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    stub.answers["GET /v1/datasets"] = listing(dataset(2, lineage=LINEAGE), dataset(1))
    row = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi, how can I help?"}]}
    stub.answers["GET /v1/datasets/dataset_2/preview"] = {"object": "dataset.preview", "rows": [row]}
    job = {
        "id": "job_1",
        "name": "bot",
        "state": "succeeded",
        "model": "qwen3-8b",
        "submitted_at": "2026-11-29T10:00:00Z",
    }
    stub.answers["GET /v1/jobs"] = listing(job)
    stub.answers["GET /v1/models"] = listing({"id": "bot@1", "name": "bot", "version": 1, "job_id": "job_1"})
    stub.answers["DELETE /v1/datasets/support@2"] = (409, {"title": "The dataset is in use", "detail": "By job job_1"})
    page = await open_page("/data/support", theme="dark", locale="ko-KR", width=390)
    await expect(page.get_by_text("Hi, how can I help?")).to_be_visible()
    await expect(page.get_by_text("수정된 답변")).to_be_visible()
    await expect(page.get_by_role("link", name="bot@1")).to_have_attribute("href", "/models/bot?version=1")
    await expect(page.get_by_role("link", name="이 데이터로 학습")).to_have_attribute(
        "href", "/train?dataset=support@2"
    )
    await expect(page.get_by_text("+20")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await screenshot(page, "dataset")
    assert await violations(page) == []
    await page.get_by_role("button", name="버전 2 삭제").click()
    await page.get_by_role("dialog").get_by_role("button", name="삭제").click()
    await expect(page.get_by_text("By job job_1")).to_be_visible()
    assert any(asked.query == "dataset=support%402&limit=20" for asked in stub.asked if asked.path == "/v1/jobs")
