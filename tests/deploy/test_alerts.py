"""Alerts and dashboards ask for metrics that the code has, and each alert has its runbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sskai.database import SERVICES
from tools.compose import ROOT

DEPLOY = ROOT / "deploy"
SUFFIXES = ("_total", "_bucket", "_count", "_sum")


def told() -> set[str]:
    """Every metric's name in the code, without what prometheus-client appends."""
    sources = [path for folder in ("sskai", "services") for path in (ROOT / folder).rglob("*.py")]
    return {name for path in sources for name in re.findall(r'"(sskai_[a-z0-9_]+)"', path.read_text())}


def asked(expression: str) -> set[str]:
    return set(re.findall(r"\bsskai_[a-z0-9_]+", expression))


def is_told(name: str, names: set[str]) -> bool:
    return name in names or any(name.endswith(one) and name.removesuffix(one) in names for one in SUFFIXES)


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Of every alert and every dashboard's panel, by where they stand."""
    for alert in alerts():
        yield alert["alert"], alert["expr"]
    for path in sorted((DEPLOY / "grafana").glob("*.json")):
        for found in re.findall(r'"expr": ("(?:[^"\\]|\\.)*")', path.read_text()):
            yield path.name, json.loads(found)


def test_every_metric_that_is_asked_for_is_told() -> None:
    names, found = told(), list(expressions())
    assert len(found) > 60
    missing = {(where, name) for where, text in found for name in asked(text) if not is_told(name, names)}
    assert missing == set()


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^## (SSKAI\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert sorted(alert["alert"] for alert in alerts()) == sorted(headings)
    for alert in alerts():
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]


def test_prometheus_scrapes_every_service_by_its_name() -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    [ours] = [job for job in configuration["scrape_configs"] if job["job_name"] == "sskai"]
    targets = {target: one["labels"]["service"] for one in ours["static_configs"] for target in one["targets"]}
    assert targets == {f"{name}:8000": name for name in SERVICES}


def test_grafana_finds_its_dashboards_where_compose_mounts_them() -> None:
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/sskai.yaml").read_text())["providers"]
    volumes = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana:{provider['options']['path']}:ro" in volumes
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["isDefault"], "the dashboards' variable takes the default one"
    assert list((DEPLOY / "grafana").glob("*.json"))


def test_the_collector_writes_where_the_monitor_reads() -> None:
    from sskai.contract import OTLP_TOPIC

    configuration = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
    traces = configuration["exporters"]["kafka"]["traces"]
    assert traces == {"topic": OTLP_TOPIC, "encoding": "otlp_proto"}
    assert Path(ROOT / "deploy/otel/collector.yaml").stat().st_mode & 0o004, "another user reads it in the container"


def test_the_chart_has_the_alerts_and_dashboards_of_deploy() -> None:
    """By links, which an archive or a copy may turn into files that hold a path."""
    chart = DEPLOY / "helm" / "sskai"
    assert (chart / "alerts.yaml").read_text() == (DEPLOY / "prometheus" / "rules.yml").read_text()
    shown = {one.name: one.read_text() for one in (chart / "dashboards").glob("*.json")}
    assert shown == {one.name: one.read_text() for one in (DEPLOY / "grafana").glob("*.json")}
    assert len(shown) >= 4
