"""What is counted of a span: in which series, in which window of time, and which values. Pure.

Windows are of the span's own end, not of its arrival: late, early and reordered spans change no total. Every span is
counted into a window of 10 s; closed windows are summed into the next longer ones (`cells.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.monitor.sketches import OTHER, Tally
from services.monitor.spans import Span

# Each is a whole number of the one before.
WINDOWS_SECONDS = (10, 60, 3600, 86_400)
FINEST_SECONDS = WINDOWS_SECONDS[0]
# How long windows of each length are kept, unless the operator says otherwise.
RETENTION = {10: timedelta(hours=2), 60: timedelta(days=2), 3600: timedelta(days=90), 86_400: timedelta(days=730)}

# Names come from outside. More different ones than this are counted under OTHER, so that no table grows without end.
MAX_SERIES = 5_000
# Jobs come and go: beyond this the oldest ones' figures are forgotten.
MAX_JOB_SERIES = 5_000

DURATION = "duration_seconds"
# By OpenTelemetry's GenAI conventions where they have a word; written by the inference service.
ATTRIBUTE_OF_MEASURE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "time_to_first_token_seconds": "gen_ai.server.time_to_first_token",
    "time_per_output_token_seconds": "gen_ai.server.time_per_output_token",
    "queue_seconds": "sskai.queue_seconds",
    "batch_size": "sskai.batch_size",
}
MEASURES = (DURATION, *ATTRIBUTE_OF_MEASURE)
_MARK_OF_VALUES = "gen_ai.operation.name"

MAX_KIND_CHARACTERS = 60


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """Whose spans are counted together: by service and model, or, if a job is named, of that job's attempt alone."""

    tenant_id: str
    service: str
    name: str  # of a server's span: method and route
    model: str = ""
    model_version: str = ""
    endpoint_id: str = ""
    job_id: str = ""
    attempt: str = ""

    @property
    def collapsed(self) -> Series:
        """Where it is counted when there are too many series: by tenant and service only."""
        return Series(self.tenant_id, self.service, OTHER, job_id=OTHER if self.job_id else "")


def series_of(span: Span) -> tuple[Series, ...]:
    """The span's series, and that of its job's attempt if it names one: figures of jobs are counted apart, so that
    the others outlive them."""
    of_service = Series(
        tenant_id=span.tenant_id,
        service=span.service,
        name=span.name,
        model=span.text("sskai.model", "gen_ai.request.model"),
        model_version=span.text("sskai.model.version"),
        endpoint_id=span.text("sskai.endpoint"),
    )
    if not (job_id := job_of(span)):
        return (of_service,)
    attempt = span.text("sskai.attempt")
    return of_service, Series(span.tenant_id, span.service, span.name, job_id=job_id, attempt=attempt)


def job_of(span: Span) -> str:
    """The job that the span worked for; empty if it names none."""
    if job_id := span.text("sskai.job"):
        return job_id
    subject = span.text("sskai.subject")
    return subject if subject.startswith("job_") else ""


def error_kind(span: Span) -> str:
    """What went wrong, in a word: OpenTelemetry's `error.type`, an exception's type, an HTTP status; empty: nothing."""
    if not span.failed:
        return ""
    if told := span.text("error.type"):
        return told[:MAX_KIND_CHARACTERS]
    for event in span.events:
        if raised := event["attributes"].get("exception.type"):
            return str(raised)[:MAX_KIND_CHARACTERS]
    return span.text("http.response.status_code", "http.status_code")[:MAX_KIND_CHARACTERS] or "error"


@dataclass(frozen=True, slots=True, order=True)
class CellKey:
    """One counter: a series, a measure and a window of time."""

    series: Series
    measure: str
    window_start: datetime


def count(spans: Iterable[Span]) -> dict[CellKey, Tally]:
    """What the spans add to the figures, in windows of FINEST_SECONDS by the time at which they ended."""
    cells: dict[tuple[Series, str, int], Tally] = {}
    for span in spans:
        start = span.ended_ns // (FINEST_SECONDS * 1_000_000_000) * FINEST_SECONDS
        error = error_kind(span)
        values = _values(span)
        for series in series_of(span):
            for measure, value in values:
                key = (series, measure, start)
                if (tally := cells.get(key)) is None:
                    tally = cells[key] = Tally()
                tally.add(value, span.trace_id, error if measure == DURATION else "")
    return {
        CellKey(series, measure, datetime.fromtimestamp(start, UTC)): tally
        for (series, measure, start), tally in cells.items()
    }


def _values(span: Span) -> list[tuple[str, float]]:
    values = [(DURATION, span.seconds)]
    if _MARK_OF_VALUES in span.attributes:
        for measure, attribute in ATTRIBUTE_OF_MEASURE.items():
            value = span.attributes.get(attribute)
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.append((measure, max(0.0, float(value))))
    return values


def window_start(at: datetime, window_seconds: int) -> datetime:
    """The start of the window that a moment lies in."""
    return datetime.fromtimestamp(at.timestamp() // window_seconds * window_seconds, UTC)
