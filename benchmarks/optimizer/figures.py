"""The shape of a figure."""

from __future__ import annotations

from typing import Any

Figure = dict[str, Any]


def figure(name: str, value: float, unit: str, goal: float | None, better: str, **more: Any) -> Figure:
    """One measured value with its goal (None: nothing was promised), its peer and how it came about."""
    met = None
    if goal is not None:
        met = {"lower": value <= goal, "higher": value >= goal, "equal": value == goal}[better]
    known = {"peer": None, "how": ""} | more
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "better": better, "met": met, **known}
