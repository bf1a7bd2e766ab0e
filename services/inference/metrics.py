"""Inference's own figures: OpenTelemetry's GenAI metrics under Prometheus names."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("sskai_inference_requests", "Requests by how they ended", ["operation", "outcome"])
TOKENS = Counter("sskai_inference_tokens", "Tokens taken in and put out", ["direction"])
SECONDS = Histogram(
    "sskai_inference_request_seconds",
    "gen_ai.server.request.duration: from the request's arrival to the end of its answer",
    ["operation"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
FIRST_TOKEN_SECONDS = Histogram(
    "sskai_inference_time_to_first_token_seconds",
    "gen_ai.server.time_to_first_token: from the request's arrival, waiting included",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
OUTPUT_TOKEN_SECONDS = Histogram(
    "sskai_inference_time_per_output_token_seconds",
    "gen_ai.server.time_per_output_token: after the first one",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 1),
)
ACTIVE = Gauge("sskai_inference_active_sequences", "Sequences that are stepped together now")
WAITING = Gauge("sskai_inference_waiting_sequences", "Sequences that wait for a place")
LOADED = Gauge("sskai_inference_loaded_endpoints", "Endpoints that answer from memory")
