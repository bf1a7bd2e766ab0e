"""Which traces are kept: errors, slow ones, those of jobs, and the same share of the others for everybody."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.counting import series_of
from services.monitor.sampling import Sampling
from tests.monitor.test_spans import span

trace_ids = st.integers(1, 2**128 - 1).map(lambda number: f"{number:032x}")
USUAL = {series_of(span("a"))[0]: 0.5}


@pytest.mark.parametrize(
    ("fields", "sampling", "notable"),
    [
        ({}, Sampling(0), False),
        ({"failed": True, "parent": "x"}, Sampling(0), True),
        ({"attributes": {"sskai.job": "job_1"}, "parent": "x"}, Sampling(0), True),
        ({"attributes": {"sskai.subject": "job_1"}}, Sampling(0), True),
        ({"end": 2}, Sampling(0, slow_seconds=1), True),
        ({"end": 1}, Sampling(0, slow_seconds=1), False),
        ({"end": 2, "parent": "x"}, Sampling(0, slow_seconds=1), False),
        ({"end": 2}, Sampling(0, usual_seconds=USUAL), True),
        ({"end": 0.4}, Sampling(0, usual_seconds=USUAL), False),
        ({"end": 2, "name": "never seen"}, Sampling(0, usual_seconds=USUAL), False),
    ],
)
def test_what_makes_a_trace_notable(fields: dict[str, Any], sampling: Sampling, notable: bool) -> None:
    assert sampling.notable(span("a", **fields)) is notable


@given(trace_ids, st.floats(0, 1))
def test_a_notable_trace_is_always_kept_and_a_whole_share_is_all(trace_id: str, fraction: float) -> None:
    assert Sampling(fraction).keeps(trace_id, notable=True)
    assert Sampling(1.0).keeps(trace_id, notable=False)
    assert not Sampling(0.0).keeps(trace_id, notable=False)


@given(trace_ids, st.floats(0, 1), st.floats(0, 1))
def test_what_a_small_share_keeps_a_larger_one_keeps_too(trace_id: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if Sampling(small).keeps(trace_id, notable=False):
        assert Sampling(large).keeps(trace_id, notable=False)


def test_the_share_is_kept() -> None:
    dice = random.Random(1)
    kept = sum(Sampling(0.1).keeps(f"{dice.getrandbits(128):032x}", notable=False) for _ in range(10_000))
    assert 900 < kept < 1_100
