"""Which word on a machine's end is news, when it is told, and that nobody is told twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.interruptions import EARLIER_SECONDS, Fact, Machine, heard, to_tell, told_by_others
from sskai.contract import moment, timestamp
from sskai.events import v1 as events

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
OURS = Machine("i-1", ours=True)
LEAD_SECONDS = 1800.0


def notice(seconds: float | None, source: str = "eventbridge", **changes: Any) -> events.InterruptionNoticed:
    """A notice of so many seconds; None: a rebalance recommendation."""
    fields: dict[str, Any] = {"machine_id": "i-1", "source": source, "noticed_at": timestamp(NOW)}
    if seconds is None:
        return events.InterruptionNoticed(**fields | {"action": "rebalance"} | changes)
    ends = {
        "action": "terminate",
        "notice_seconds": seconds,
        "terminates_at": timestamp(NOW + timedelta(seconds=seconds)),
    }
    return events.InterruptionNoticed(**fields | ends | changes)


LOST = events.MachineLost(machine_id="i-1", reason="terminated", lost_at=timestamp(NOW))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([notice(120)], 1),
        ([notice(120), notice(120, "imds")], 1),
        ([notice(120), notice(119.5, "imds")], 1),  # rounded differently
        ([notice(120), notice(90, "imds")], 2),
        ([notice(90), notice(120, "imds")], 1),
        ([notice(None), notice(None)], 1),
        ([notice(None), notice(120)], 2),
        ([notice(120), notice(None)], 1),
        ([notice(120), LOST], 2),
        ([LOST, LOST], 1),
        ([LOST, notice(120), notice(None)], 1),
    ],
)
def test_each_end_is_told_once_and_again_only_if_it_comes_earlier(words: list[Fact], told: int) -> None:
    machine, facts = OURS, []
    for word in words:
        machine, new, _ = to_tell(heard(machine, word), NOW, LEAD_SECONDS)
        facts += new
    assert len(facts) == told


def test_a_strangers_machine_is_told_of_once_it_is_ours() -> None:
    machine, facts, _ = to_tell(heard(Machine("i-1"), notice(120)), NOW, LEAD_SECONDS)
    assert facts == []
    _, facts, _ = to_tell(Machine("i-1", True, machine.notice), NOW, LEAD_SECONDS)
    assert facts == [notice(120)]


def test_a_far_end_is_told_when_it_is_near() -> None:
    far = notice(14 * 86400)
    machine, facts, due_at = to_tell(heard(OURS, far), NOW, LEAD_SECONDS)
    assert (facts, due_at) == ([], moment(far.terminates_at) - timedelta(seconds=LEAD_SECONDS))
    assert due_at is not None
    _, facts, after = to_tell(machine, due_at, LEAD_SECONDS)
    assert (facts, after) == ([far], None)


def test_what_is_put_off_before_anybody_heard_of_it_is_told_later() -> None:
    later = notice(15 * 86400)
    machine = heard(heard(OURS, notice(14 * 86400)), later)
    assert machine.notice == later
    told, _, _ = to_tell(heard(OURS, notice(60)), NOW, LEAD_SECONDS)
    assert heard(told, notice(600)) == told, "who acted on it cannot be told otherwise"


def test_a_loss_makes_a_warning_that_waited_useless() -> None:
    machine = heard(heard(Machine("i-1"), notice(120)), LOST)
    _, facts, _ = to_tell(Machine("i-1", True, machine.notice, False, machine.loss), NOW, LEAD_SECONDS)
    assert facts == [LOST]


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (notice(120, "imds"), notice(120), 0),
        (notice(120, "kubernetes"), notice(60), 1),
        (LOST, LOST, 0),
        (LOST, notice(120), 0),
        (notice(None, "imds"), notice(120), 1),
    ],
)
def test_what_others_told_needs_no_second_voice(first: Fact, then: Fact, told: int) -> None:
    machine = heard(told_by_others(OURS, first), then)
    assert len(to_tell(machine, NOW, LEAD_SECONDS)[1]) == told


words = st.one_of(
    st.builds(notice, st.one_of(st.none(), st.integers(1, 1000).map(float)), st.sampled_from(["eventbridge", "imds"])),
    st.just(LOST),
)


@given(st.lists(st.tuples(words, st.booleans()), max_size=12))
def test_deadlines_that_are_told_only_ever_come_nearer(said: list[tuple[Fact, bool]]) -> None:
    """Whoever speaks first, and however often: what everybody hears is a falling row of deadlines, then a loss."""
    machine: Machine = OURS
    told: list[Fact] = []
    for word, by_others in said:
        before = machine
        machine = told_by_others(machine, word) if by_others else heard(machine, word)
        if by_others and machine is not before:
            told.append(word)
        machine, facts, due_at = to_tell(machine, NOW, LEAD_SECONDS)
        assert due_at is None, "all of these are near"
        told += facts
    losses = [one for one in told if isinstance(one, events.MachineLost)]
    ends = [
        moment(one.terminates_at) for one in told if isinstance(one, events.InterruptionNoticed) and one.notice_seconds
    ]
    assert len(losses) <= 1
    assert all((one - next_).total_seconds() > EARLIER_SECONDS for one, next_ in pairwise(ends))
    if losses:
        assert told[-1] == losses[0]
    earliest = min((moment(one.terminates_at) for one, _ in said if _has_end(one)), default=None)
    if ends and earliest is not None and LOST not in [one for one, _ in said]:
        assert (ends[-1] - earliest).total_seconds() <= EARLIER_SECONDS


def _has_end(word: Fact) -> bool:
    return isinstance(word, events.InterruptionNoticed) and bool(word.notice_seconds)
