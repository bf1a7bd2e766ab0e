"""Ids of spans: never twice, whatever a process does to `random`, and without a trace in it."""

from __future__ import annotations

import json
import subprocess
import sys

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
