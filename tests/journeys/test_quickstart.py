"""The notebook in `examples/`, cell by cell, as somebody runs it who has just started the stack."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sskai.contract import new_id
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(600)]

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def run_cells() -> dict[str, Any]:
    """All code cells in one namespace; what they left in it."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    left: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), left)
    return left


async def test_the_notebook_goes_from_a_file_to_an_answer_and_a_receipt(
    running: Stack, base_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSKAI_GATEWAY_URL", running.state.gateway_url)
    monkeypatch.setenv("SSKAI_API_KEY", running.key)
    monkeypatch.setenv("QUICKSTART_BASE", base_model)
    monkeypatch.setenv("QUICKSTART_NAME", new_id("quick").replace("_", "-"))
    monkeypatch.setenv("QUICKSTART_STEPS", "200")
    left = await asyncio.to_thread(run_cells)
    assert left["job"]["state"] == "succeeded"
    assert left["end"]["eval_loss_after"] < left["end"]["eval_loss_before"]
    assert left["answer"].choices[0].message.content
    assert 0 < left["receipt"]["paid_usd"] < left["receipt"]["on_demand_usd"]


def test_the_notebook_shows_what_it_printed() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    told = "".join(line for cell in cells for output in cell.get("outputs", []) for line in output.get("text", []))
    assert "succeeded" in told
    assert "paid" in told
    assert not any(output["output_type"] == "error" for cell in cells for output in cell.get("outputs", []))
