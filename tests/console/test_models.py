"""Models: the catalogue, one's own with aliases, evaluation and card, and uploads that are refused by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open, screenshot, violations
from tests.console.stub import Stub
from tests.console.test_data import LINEAGE, dataset, listing

pytestmark = pytest.mark.asyncio(loop_scope="session")


def model(id_: str, **changes: Any) -> dict[str, Any]:
    name, _, version = id_.partition("@")
    return {
        "id": id_,
        "object": "model",
        "model_id": "model_1" if version else id_,
        "name": name,
        "version": int(version or 0),
        "origin": "trained" if version else "builtin",
        "parent": "smollm2-135m-instruct" if version else None,
        "method": "lora" if version else None,
        "available": True,
        "task": None if version else "text-generation",
        "parameters": None if version else 134_515_008,
        "context_tokens": None if version else 8192,
        "bytes": None,
        "licence": None if version else "apache-2.0",
        "hub_id": None,
        "job_id": "job_1" if version else None,
        "eval_loss_before": 3.587 if version else None,
        "eval_loss_after": 3.188 if version else None,
        "created_at": "2026-11-29T11:00:00Z",
    } | changes


MODELS = listing(
    model("bot@2"),
    model("bot@1"),
    model("llama-3.1-8b-instruct", available=False, parameters=8_030_261_248, licence="llama3.1"),
    model("smollm2-135m-instruct"),
)
COMPARISON = {
    "version": 2,
    "metric": "eval_loss",
    "value": 1.742,
    "champion_value": 1.801,
    "champion_version": 1,
    "difference_standard_error": 0.004,
    "sample_size": "60",
    "evaluated_at": "2026-11-29T11:00:00Z",
}
RECEIPT = {
    "job_id": "job_1",
    "outcome": "succeeded",
    "attempts": 2,
    "intervals": 37,
    "interruptions": 1,
    "issued_at": "2026-11-29T11:00:00Z",
    "paid_usd": 0.031656,
    "on_demand_usd": 0.105321,
    "saving_fraction": 0.699,
    "lost_usd": 0.002,
    "lost_seconds": 31.0,
    "useful_seconds": 414.2,
    "overhead_seconds": 57.3,
    "restart_seconds": 20.0,
    "machine_seconds": 471.5,
    "elapsed_seconds": 9000.0,
    "waiting_seconds": 600.0,
    "naive_usd": 9.054,
    "naive_seconds": 32_400.0,
    "naive_instance_type": "g5.xlarge",
    "naive_saving_fraction": 0.9965,
    "time_saved_seconds": 23_400.0,
}


async def test_a_version_has_its_card_and_its_alias_is_moved_after_a_question(open_page: Open, stub: Stub) -> None:
    stub.sign_in()
    stub.answers |= {
        "GET /v1/models": MODELS,
        "GET /v1/models/bot/aliases": listing({"model": "bot", "alias": "champion", "version": 1}),
        "PUT /v1/models/bot/aliases/champion": {"object": "model.alias"},
        "GET /v1/jobs/job_1": {"id": "job_1", "name": "bot", "dataset": "dataset://support/2"},
        "GET /v1/receipts/job_1": RECEIPT,
        "GET /v1/datasets/support@2": dataset(2, lineage=LINEAGE),
    }
    query = "format=json&types=ModelEvaluated&subject=model_1&order=desc&limit=20"
    stub.pages[query] = listing({"id": 5, "event": {"data": COMPARISON}})
    page = await open_page("/models")
    row = page.get_by_role("row", name="llama-3.1-8b-instruct")
    await expect(row).to_contain_text("8.03B")
    await expect(row).to_contain_text("Not installed")
    await page.get_by_label("Search the foundation models").fill("smol")
    await expect(row).to_have_count(0)
    await screenshot(page, "models")
    assert await violations(page) == []
    await page.get_by_role("link", name="bot", exact=True).click()
    await expect(page.get_by_text("support@2: 140 rows of messages")).to_be_visible()
    await expect(page.get_by_text("$0.0317 ($0.105 on demand, 69.9% saved)")).to_be_visible()
    await expect(page.get_by_text("-0.059 ± 0.004")).to_be_visible()
    await expect(page.get_by_role("link", name="Deploy")).to_have_attribute("href", "/endpoints?model=bot@2")
    await screenshot(page, "model")
    assert await violations(page) == []
    await page.get_by_label("Move @champion to a version").click()
    await page.get_by_title("Version 2").click()
    await expect(page.get_by_role("dialog")).to_contain_text("It means version 1 now.")
    await page.get_by_role("dialog").get_by_role("button", name="Move").click()
    await expect(page.get_by_text("@champion means version 2 now")).to_be_visible()
    assert [asked.body for asked in stub.asked if asked.method == "PUT"] == [{"version": 2}]


@pytest.mark.heavy
async def test_an_upload_is_refused_by_file(open_page: Open, stub: Stub, tmp_path: Path) -> None:
    stub.sign_in()
    stub.answers["GET /v1/models"] = MODELS
    refusal = {"title": "The model was refused", "file": "weights.bin", "reason": "is a pickle"}
    stub.answers["POST /v1/models"] = (422, refusal)
    folder = tmp_path / "My Model"
    folder.mkdir()
    for name in ("config.json", "weights.bin", ".gitattributes"):
        (folder / name).write_text("{}")
    page = await open_page("/models", theme="dark", width=390)
    await page.get_by_role("button", name="Upload a model").click()
    await page.get_by_role("dialog").locator('input[type="file"]').first.set_input_files(folder)
    await expect(page.get_by_label("Model name")).to_have_value("my-model")
    await expect(page.get_by_text("2 files, 4 B")).to_be_visible()
    await page.get_by_role("button", name="Upload", exact=True).click()
    await expect(page.get_by_text("weights.bin was refused: is a pickle")).to_be_visible()
    await screenshot(page, "model-refused")
    assert await violations(page) == []
    stub.answers["POST /v1/models"] = model("my-model@1", origin="uploaded", job_id=None)
    await page.get_by_role("button", name="Leave out weights.bin").click()
    await page.get_by_role("button", name="Upload", exact=True).click()
    await expect(page.get_by_text("my-model@1 was uploaded")).to_be_visible()
    sent = [asked.body for asked in stub.asked if asked.method == "POST" and asked.path == "/v1/models"]
    assert b'filename="config.json"' in sent[1]
    assert b"weights.bin" not in sent[1]
