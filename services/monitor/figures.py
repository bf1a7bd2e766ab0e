"""What may be asked about figures, and how counters become the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.monitor.cells import LABELS, Group
from services.monitor.counting import DURATION, MEASURES
from services.monitor.sketches import Tally, red, spread
from sskai.http import Problem

MAX_WINDOWS = 1_500  # a day of minutes
SECONDS_OF = {"10s": 10, "1m": 60, "1h": 3600, "1d": 86_400}
_A_LABEL = f"({'|'.join(LABELS)})"


class FigureQuery(BaseModel):
    """GET /v1/figures: which spans, over which time, in which rows."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    since: AwareDatetime | None = None  # default: an hour before until
    until: AwareDatetime | None = None  # default: now
    window: Literal["10s", "1m", "1h", "1d"] = "1m"
    whole: bool = False  # one row per group instead of one per group and window
    group_by: str = Field("service,name", pattern=f"^{_A_LABEL}(,{_A_LABEL})*$")
    service: str | None = None
    name: str | None = None
    model: str | None = None
    model_version: str | None = None
    endpoint_id: str | None = None
    job_id: str | None = None
    attempt: str | None = None

    @property
    def step_seconds(self) -> int:
        return SECONDS_OF[self.window]

    @property
    def groups(self) -> list[str]:
        """The labels of the rows, each once."""
        return list(dict.fromkeys(self.group_by.split(",")))

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the spans must have."""
        return {label: value for label in LABELS if (value := getattr(self, label)) is not None}

    def span_of_time(self, now: datetime, retention: Mapping[int, timedelta]) -> tuple[datetime, datetime]:
        """The start of the first window and the end of the last. A window belongs to the answer if any part of it
        does. Raises Problem."""
        step = self.step_seconds
        until = self.until or now
        since = self.since or until - timedelta(hours=1)
        first = datetime.fromtimestamp(since.timestamp() // step * step, UTC)
        last = datetime.fromtimestamp(-(-until.timestamp() // step) * step, UTC)
        if not first < until or (last - first).total_seconds() / step > MAX_WINDOWS:
            raise Problem(422, "Not such a time", f"since to until must be 1 to {MAX_WINDOWS} windows of {self.window}")
        if last < now - retention[step]:
            kept_days = retention[step] / timedelta(days=1)
            detail = f"windows of {self.window} are kept for {kept_days:g} days: ask for a longer window"
            raise Problem(422, "No longer known", detail, field="window")
        return first, last

    def answer(
        self, found: Mapping[Group, Tally], first: datetime, last: datetime, kept_traces: set[str]
    ) -> dict[str, Any]:
        """The rows of the answer, sorted by time and labels. `kept_traces`: of the exemplars, which can be shown."""
        over_seconds = (last - first).total_seconds() if self.whole else float(self.step_seconds)
        rows: dict[tuple[datetime, tuple[str, ...]], dict[str, Tally]] = {}
        for group, tally in found.items():
            rows.setdefault((group.window_start, group.labels), {})[group.measure] = tally
        return {
            "window_seconds": over_seconds,
            "figures": [
                {
                    "window_start": start,
                    **dict(zip(self.groups, labels, strict=True)),
                    **asdict(red(measures[DURATION], over_seconds)),
                    "exemplar_trace_id": _exemplar(measures[DURATION], kept_traces),
                    "values": {name: asdict(spread(measures[name])) for name in MEASURES[1:] if name in measures},
                }
                for (start, labels), measures in sorted(rows.items())
            ],
        }


def exemplars(found: Mapping[Group, Tally]) -> list[str]:
    """The traces that the slowest spans of the groups belong to."""
    return sorted({trace_id for tally in found.values() for _, trace_id in tally.exemplars})


def _exemplar(tally: Tally, kept_traces: set[str]) -> str | None:
    """The trace of the group's slowest span, among those that are still there."""
    return next((trace_id for _, trace_id in tally.exemplars if trace_id in kept_traces), None)
