"""Which traces are kept when not all can be: decided at a trace's tail, when it has been quiet for a while. Pure.

Figures never sample: every span is counted before its trace is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.monitor.counting import Series, job_of, series_of
from services.monitor.spans import Span

# Of 2^64; a trace id's last 8 bytes are random by W3C's Trace Context, level 2.
_IDS = 1 << 64


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the operator set, and how long each series usually takes."""

    fraction: float = 1.0  # of the unremarkable traces
    slow_seconds: float | None = None  # a root that takes longer is slow, whatever is usual for it
    usual_seconds: Mapping[Series, float] | None = None  # p95 of each series; a root beyond it is slow

    @property
    def keeps_all(self) -> bool:
        return self.fraction >= 1

    def notable(self, span: Span) -> bool:
        """Whether the span makes its trace one to keep: it failed, works for a job, or is a root that was slow."""
        if span.failed or job_of(span):
            return True
        if span.parent_span_id:
            return False  # of so many spans in a trace one is always beyond its p95
        if self.slow_seconds is not None and span.seconds > self.slow_seconds:
            return True
        usual = (self.usual_seconds or {}).get(series_of(span)[0])
        return usual is not None and span.seconds > usual

    def keeps(self, trace_id: str, *, notable: bool) -> bool:
        """The decision on a whole trace: of unremarkable ones the same share everywhere, whoever decides."""
        return notable or int(trace_id[16:], 16) < self.fraction * _IDS
