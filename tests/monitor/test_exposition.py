"""What Prometheus is shown, and that dashboards ask for nothing that is not there."""

from __future__ import annotations

import ast
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.monitor import exposition
from services.monitor.exposition import FAMILIES, Shown, look
from services.monitor.handlers import HANDLERS
from services.monitor.objective_loop import watch_objectives
from services.monitor.span_store import SpanStore
from services.monitor.store import Store
from sskai.database import Database
from sskai.testing import InMemoryBus
from tests.monitor.test_life_of_a_job import STORY
from tests.monitor.test_objectives import AVAILABLE, answer, promise

SERVICE = "monitor"
ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))

# Of PromQL, what is no metric and no label.
KINDS = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}


def exported() -> dict[str, set[str]]:
    """Every metric that a service registers, with its labels, as its source says it; and the monitor's figures."""
    found = {name: set(labels) for name, (_, labels) in FAMILIES.items()}
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "sskai").rglob("*.py")]:
        text = path.read_text()
        if "prometheus_client" not in text:
            continue
        tree = ast.parse(text)
        constants = {
            node.targets[0].id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                name = node.args[0] if node.args else None
                if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.startswith("sskai_"):
                    labels = _strings(node.args[2], constants) if len(node.args) > 2 else set()
                    for suffix in KINDS[node.func.id]:
                        found[f"{name.value}{suffix}"] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def _strings(node: ast.expr, constants: dict[str, ast.expr]) -> set[str]:
    if isinstance(node, ast.Name):
        return _strings(constants[node.id], constants)
    assert isinstance(node, ast.List), ast.dump(node)
    found: set[str] = set()
    for item in node.elts:
        if isinstance(item, ast.Starred):
            found |= _strings(item.value, constants)
        elif isinstance(item, ast.Constant):
            found.add(str(item.value))
    return found


def queries(dashboard: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(panel's title, PromQL, legend) of every query."""
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_only_for_what_is_exported(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    known = exported()
    assert dashboard["uid"].startswith("sskai-")
    asked = queries(dashboard)
    assert asked
    for title, promql, legend in asked:
        names = set(re.findall(r"\b[a-z_]*sskai_[a-z0-9_]+", promql))
        assert names, title
        assert names <= known.keys(), f"{title}: {names - known.keys()}"
        labels = set.union(*(known[name] for name in names))
        used = set(re.findall(r"\{\{(\w+)\}\}", legend)) | set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", promql))
        for group in re.findall(r"\bby\s*\(([^)]*)\)", promql):
            used |= {label.strip() for label in group.split(",")}
        assert used <= labels, f"{title}: {used - labels}"
        assert promql.count("(") == promql.count(")"), title


def test_there_is_a_dashboard_for_each_part_and_no_panel_hides_another() -> None:
    assert [path.stem for path in DASHBOARDS] == ["events-and-queues", "inference", "jobs-and-spend", "overview"]
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        cells = [
            (x, y)
            for panel in dashboard["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(cells) == len(set(cells)), path.stem
        assert max(x for x, _ in cells) < 24


def test_every_name_follows_the_convention() -> None:
    for name in exported():
        assert re.fullmatch(r"sskai_[a-z0-9]+(_[a-z0-9]+)+", name), name


async def test_what_was_counted_is_shown(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown()
    monkeypatch.setattr(exposition, "SHOWN", shown)
    monkeypatch.setattr(exposition, "MAX_ENDPOINTS", 2)
    bus = InMemoryBus()
    bus.connect(database, HANDLERS, Store)
    await bus.publish(promise(AVAILABLE), *STORY)
    await bus.settle()
    spans = [answer(n, first_token=0.2, error="engine_error" if n < 3 else "") for n in range(30)]
    spans += [answer(100 + n, endpoint_id=f"endpoint_of_few_{n}") for n in range(5)]
    async with database.transaction() as session:
        await SpanStore(session).add(spans, datetime.now(UTC))
    await watch_objectives(database)
    await look(database)
    registry = CollectorRegistry()
    registry.register(shown)
    text = generate_latest(registry).decode()
    values = {name: float(value) for name, value in re.findall(r"^(sskai\S+) (\S+)$", text, re.MULTILINE)}
    mine = 'endpoint="endpoint_1",model="model_1"'
    assert values['sskai_service_spans_per_second{service="inference"}'] == pytest.approx(35 / 300)
    assert values[f"sskai_endpoint_error_ratio{{{mine}}}"] == pytest.approx(0.1)
    first_token = values[f'sskai_endpoint_first_token_seconds{{{mine},quantile="0.95"}}']
    assert first_token == pytest.approx(0.2, rel=0.02)
    assert len([name for name in values if name.startswith("sskai_endpoint_answers_per_second")]) == 2
    promised = 'endpoint="endpoint_1",objective="availability"'
    assert values[f'sskai_objective_burn_rate_ratio{{{promised},period_seconds="3600"}}'] == pytest.approx(10)
    assert values[f"sskai_objective_budget_left_ratio{{{promised}}}"] == pytest.approx(-9)
    assert values[f"sskai_objective_breached_rules{{{promised}}}"] == 2  # 6x and 1x, of the same answers
    assert values['sskai_ledger_paid_usd_total{capacity_type="spot"}'] == pytest.approx(0.0073)
    assert values['sskai_ledger_jobs{outcome="succeeded"}'] == 1
    assert time.time() - spans[0].ended_ns / 1e9 < exposition.PERIOD.total_seconds(), "the test took too long"
