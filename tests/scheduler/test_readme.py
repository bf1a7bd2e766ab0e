"""The README's tables are the code's."""

from __future__ import annotations

from services.scheduler.domain import NEXT_STATES, EndReason
from tools import scheduler_tables


def test_the_diagram_and_the_reasons_are_as_they_are_in_the_code() -> None:
    text = scheduler_tables.README.read_text()
    assert scheduler_tables.drawn(text) == text, "run python -m tools.scheduler_tables"


def test_every_arrow_and_every_reason_is_drawn() -> None:
    arrows = [f"{state} --> {one}" for state, following in NEXT_STATES.items() for one in following]
    assert all(arrow in scheduler_tables.diagram() for arrow in arrows)
    assert scheduler_tables.diagram().count("-->") == len(arrows) + 1 + 3
    assert all(f"`{reason.word}`" in scheduler_tables.reasons() for reason in EndReason if reason.retries)
