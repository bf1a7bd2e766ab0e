"""`docs/security.md`: every item of the checklist has its row, and every test that a row names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ITEMS = 24


def rows() -> dict[str, list[str]]:
    """By number: what is promised, what shows it, and why not."""
    found = {}
    for line in (ROOT / "docs" / "security.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"S\d+", cells[0]):
            assert cells[0] not in found, f"{cells[0]} has two rows"
            found[cells[0]] = cells[1:]
    return found


def named_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    }


def test_every_item_has_a_row() -> None:
    assert set(rows()) == {f"S{number}" for number in range(1, ITEMS + 1)}
    for item, (promised, shown, otherwise) in rows().items():
        assert promised, item
        assert "::" in shown or (promised == "—" and len(otherwise) > 40), f"{item}: neither a test nor a reason"


def test_every_test_that_is_named_is_there() -> None:
    missing = []
    for item, cells in rows().items():
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", " ".join(cells)):
            file = ROOT / path
            if not file.exists() or name not in named_in(file):
                missing.append(f"{item}: {path}::{name}")
    assert missing == []


def test_what_is_named_in_code_is_named_in_full() -> None:
    """A test that is mentioned without its file could not be looked up."""
    text = (ROOT / "docs" / "security.md").read_text()
    assert not re.findall(r"`test_\w+`", text)
