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
# Of which model version, by which endpoint. What an endpoint leaves behind goes with the process.
BY_VERSION = ["endpoint", "model", "version"]
FIRST_TOKEN_SECONDS = Histogram(
    "sskai_inference_time_to_first_token_seconds",
    "gen_ai.server.time_to_first_token: from the request's arrival, waiting included",
    BY_VERSION,
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
OUTPUT_TOKEN_SECONDS = Histogram(
    "sskai_inference_time_per_output_token_seconds",
    "gen_ai.server.time_per_output_token: after the first one",
    BY_VERSION,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 1),
)
QUEUE_SECONDS = Histogram(
    "sskai_inference_queue_seconds",
    "From the engine's taking a request to the reading of its prompt",
    BY_VERSION,
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BATCH_SIZE = Histogram(
    "sskai_inference_batch_size",
    "Sequences that were stepped together with an answer, itself included, on average",
    BY_VERSION,
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
PROMPT_TOKENS = Counter(
    "sskai_inference_prompt_tokens", "Tokens of prompts, by whether the prefix cache had them", [*BY_VERSION, "cache"]
)
IMAGES = Counter("sskai_inference_images", "Pictures drawn", BY_VERSION)
IMAGE_SECONDS = Histogram(
    "sskai_inference_image_seconds",
    "Drawing one picture, without its waiting",
    BY_VERSION,
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
ACTIVE = Gauge("sskai_inference_active_sequences", "Sequences that are stepped together now, and pictures under way")
WAITING = Gauge("sskai_inference_waiting_sequences", "Sequences and pictures that wait for a place")
LOADED = Gauge("sskai_inference_loaded_endpoints", "Endpoints that answer from memory")
