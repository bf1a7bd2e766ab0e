"""Time, chance and ids are reached by names that the simulation can replace."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Programs of their own, which are no part of a simulated process, and what speaks to users' machines.
APART = ("services/scheduler/lab", "sskai/local", "sskai/client", "sskai/cli", "sskai/demo", "sskai/events")
# Of a name of the standard library: what may be taken out of it, and what may be imported whole.
TAKEN = {"datetime": {"datetime", "UTC", "timedelta", "date", "tzinfo", "timezone"}, "random": {"Random"}}
WHOLE = {"time", "random", "secrets"}


def unreachable(source: str) -> list[str]:
    """Imports by which code would ask the real clock or real chance."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in {*TAKEN, *WHOLE, "uuid"}:
            found += [f"from {node.module} import {one.name}" for one in node.names if not _may_take(node.module, one)]
        if isinstance(node, ast.Import):
            names = [one for one in node.names if one.name in {*WHOLE, "uuid", "datetime"}]
            found += [f"import {one.name}" for one in names if one.name not in WHOLE or one.asname]
    return found


def _may_take(module: str | None, one: ast.alias) -> bool:
    return one.asname is None and one.name in TAKEN.get(module or "", set())


def test_no_code_of_a_service_reaches_past_the_simulated_clock_and_chance() -> None:
    wrong = {}
    for folder in ("services", "sskai"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(APART) or "/migrations/" in name:
                continue
            if found := unreachable(path.read_text()):
                wrong[name] = found
    assert wrong == {}


def test_what_would_escape_is_found() -> None:
    assert unreachable("from time import monotonic") == ["from time import monotonic"]
    assert unreachable("import uuid") == ["import uuid"]
    assert unreachable("import datetime as dt") == ["import datetime"]
    assert unreachable("import time\nfrom datetime import UTC, datetime") == []
