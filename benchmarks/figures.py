"""The shape of a figure, and of the one JSON object that a benchmark prints."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from typing import Any

import psutil

Figure = dict[str, Any]


def figure(name: str, value: float, unit: str, goal: float | None, better: str, **more: Any) -> Figure:
    """One measured value with its goal (None: nothing was promised), its peer and how it came about."""
    met = None
    if goal is not None:
        met = {"lower": value <= goal, "higher": value >= goal, "equal": value == goal}[better]
    known = {"peer": None, "how": ""} | more
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "better": better, "met": met, **known}


def print_report(benchmark: str, figures: Sequence[Figure], **more: Any) -> None:
    """The figures, whatever else belongs to them, and the machine that they were taken on."""
    machine = {
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
    print(json.dumps({"benchmark": benchmark, "figures": list(figures), **more, "machine": machine}, indent=2))
