"""Logs, traces and their thread through Kafka: one trace runs from the HTTP request to the trained model.

Traces follow OpenTelemetry's messaging conventions; logs are JSON lines that carry the trace's id.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from typing import Any

import structlog
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

# The SDK's default of 2,048 drops spans in a burst; a span is about 2 KB, so this is at most some 40 MB.
MAX_QUEUED_SPANS = 20_000
END_SECONDS = 5.0  # one try of the exporter

_TRACE_CONTEXT = TraceContextTextMapPropagator()
_foretold: ContextVar[int] = ContextVar("foretold span id")


class OwnIds(IdGenerator):
    """Ids from a generator of their own. The SDK draws them from `random`, which a training seeds: every attempt of a
    job would tell the same ids, and each span would move a generator that a checkpoint keeps."""

    def __init__(self) -> None:
        self._random = random.Random()  # seeded by the system; ids are no secrets
        os.register_at_fork(after_in_child=self._random.seed)

    def generate_span_id(self) -> int:
        return _foretold.get(0) or self._random.getrandbits(64) or 1  # zero is no id

    def generate_trace_id(self) -> int:
        return self._random.getrandbits(128) or 1

    def is_trace_id_random(self) -> bool:
        return True


def setup(
    service_name: str, otlp_url: str | None, log_level: str = "INFO", attributes: Mapping[str, str | int] | None = None
) -> None:
    """Logs to standard output as JSON; spans to `otlp_url` + /v1/traces (None: nowhere). Call once per process.

    `attributes`: of the process, and so of all its spans, e.g. the job that it works for.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_trace_id,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service_name)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
    provider = TracerProvider(
        resource=Resource.create({"service.name": service_name, **(attributes or {})}), id_generator=OwnIds()
    )
    if otlp_url:
        exporter = OTLPSpanExporter(endpoint=otlp_url.rstrip("/") + "/v1/traces", timeout=5)
        provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED_SPANS, schedule_delay_millis=500)
        )
        # An absent collector is told once by the exporter's own log and must not fill ours.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    trace.set_tracer_provider(provider)


def shutdown() -> None:
    """Send the spans that wait, as far as END_SECONDS suffice: for a collector that is away, the SDK itself would wait
    half a minute, of the two that a notice leaves."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        ending = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(END_SECONDS)


def tracer() -> trace.Tracer:
    """The tracer of this process."""
    return _tracer_of(trace.get_tracer_provider())


@cache
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer("sskai")


def current_traceparent() -> str | None:
    """W3C traceparent of the active span, or None outside of any."""
    span = trace.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else None


def current_trace_id() -> str:
    """Of the trace that is being written; empty outside of any."""
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else ""


def trace_id_of(traceparent: str | None) -> str:
    """Of the trace that it belongs to; empty without one, or if it is broken."""
    span = trace.get_current_span(context_from(traceparent)).get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid else ""


def context_from(traceparent: str | None) -> otel_context.Context:
    """The context to start a child span in; an absent or broken traceparent starts a new trace."""
    return _TRACE_CONTEXT.extract({"traceparent": traceparent} if traceparent else {})


def _add_trace_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


@contextmanager
def within(traceparent: str | None) -> Iterator[None]:
    """What is told and begun in here belongs below this span, whoever told it. For loops that look often and rarely do
    anything: a span for each look would say nothing."""
    token = otel_context.attach(context_from(traceparent))
    try:
        yield
    finally:
        otel_context.detach(token)


@contextmanager
def span_beside(
    name: str, attributes: Mapping[str, str | int] | None = None, kind: trace.SpanKind = trace.SpanKind.INTERNAL
) -> Iterator[trace.Span]:
    """A long span that what happens meanwhile stands beside, not below: if its process is killed it is never told, and
    takes nothing with it."""
    span = tracer().start_span(name, attributes=attributes, kind=kind)
    try:
        yield span
    except Exception as error:
        span.record_exception(error)
        span.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
    finally:
        span.end()


def carried_by(span: trace.Span) -> dict[str, str]:
    """The headers that put what a request brings about below this span."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context=trace.set_span_in_context(span))
    return carrier


def told_later(name: str, traceparent: str | None) -> str:
    """The traceparent of a span that `tell_past` will tell under this name, in the trace of `traceparent`: what happens
    meanwhile can be put below it, in whatever process, and is found there even if nobody lives to end it."""
    parent = trace.get_current_span(context_from(traceparent)).get_span_context()
    if not parent.is_valid:
        return ""
    return f"00-{parent.trace_id:032x}-{_id_of(name):016x}-{int(parent.trace_flags):02x}"


def tell_past(
    span_name: str,
    *,
    name: str,
    traceparent: str | None,
    started_at: datetime,
    ended_at: datetime,
    attributes: Mapping[str, str | int],
    links: Sequence[trace.Link] = (),
    failed: str = "",
) -> None:
    """Tell a span that is over, a child of `traceparent`'s, with the id that `told_later` foretold for this `name`.
    Told again it is the same span. `failed`: what went wrong; empty: nothing."""
    token = _foretold.set(_id_of(name))
    try:
        span = tracer().start_span(
            span_name,
            context=context_from(traceparent),
            attributes=attributes,
            links=links,
            start_time=_nanoseconds(started_at),
        )
    finally:
        _foretold.reset(token)
    if failed:
        span.set_status(trace.Status(trace.StatusCode.ERROR, failed))
    span.end(max(_nanoseconds(started_at), _nanoseconds(ended_at)))


def link_to(traceparent: str | None, meaning: str) -> list[trace.Link]:
    """A link to a span of another trace, or of another branch of this one; none if nothing valid is given."""
    other = trace.get_current_span(context_from(traceparent)).get_span_context() if traceparent else None
    if other is None or not other.is_valid:
        return []
    return [trace.Link(other, {"sskai.link": meaning})]


def _id_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) or 1


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1_000
