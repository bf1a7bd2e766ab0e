"""Every alert has its runbook, and whatever is named as a metric is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

RULES = Path("deploy/prometheus/rules.yml")
RUNBOOKS = Path("docs/runbooks.md")
ANSWERS = ("Means", "Look", "Do")
METRIC = re.compile(r"\bsskai_[a-z0-9_]+\b")
SUFFIXES = ("_total", "_bucket", "_sum", "_count", "")
# Written like metrics, and something else: a role of PostgreSQL, the beginnings of keys.
NO_METRICS = {"sskai_gateway_requests"}


def sections() -> dict[str, str]:
    """What stands under each heading."""
    parts = re.split(r"^## (.+)$", RUNBOOKS.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def alerts() -> dict[str, dict[str, str]]:
    if not RULES.exists():
        pytest.skip(f"{RULES} is not there")
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def metrics() -> set[str]:
    """The names in the code, as Prometheus shows them."""
    code = "\n".join(path.read_text() for root in ("sskai", "services") for path in Path(root).rglob("*.py"))
    names = set(re.findall(r'"(sskai_[a-z0-9_]+)"', code)) - NO_METRICS
    return {name.removesuffix("_total") + suffix for name in names for suffix in SUFFIXES} | names


def named() -> Iterator[tuple[Path, str]]:
    files = [RUNBOOKS, *Path("docs").rglob("*.md"), *Path("deploy").rglob("*.json"), *Path("deploy").rglob("*.yml")]
    for path in {*files, *Path("deploy").rglob("*.yaml")}:
        for name in METRIC.findall(path.read_text()):
            yield path, name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert alerts().keys() == sections().keys()


def test_a_runbook_says_what_it_means_how_to_look_what_to_do_and_when_it_clears() -> None:
    for name, text in sections().items():
        assert re.fullmatch(r"SSKAI[A-Za-z]+", name)
        for answer in ANSWERS:
            assert f"**{answer}.** " in text, f"{name} does not say: {answer}"
        assert "**Clears** " in text, f"{name} does not say when it clears"


def test_what_is_named_as_a_metric_is_one() -> None:
    known = metrics() | NO_METRICS
    assert len(known) > 100
    # `sskai_endpoint_*` names many at once.
    groups = tuple({name for _, name in named() if name.endswith("_") and any(one.startswith(name) for one in known)})
    assert sorted({(str(path), name) for path, name in named() if name not in {*known, *groups}}) == []


def test_links_between_runbooks_and_from_them_lead_somewhere() -> None:
    text = RUNBOOKS.read_text()
    here = {name.lower() for name in sections()}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if path:
            assert (RUNBOOKS.parent / path).exists(), target
        else:
            assert anchor in here, target
