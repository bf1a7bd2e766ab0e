"""Why a job waits and when it is likely to start, in words. Pure; the clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

HEADLINES = {
    "no-plan": "waiting for its plan",
    "no-capacity": "waiting for a machine",
    "waiting-for-spot": "waiting for spot",
    "quota": "waiting for its turn",
    "priority": "waiting behind jobs of a higher class",
    "fair-share": "waiting behind tenants with a smaller share",
    "budget": "held by its budget",
    "tenant-budget": "held by the tenant's budget",
    "reserve": "held by a budget that others have reserved",
    "backoff": "pausing before the next try",
}
# (seconds, unit): what is longer than 1.5 of a unit is told in it.
UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def in_words(waiting: Mapping[str, Any], now: datetime) -> str:
    """One line from a job's `waiting`, or from a JobHeld: rule, since when, likely start, detail."""
    rule = str(waiting.get("rule", ""))
    since = _moment(waiting, "since")
    parts = [HEADLINES.get(rule, f"held by {rule}")]
    if since is not None:
        parts[0] += f" since {_amount(max(0.0, (now - since).total_seconds()))}"
    if position := waiting.get("position"):
        parts.append(f"number {position} in line")
    if start := likely_start(waiting, now):
        parts.append(start)
    line = "; ".join(parts)
    return f"{line}: {waiting['detail']}" if waiting.get("detail") else line


def in_short(waiting: Mapping[str, Any] | None, now: datetime) -> str:
    """For a table's cell: the rule, and the likely start."""
    if not waiting:
        return ""
    start = likely_start(waiting, now)
    return f"{waiting['rule']}, {start.removeprefix('likely to start ')}" if start else str(waiting["rule"])


def likely_start(waiting: Mapping[str, Any], now: datetime) -> str:
    """`likely to start in 2 to 11 min`; empty where nobody can say."""
    earliest, latest = _moment(waiting, "earliest_start"), _moment(waiting, "latest_start")
    if earliest is None or latest is None:
        return ""
    low, high = (earliest - now).total_seconds(), (latest - now).total_seconds()
    if high <= 0:
        return "later than was foretold"
    size, unit = _unit(high)
    first, last = max(0, round(low / size)), max(1, round(high / size))
    if not first:
        return f"likely to start within {last} {unit}"
    return f"likely to start in {first} to {last} {unit}" if first < last else f"likely to start in {last} {unit}"


def _amount(seconds: float) -> str:
    size, unit = _unit(seconds)
    return f"{round(seconds / size)} {unit}"


def _unit(seconds: float) -> tuple[float, str]:
    return next(((size, unit) for size, unit in UNITS if seconds >= 1.5 * size), UNITS[-1])


def _moment(waiting: Mapping[str, Any], name: str) -> datetime | None:
    text = waiting.get(name)
    return datetime.fromisoformat(text) if text else None
