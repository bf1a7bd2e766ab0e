"""What may be asked about figures, and how counters become the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.monitor.sketches import Cell, red
from services.monitor.spans import HOUR_SECONDS, MINUTE_SECONDS, Series
from sskai.http import Problem

MAX_WINDOWS = 1_500  # a day of minutes
LABELS = ("service", "name", "model", "model_version", "endpoint_id")
_A_LABEL = f"({'|'.join(LABELS)})"


class FigureQuery(BaseModel):
    """GET /v1/figures: which spans, over which time, in which rows."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    since: AwareDatetime | None = None  # default: an hour before until
    until: AwareDatetime | None = None  # default: now
    window: Literal["1m", "1h"] = "1m"
    whole: bool = False  # one row per group instead of one per group and window
    group_by: str = Field("service,name", pattern=f"^{_A_LABEL}(,{_A_LABEL})*$")
    service: str | None = None
    name: str | None = None
    model: str | None = None
    model_version: str | None = None
    endpoint_id: str | None = None

    @property
    def step_seconds(self) -> int:
        return MINUTE_SECONDS if self.window == "1m" else HOUR_SECONDS

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the spans must have."""
        return {label: value for label in LABELS if (value := getattr(self, label)) is not None}

    def span_of_time(self, now: datetime) -> tuple[datetime, datetime]:
        """The start of the first window and the end. A window belongs to the answer if any part of it does."""
        until = self.until or now
        since = self.since or until - timedelta(hours=1)
        first = datetime.fromtimestamp(since.timestamp() // self.step_seconds * self.step_seconds, UTC)
        if not 0 < (until - first).total_seconds() / self.step_seconds <= MAX_WINDOWS:
            raise Problem(422, "Not such a time", f"since to until must be 1 to {MAX_WINDOWS} windows of {self.window}")
        return first, until

    def answer(
        self, cells: Iterable[tuple[Series, datetime, int, Cell]], first: datetime, until: datetime
    ) -> dict[str, Any]:
        """The rows of the answer, sorted by time and labels."""
        labels = self.group_by.split(",")
        groups: dict[tuple[Any, ...], list[tuple[int, Cell]]] = defaultdict(list)
        for series, start, bucket, cell in cells:
            key = (first if self.whole else start, *(getattr(series, label) for label in labels))
            groups[key].append((bucket, cell))
        over_seconds = (until - first).total_seconds() if self.whole else float(self.step_seconds)
        return {
            "window_seconds": over_seconds,
            "figures": [
                {"window_start": start, **dict(zip(labels, values, strict=True)), **asdict(red(group, over_seconds))}
                for (start, *values), group in sorted(groups.items())
            ],
        }
