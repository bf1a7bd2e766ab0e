"""The README's tables are the code's."""

from __future__ import annotations

import sskai.settings
from services.scheduler.domain import NEXT_STATES, EndReason
from services.scheduler.settings import Settings
from tools import scheduler_tables


def test_the_diagram_and_the_reasons_are_as_they_are_in_the_code() -> None:
    text = scheduler_tables.README.read_text()
    assert scheduler_tables.drawn(text) == text, "run python -m tools.scheduler_tables"


def test_every_arrow_and_every_reason_is_drawn() -> None:
    arrows = [f"{state} --> {one}" for state, following in NEXT_STATES.items() for one in following]
    assert all(arrow in scheduler_tables.diagram() for arrow in arrows)
    assert scheduler_tables.diagram().count("-->") == len(arrows) + 1 + 3
    assert all(f"`{reason.word}`" in scheduler_tables.reasons() for reason in EndReason if reason.retries)


def test_operators_are_told_every_setting() -> None:
    told = (scheduler_tables.README.parents[2] / "docs" / "operations.md").read_text()
    ours = Settings.model_fields.keys() - sskai.settings.Settings.model_fields.keys()
    assert [name for name in sorted(ours) if f"`SSKAI_{name.upper()}`" not in told] == []
