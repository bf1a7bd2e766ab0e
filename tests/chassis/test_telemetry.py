"""Ids of spans: never twice, whatever a process does to `random`, and without a trace in it. Spans that are told later,
beside and by links."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from sskai import telemetry

PROGRAM = """
import json, random
from sskai import telemetry

telemetry.setup("trainer", None)
told = []
for _ in range(2):
    random.seed(7)
    before = random.getstate()
    with telemetry.tracer().start_as_current_span("attempt") as span:
        told.append([span.get_span_context().trace_id, span.get_span_context().span_id])
    assert random.getstate() == before
print(json.dumps(told))
"""


def test_a_seeded_process_tells_new_ids_and_spans_move_no_generator() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    first, second = json.loads(ended.stdout)
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert 0 < first[0] < 2**128
    assert 0 < first[1] < 2**64


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=telemetry.OwnIds())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    return exporter


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def test_a_collector_that_is_away_holds_nothing_up() -> None:
    """Neither the work nor, for longer than one try, the end of the process."""
    program = (
        "from sskai import telemetry\n"
        "telemetry.setup('trainer', 'http://127.0.0.1:9')\n"
        "for _ in range(2 * telemetry.MAX_QUEUED_SPANS):\n"
        "    telemetry.tracer().start_span('work').end()\n"
        "print('done', flush=True)\n"
        "telemetry.shutdown()"
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_a_span_is_told_later_where_others_were_put_below_it(told: InMemorySpanExporter) -> None:
    foretold = telemetry.told_later("job_1/attempt/1", PARENT)
    with telemetry.tracer().start_as_current_span("child", context=telemetry.context_from(foretold)):
        pass
    for _ in range(2):  # told again it is the same span
        telemetry.tell_past(
            "attempt 1",
            name="job_1/attempt/1",
            traceparent=PARENT,
            started_at=NOON,
            ended_at=NOON + timedelta(seconds=1.5),
            attributes={"sskai.attempt": 1},
            failed="hung",
        )
    child, span, again = told.get_finished_spans()
    assert span.context is not None
    assert again.context is not None
    assert child.parent is not None
    assert child.parent.span_id == span.context.span_id == again.context.span_id
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert (span.start_time, (span.end_time or 0) - (span.start_time or 0)) == (NOON.timestamp() * 1e9, 1.5e9)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "hung")
    assert telemetry.told_later("job_1/attempt/2", PARENT) != foretold


@pytest.mark.parametrize("traceparent", [None, "", "00-0-0-01", "rubbish"])
def test_without_a_trace_nothing_is_foretold_and_nothing_linked(traceparent: str | None) -> None:
    assert telemetry.told_later("job_1/attempt/1", traceparent) == ""
    assert telemetry.link_to(traceparent, "goes-on-after") == []


def test_what_happens_beside_a_long_span_does_not_hang_on_it(told: InMemorySpanExporter) -> None:
    with (
        telemetry.tracer().start_as_current_span("attempt"),
        suppress(ZeroDivisionError),
        telemetry.span_beside("train", {"sskai.from_step": 3}) as train,
    ):
        below = telemetry.carried_by(train)["traceparent"]
        with telemetry.tracer().start_as_current_span("save"):
            pass
        raise ZeroDivisionError
    save, trained, attempt = told.get_finished_spans()
    assert attempt.context is not None
    for one in (save, trained):
        assert one.parent is not None
        assert one.parent.span_id == attempt.context.span_id
    assert trained.context is not None
    assert below.split("-")[2] == f"{trained.context.span_id:016x}"
    assert trained.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", ""),
        ("no trace", ""),
        (None, ""),
    ],
)
def test_an_events_trace_is_its_own_or_none(traceparent: str | None, trace_id: str) -> None:
    with telemetry.tracer().start_as_current_span("another"):
        assert telemetry.trace_id_of(traceparent) == trace_id
