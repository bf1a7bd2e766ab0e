"""The load model: its arithmetic by hand, its direction, and that docs/scale.md shows what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale.__main__ import cases, fan_out, table
from benchmarks.scale.load import OF_A_JOB, OF_AN_INTERRUPTION, Work, consumers, progress_per_second
from benchmarks.scale.sizing import ALONE, CONNECTIONS, jobs_by_relay, needs, tenant_jobs_by_log_lock
from sskai.events import v1 as events

DOCS = Path(__file__).parents[2] / "docs" / "scale.md"


@pytest.mark.parametrize("printed", [lambda: table(cases()), fan_out])
def test_the_docs_show_what_the_model_prints(printed: Callable[[], str]) -> None:
    assert printed() in DOCS.read_text(), (
        "run `python -m benchmarks.scale --table` and put its tables into docs/scale.md"
    )


def test_every_event_of_the_model_is_handled_by_somebody() -> None:
    assert all(consumers()[message] for message in {**OF_A_JOB, **OF_AN_INTERRUPTION})
    assert set(consumers()[events.SpendRecorded]) == {"gateway", "monitor"}


@pytest.mark.parametrize(("step_seconds", "per_second"), [(0.05, 4), (0.1, 1 / 0.3), (1, 1), (2, 1), (4, 0.75)])
def test_a_pod_tells_its_steps_and_that_it_lives(step_seconds: float, per_second: float) -> None:
    assert progress_per_second(step_seconds) == pytest.approx(per_second)


def test_720_jobs_by_hand() -> None:
    found = needs(Work(720, interruptions_per_hour=0, metering_seconds=10, step_seconds=1, trace_days=1))
    # 0.1 jobs a second with 9 facts each, 720 steps, 1 checkpoint, 72 rows of the ledger, 904 prices in 300 s.
    assert found.events_per_second == pytest.approx(0.9 + 720 + 1 + 72 + 904 / 300)
    assert found.relay_utilisation == pytest.approx((72 + 0.3) * 0.77 / 1000)
    # The gateway handles all 796.9 at 0.77 ms, takes 0.1 jobs a second at 13.7 ms: 0.615 cores, 1.03 at 60 %.
    # The monitor: 794.7 at 0.77 ms and 3,689 spans at 0.085 ms: 0.925 cores, 1.54 at 60 %.
    assert found.replicas == {
        "gateway": 2, "optimizer": 2, "scheduler": 2, "trainer": 2, "inference": 2, "monitor": 2
    }  # fmt: skip
    assert found.partitions == 12
    assert found.connections == 12 * CONNECTIONS
    assert found.database_gib_growth_per_month == pytest.approx(72 * 30 * 86_400 * 500 / 2**30)
    assert found.usd == pytest.approx(sum(found.usd_per_month.values()))


@settings(max_examples=50, deadline=None)
@given(
    jobs=st.integers(1, 20_000),
    more=st.integers(1, 20_000),
    metering_seconds=st.floats(1, 600),
    trace_days=st.floats(0.1, 30),
)
def test_more_jobs_never_need_less(jobs: int, more: int, metering_seconds: float, trace_days: float) -> None:
    few, many = (
        needs(Work(number, metering_seconds=metering_seconds, trace_days=trace_days)) for number in (jobs, jobs + more)
    )
    assert all(few.replicas[name] <= many.replicas[name] for name in few.replicas)
    for name in ("partitions", "connections", "postgres_vcpus", "iops", "database_gib", "broker_vcpus", "broker_gib"):
        assert getattr(few, name) <= getattr(many, name), name
    assert few.log_hours >= many.log_hours
    assert few.usd <= many.usd


def test_what_lowers_the_load() -> None:
    often, seldom = Work(10_000), Work(10_000, metering_seconds=60)
    assert needs(often).relay_utilisation > 1 > needs(seldom).relay_utilisation
    assert jobs_by_relay(seldom) > jobs_by_relay(often)
    assert tenant_jobs_by_log_lock(seldom) > tenant_jobs_by_log_lock(often)
    assert needs(often, ALONE).usd > needs(often).usd


def test_no_jobs_are_refused() -> None:
    with pytest.raises(ValueError, match="jobs: at least 1"):
        needs(Work(0))
