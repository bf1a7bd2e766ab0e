"""What a receipt says beside money: waiting, restarts, and what somebody would have taken who does not plan."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.monitor import ledger as simulated
from services.monitor.ledger import Life, receipt
from sskai.database import Database
from tests.monitor.test_ledger import SPOT, at, interrupted_job, row

SERVICE = "monitor"
NAIVE = {"instance_type": "g5.xlarge", "nano_usd": 100 * SPOT, "seconds": 600.0}


def test_waiting_is_what_no_machine_was_metered_in() -> None:
    rows, logs = interrupted_job()  # machines from 0 to 40 and from 100 to 133
    told = receipt(rows, logs, Life(at(-20), at(140)))
    assert (told.elapsed_seconds, told.waiting_seconds) == (160, 20 + 60 + 7)
    # Of 25 s of overhead one run would have had its start-up (10 s) and its end (5 s).
    assert (told.overhead_seconds, told.restart_seconds) == (25, 10)


def test_two_machines_at_once_are_not_counted_twice() -> None:
    rows, logs = interrupted_job()
    beside = replace(row(3, 2, 30, 100), attempt=2)  # a successor that loads while the first one drains
    assert receipt([*rows, beside], logs, Life(at(0), at(133))).waiting_seconds == 0


def test_the_naive_choice_is_compared_where_the_work_was_done() -> None:
    rows, logs = interrupted_job()  # 73 s were paid
    told = receipt(rows, logs, Life(at(0), at(133), succeeded=True, naive=NAIVE))
    assert (told.naive_nano_usd, told.naive_seconds, told.naive_instance_type) == (100 * SPOT, 600, "g5.xlarge")
    assert told.naive_saving_fraction == pytest.approx(0.27)
    assert told.time_saved_seconds == 600 - 133
    failed = receipt(rows, logs, Life(at(0), at(133), succeeded=False, naive=NAIVE))
    assert failed.naive_nano_usd is None
    assert failed.time_saved_seconds is None
    assert receipt(rows, logs, Life(at(0), at(133), succeeded=True)).naive_saving_fraction is None


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), max_size=8))
def test_waiting_and_running_are_all_of_the_time(machines: list[tuple[int, int]]) -> None:
    rows = [row(place + 1, 1, start, start + length) for place, (start, length) in enumerate(machines)]
    told = receipt(rows, [], Life(at(0), at(200)))
    seconds = {second for start, length in machines for second in range(start, min(200, start + length))}
    assert told.waiting_seconds == 200 - len(seconds)


async def test_receipts_of_simulated_jobs_are_those_of_the_log_alone(database: Database) -> None:
    """As the benchmark has it, with a few jobs: shuffled, repeated, every trainer's clock wrong."""
    dice = random.Random(3)
    stories = [simulated.simulate(number, dice) for number in range(4)]
    for story in stories:
        rows = sum(one.amount_nano_usd for one in story.rows)
        assert abs(rows - story.owed) <= len(story.rows)
        assert not story.job.budget_nano_usd or rows <= story.job.budget_nano_usd
    await simulated.replay(database, stories, dice)
    issued = await simulated.receipts(database)
    for story in stories:
        expected = simulated.recomputed(story.told)
        assert issued[story.job.job_id] == {name: getattr(expected, name) for name in expected.__slots__}
    paid, count, _ = await simulated.day_totals(database)
    every = [one for story in stories for one in story.rows]
    assert (paid, count) == (sum(one.amount_nano_usd for one in every), len(every))


def test_no_budget_of_several_jobs_is_passed() -> None:
    assert simulated.overshoot_of_reserves(random.Random(5))["overshoot_nano_usd"] == 0
