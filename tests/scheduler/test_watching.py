"""What lists and silences mean, without any cluster."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.domain import Attempt, EndReason
from services.scheduler.watching import GAP_SECONDS, MAX_TRIES_FOR_GONE, Watch, reason_for_silence
from tests.scheduler.examples import START, placement

LONG_AGO = {"m-1": START - timedelta(hours=1)}


def later(seconds: float):  # type: ignore[no-untyped-def]
    return START + timedelta(seconds=seconds)


def test_two_lists_in_a_row_say_that_a_machine_is_gone() -> None:
    watch = Watch()
    verdicts = []
    for second, seen in ((0, []), (1, ["m-1"]), (2, []), (2.5, []), (3, []), (4, [])):
        watch.listed(seen, later(second))
        verdicts.append(watch.gone(LONG_AGO, seen, later(second)))
    assert verdicts == [[], [], [], [], ["m-1"], ["m-1"]]


def test_a_list_after_a_gap_begins_anew() -> None:
    watch = Watch()
    for second in (0, GAP_SECONDS + 1):
        watch.listed([], later(second))
        assert watch.gone(LONG_AGO, [], later(second)) == []


def test_a_young_launch_may_be_missing() -> None:
    watch, launched = Watch(), {"m-1": START}
    found = []
    for second in range(40):
        watch.listed([], later(second))
        if watch.gone(launched, [], later(second)):
            found.append(second)
    assert found[0] == 31


@given(st.lists(st.floats(0.1, 2), min_size=1, max_size=200), st.sampled_from([None, MAX_TRIES_FOR_GONE, 1]))
def test_deletes_are_tried_again_ever_more_seldom_but_soon_enough(pauses: list[float], most: int | None) -> None:
    watch, now, tries = Watch(), START, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        watch.listed(["m-1"], now)
        if watch.may_delete("m-1", tries=most, now=now):
            watch.deleting("m-1", now)
            tries.append(now)
    gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(tries)]
    assert all(1 <= gap <= 7 for gap in gaps)
    assert most is None or len(tries) <= most


def test_what_is_remembered_is_bounded_by_what_is_listed() -> None:
    watch = Watch()
    for number in range(100):
        machine = f"m-{number}"
        watch.listed([machine], later(number))
        watch.deleting(machine, later(number))
        watch.noticed[machine] = START
        watch.gone({machine: START}, [], later(number))
    assert max(len(watch.deletions), len(watch.noticed), len(watch.missing)) == 1


RUNNING = Attempt(1, placement(), START, machine_id="m-1", launched_at=START)


@pytest.mark.parametrize(
    ("heard_after", "lists", "asked_at", "silent"),
    [
        (None, range(0, 101, 10), 100, 100),
        (30, range(0, 101, 10), 100, 70),
        (30, [], 100, 0),  # never listed: nothing is known
        (30, [90, 100], 100, 10),  # the scheduler itself came back at 90
        (30, [0, 10], 200, 0),  # the cluster has been away since
    ],
)
def test_silence_counts_while_the_cluster_answers(
    heard_after: float | None, lists: range | list[int], asked_at: float, silent: float
) -> None:
    watch = Watch()
    for second in lists:
        watch.listed(["m-1"], later(second))
    attempt = replace(RUNNING, heard_at=None if heard_after is None else later(heard_after))
    assert watch.silence_seconds(attempt, later(asked_at)) == silent


@pytest.mark.parametrize(
    ("heard", "silent_seconds", "reason"),
    [
        (False, 901, EndReason.NEVER_STARTED),
        (False, 899, None),
        (True, 901, None),
        (True, 1801, EndReason.HUNG),
    ],
)
def test_a_pod_that_never_spoke_is_given_up_earlier_than_one_that_fell_silent(
    heard: bool, silent_seconds: float, reason: EndReason | None
) -> None:
    attempt = replace(RUNNING, heard_at=START if heard else None)
    assert reason_for_silence(attempt, silent_seconds, start_seconds=900, hang_seconds=1800) is reason
