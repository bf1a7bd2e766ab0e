"""The monitor's own Prometheus metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

SPANS = Counter("sskai_spans", "Spans that came in, by what became of them", ["outcome"])
INGEST_SECONDS = Histogram(
    "sskai_span_ingest_seconds",
    "Time to store one batch of spans and add it to the figures",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
NOTICES = Counter(
    "sskai_interruption_notices", "Messages of the cloud, by source and what became of them", ["source", "outcome"]
)
SOURCE_UP = Gauge("sskai_interruption_source_up", "Whether a source of such messages answered last time", ["source"])
SOURCE_AGE_SECONDS = Gauge(
    "sskai_interruption_source_age_seconds", "Since a source of such messages answered", ["source"]
)
RECEIPTS = Counter("sskai_receipts", "Receipts issued", ["outcome"])
DRIFT_DETECTIONS = Counter("sskai_drift_detections", "Drifts detected", ["signal", "reference"])
DRIFT_SAMPLES = Counter("sskai_drift_samples", "Samples and labels of drift tests", ["kind", "outcome"])
DRIFT_WINDOWS = Counter("sskai_drift_windows", "Healthy windows, by what became of them", ["outcome"])
RETRAIN_DECISIONS = Counter("sskai_retrain_decisions", "Decisions on drifted models", ["rule"])
OBJECTIVE_BREACHES = Counter("sskai_objective_breaches", "Broken promises told", ["objective", "severity"])
