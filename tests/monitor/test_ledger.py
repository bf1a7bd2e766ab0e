"""Receipts: exact to the nano-USD, the same in whatever order the facts came."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.ledger import AttemptLog, Receipt, Row, complete, receipt

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
SPOT, ON_DEMAND = 300_000, 1_000_000  # nano-USD a second


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def row(interval: int, attempt: int, start: float, end: float, price: int = SPOT) -> Row:
    seconds = round(end - start)
    return Row(interval, attempt, at(start), at(end), price * seconds, ON_DEMAND * seconds)


def steps(log: AttemptLog, told: dict[int, float], step_seconds: float) -> AttemptLog:
    for step, seconds in told.items():
        log = log.stepped(step, at(seconds), step_seconds)
    return log


def test_an_uninterrupted_job_pays_for_one_start_its_steps_and_one_end() -> None:
    log = replace(steps(AttemptLog(1), {1: 12, 10: 30}, 2.0), finished=True)
    told = receipt([row(1, 1, 0, 20), row(2, 1, 20, 35)], [log])
    assert told == Receipt(
        intervals=2,
        attempts=1,
        interruptions=0,
        machine_seconds=35,
        useful_seconds=20,
        lost_seconds=0,
        overhead_seconds=15,  # 10 s until the first step began, 5 s after the last
        paid_nano_usd=35 * SPOT,
        lost_nano_usd=0,
        on_demand_nano_usd=35 * ON_DEMAND,
        saving_fraction=pytest.approx(0.7),
    )


def interrupted_job() -> tuple[list[Row], list[AttemptLog]]:
    """12 steps of 2 s told, killed; resumed from the checkpoint of step 8, 20 steps in all."""
    first = replace(steps(AttemptLog(1), {1: 12, 12: 34}, 2.0), stopped=True, requeued=True)
    second = replace(steps(AttemptLog(2).resumed_from(8, at(106)), {20: 128}, 2.0), finished=True)
    return [row(1, 1, 0, 40), row(2, 2, 100, 133)], [first, second]


def test_steps_done_again_are_lost_and_cost_what_their_attempt_paid() -> None:
    rows, logs = interrupted_job()
    told = receipt(rows, logs)
    assert told.interruptions == 1
    assert told.machine_seconds == 73
    assert told.lost_seconds == 4 * 2
    assert told.lost_nano_usd == 8 * SPOT
    assert told.useful_seconds == 20 * 2
    assert told.overhead_seconds == 73 - 48
    # On demand: 40 s of steps, the first start-up (10 s), the last end (5 s).
    assert told.on_demand_nano_usd == 55 * ON_DEMAND
    assert told.saving_fraction == pytest.approx(1 - 73 * 0.3 / 55)


def test_an_attempt_that_died_before_its_first_step_is_all_overhead() -> None:
    rows, logs = interrupted_job()
    rows[1] = replace(rows[1], attempt=3)
    logs[1] = replace(logs[1], attempt=3)
    # It loaded the checkpoint of step 8 and told so, but made no step.
    never_stepped = AttemptLog(2, stopped=True, requeued=True).stepped(8, at(70))
    with_third = receipt([*rows, row(3, 2, 50, 80)], [*logs, never_stepped])
    without = receipt(rows, logs)
    assert with_third.overhead_seconds == without.overhead_seconds + 30
    assert (with_third.lost_seconds, with_third.useful_seconds) == (without.lost_seconds, without.useful_seconds)
    assert with_third.on_demand_nano_usd == without.on_demand_nano_usd
    assert (with_third.attempts, with_third.interruptions) == (3, 2)


def test_a_torn_checkpoint_makes_steps_of_two_attempts_lost() -> None:
    one = steps(AttemptLog(1), {1: 1, 10: 10}, 1.0)
    two = steps(AttemptLog(2).resumed_from(10, at(101)), {15: 105}, 1.0)
    three = steps(AttemptLog(3).resumed_from(5, at(201)), {20: 215}, 1.0)
    told = receipt([row(1, 1, 0, 10), row(2, 2, 100, 105), row(3, 3, 200, 215)], [one, two, three])
    assert told.lost_seconds == 10  # 5 of each: 30 steps were executed, 20 were needed
    assert told.useful_seconds == 20


def test_a_job_without_any_step_would_have_cost_one_start_on_demand() -> None:
    told = receipt([row(1, 1, 0, 10), row(2, 2, 20, 40)], [AttemptLog(1), AttemptLog(2)])
    assert (told.useful_seconds, told.lost_seconds, told.overhead_seconds) == (0, 0, 30)
    assert told.on_demand_nano_usd == 20 * ON_DEMAND


def test_a_job_that_never_ran_costs_nothing() -> None:
    assert receipt([], []).paid_nano_usd == 0
    assert receipt([], []).saving_fraction == 0


def test_without_a_told_pace_it_is_measured_between_the_first_and_the_last_step() -> None:
    log = AttemptLog(1).stepped(1, at(12)).stepped(6, at(27))
    assert receipt([row(1, 1, 0, 30)], [log]).useful_seconds == 18


@pytest.mark.parametrize(
    ("intervals", "metered", "whole"),
    [([], 0, True), ([], 1, False), ([1, 2], 2, True), ([2], 2, False), ([1, 3], 2, False), ([3, 1, 2], 3, True)],
)
def test_a_receipt_waits_for_every_metered_interval(intervals: list[int], metered: int, whole: bool) -> None:
    assert complete([row(interval, 1, 0, 1) for interval in intervals], metered) is whole


@st.composite
def jobs(draw: st.DrawFn) -> tuple[list[Row], list[AttemptLog]]:
    """Attempts of any length that resume from any step already done, with prices of any kind."""
    rows, logs = [], []
    clock, done, interval = 0.0, 0, 0
    for number in range(1, draw(st.integers(1, 5)) + 1):
        resumed_from = draw(st.integers(0, done)) if number > 1 else 0
        pace = draw(st.floats(0.01, 30))
        made = draw(st.integers(0, 20))
        head, tail = draw(st.integers(0, 60)), draw(st.integers(0, 60))
        log = AttemptLog(number)
        if made and number > 1:
            log = log.resumed_from(resumed_from, at(clock + head + pace))
        for step in range(resumed_from + 1, resumed_from + made + 1, draw(st.integers(1, 4))):
            log = log.stepped(step, at(clock + head + pace * (step - resumed_from)), pace)
        end = clock + head + pace * made + tail + 1
        for _ in range(draw(st.integers(1, 3))):
            interval += 1
            middle = clock + (end - clock) / 2
            rows.append(
                Row(
                    interval,
                    number,
                    at(clock),
                    at(middle),
                    draw(st.integers(0, 10**12)),
                    draw(st.integers(0, 10**13)),
                )
            )
            clock = middle
        done = max(done, log.last_step[0] if log.last_step else 0)
        logs.append(log)
        clock += draw(st.integers(0, 500))
    return rows, logs


@given(jobs(), st.randoms(use_true_random=False))
def test_the_order_of_the_facts_changes_nothing(job: tuple[list[Row], list[AttemptLog]], dice: random.Random) -> None:
    rows, logs = job
    expected = receipt(rows, logs)
    dice.shuffle(rows)
    dice.shuffle(logs)
    assert receipt(rows, logs) == expected


@given(jobs())
def test_every_paid_second_is_useful_lost_or_overhead(job: tuple[list[Row], list[AttemptLog]]) -> None:
    rows, logs = job
    told = receipt(rows, logs)
    assert told.paid_nano_usd == sum(one.amount_nano_usd for one in rows)
    parts = told.useful_seconds, told.lost_seconds, told.overhead_seconds
    assert all(part >= -1e-9 for part in parts)
    assert sum(parts) == pytest.approx(told.machine_seconds)
    assert told.lost_nano_usd <= told.paid_nano_usd


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 1000), st.floats(0, 10)), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_an_attempts_log_does_not_depend_on_order_or_repeats(
    told: list[tuple[int, int, float]], dice: random.Random
) -> None:
    def read(reports: list[tuple[int, int, float]]) -> AttemptLog:
        log = AttemptLog(2)
        for step, seconds, pace in reports:
            log = log.stepped(step, at(seconds), pace)
        return log.resumed_from(0, at(5))

    shuffled = [*told, *told]
    dice.shuffle(shuffled)
    assert read(shuffled) == read(told)
