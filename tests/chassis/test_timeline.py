"""The Gantt of a job: its layout by tables, what fits a terminal, and pictures that can be opened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sskai import timeline, timeline_picture
from sskai.timeline import Chart, Lane, Point, Series, Span
from tests.chassis.timeline_documents import AZ1, AZ2, attempt, iso
from tests.chassis.timeline_documents import timeline as document

EMPTY = document(attempts=[], events=[], prices=[], waits=[], deadline=None, point_of_no_return=None, on_demand_usd=0)


def chart(**changes: Any) -> Chart:
    return timeline.read(document(**changes))


def lane(*phases: Span, points: tuple[Point, ...] = ()) -> Lane:
    return Lane(1, "spot", "use1-az1", phases[0].start, phases[-1].end, phases, points, "")


TEN = timeline.read({**EMPTY, "until": iso(10 / 3600)})  # ten seconds, so that ten cells are one each


@pytest.mark.parametrize(
    ("one", "cells"),
    [
        (lane(Span(0, 1.9, "starting"), Span(2, 7.9, "training")), "░░██████  "),
        (lane(Span(0, 4.9, "training"), Span(5, 9, "saving")), "█████▒▒▒▒▒"),
        (lane(Span(2, 8, "training"), points=(Point(4, "●"), Point(8, "▼"))), "  ██●███▼ "),
        (lane(Span(0, 9, "training"), points=(Point(5, "●"), Point(5, "▼"))), "█████▼████"),
        (lane(Span(0, 6, "training"), points=(Point(6, "▼"), Point(6.4, "✗"))), "██████▼✗  "),
        # Checkpoints side by side would hide the bar; the one that answers a notice is drawn all the same.
        (lane(Span(0, 9, "training"), points=tuple(Point(at, "●", False) for at in range(9))), "●██●██●███"),
        (lane(Span(0, 9, "training"), points=(Point(4, "●", False), Point(5, "●"))), "████●●████"),
        # What began before the submission as we know it, or is longer than the axis, stays inside.
        (lane(Span(-5, 99, "training")), "██████████"),
    ],
)
def test_a_lane_is_one_character_a_cell(one: Lane, cells: str) -> None:
    assert timeline.lane_cells(one, TEN, 10) == cells


@pytest.mark.parametrize(
    ("points", "cells"),
    [
        (((0, 1.0), (5, 8.0)), "▁▁▁▁██████"),
        (((3, 1.0), (6, 2.0), (8, 1.5)), "  ▁▁▁██▅▅▅"),
    ],
)
def test_prices_are_drawn_in_eighths(points: tuple[tuple[float, float], ...], cells: str) -> None:
    assert timeline.spark(Series(AZ1, "spot", points, 1.0), TEN, 10) == cells


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (40, "40s"),
        (60, "1m"),
        (95, "1m35s"),
        (3600, "1h"),
        (5400, "1h30m"),
        (187_200, "2d4h"),
        (86_400 * 9, "9d"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert timeline.duration(seconds) == text


@pytest.mark.parametrize(("end", "ticks", "step"), [(10, 5, 2), (3600, 6, 600), (50_400, 10, 7200), (1e9, 10, 1e9)])
def test_ticks_are_round(end: float, ticks: int, step: float) -> None:
    assert timeline.tick_seconds(end, ticks) == step


@pytest.mark.parametrize(
    ("changes", "drawn"),
    [({}, True), ({"deadline": iso(100)}, False), ({"deadline": iso(9)}, True), ({"deadline": None}, False)],
)
def test_a_deadline_is_drawn_unless_it_is_far_away(changes: dict[str, Any], drawn: bool) -> None:
    read = chart(**changes)
    assert (read.deadline_drawn is not None) == drawn
    assert ("┊" in timeline.axis(read, 60)[1]) == drawn


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "deadline after 14h: 3h30m left"),
        ({"deadline": iso(9)}, "deadline after 9h: passed 1h30m ago"),
        ({"state": "succeeded"}, "deadline after 14h: met with 3h30m to spare"),
        ({"state": "failed", "deadline": iso(10)}, "deadline after 10h: missed by 30m"),
    ],
)
def test_the_headline_says_how_the_deadline_stands(changes: dict[str, Any], said: str) -> None:
    first, second = timeline.headline(chart(**changes))
    assert first.startswith("support-bot (job_01jdq3m8)")
    assert "3 attempts, 2 interruptions, 4.21 USD, 9.37 on demand" in first
    assert second == said


@pytest.mark.parametrize(
    ("outcome", "reason", "interruptions"),
    [
        ("drained", "spot-interrupted", 1),
        ("lost", "spot-interrupted", 1),
        ("lost", "machine-lost", 1),
        ("lost", "", 1),
        ("drained", "deadline-at-risk", 0),
        ("drained", "budget-exhausted", 0),
        ("finished", "out-of-memory", 0),
        ("running", "", 0),
    ],
)
def test_an_interruption_is_what_the_market_did(outcome: str, reason: str, interruptions: int) -> None:
    one = attempt(1, AZ1, 0.4, 3.5, outcome=outcome, reason=reason)
    assert chart(attempts=[one]).interruptions == interruptions


def test_what_is_waited_for_is_summed_by_rule() -> None:
    assert list(timeline.waits_by_rule(chart().waits)) == ["waiting-for-spot", "no-capacity", "no machine yet"]


def printed(width: int, **changes: Any) -> list[str]:
    console = Console(width=width, no_color=True, force_terminal=False)
    with console.capture() as captured:
        console.print(timeline.draw(document(**changes), width))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120, 200])
def test_the_terminal_is_wide_enough_for_every_line(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    bars = [line for line in lines if line.startswith("#") and "█" in line]
    assert len(bars) == 3
    text = "\n".join(lines)
    for mark in ("●", "▼", "✗", "·", "┊", "▁"):
        assert mark in text
    assert "".join("".join(lines).split()).count("steps348to560,40lost") == 1


def test_without_colour_spot_and_on_demand_are_told_apart_by_words() -> None:
    lines = printed(120)
    assert any(line.startswith("#1 spot use1-az1") for line in lines)
    assert any(line.startswith("#3 on-demand us-east-1") for line in lines)


def test_a_job_that_never_started_has_a_timeline() -> None:
    lines = printed(80, **EMPTY)
    assert "0 attempts, 0 interruptions" in lines[0] + lines[1]


def test_of_hundreds_of_attempts_the_newest_are_drawn() -> None:
    many = [attempt(n, AZ1 if n % 2 else AZ2, n * 0.05, n * 0.05 + 0.04) for n in range(1, 200)]
    lines = printed(100, attempts=many)
    numbers = [int(line.split()[0][1:]) for line in lines if line.startswith("#")]
    assert numbers == list(range(180, 200))
    assert "and 179 attempts before these" in lines


@pytest.mark.parametrize("content", [document(), EMPTY, document(state="succeeded", deadline=iso(9))])
def test_pictures_can_be_opened_and_are_the_same_each_time(tmp_path: Path, content: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")
    for name, begins in (("job.png", b"\x89PNG\r\n"), ("job.svg", b"<?xml")):
        timeline_picture.save(content, tmp_path / name)
        first = (tmp_path / name).read_bytes()
        assert first.startswith(begins)
        timeline_picture.save(content, tmp_path / name)
        assert (tmp_path / name).read_bytes() == first


def test_a_picture_that_cannot_be_made_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"should end in \.png or \.svg"):
        timeline_picture.save(document(), tmp_path / "job.jpeg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(timeline_picture.NoMatplotlibError, match=r"pip install 'sskai\[lab\]'"):
        timeline_picture.save(document(), tmp_path / "job.png")
