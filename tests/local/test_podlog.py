"""A pod's log in pages: each line once, over the turning of the file, and a line that is being written not yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from sskai.local.cloud import podlog
from sskai.local.cloud.podlog import Page, read


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "pod.log"


def add(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def follow(log: Path, page: Page, *, ended: bool = False) -> Page:
    return read(log, tail=3, after=page.after, ended=ended)


def test_the_last_lines_and_then_what_comes(log: Path) -> None:
    add(log, "1\n2\n3\n4\nhal")
    page = read(log, tail=3, after="", ended=False)
    assert (page.lines, page.truncated) == (["2", "3", "4"], True)
    page = follow(log, page)
    assert (page.lines, page.truncated) == ([], False)
    add(log, "f\r\n6\n")
    page = follow(log, page)
    assert page.lines == ["half", "6"]
    add(log, "last words")
    assert follow(log, page).lines == []
    assert follow(log, page, ended=True).lines == ["last words"]
    assert follow(log, follow(log, page, ended=True), ended=True).lines == []
    assert read(log, tail=2, after="", ended=True).lines == ["6", "last words"]


def test_a_log_that_turns_loses_and_repeats_nothing(log: Path) -> None:
    add(log, "1\n2\n")
    page = read(log, tail=9, after="", ended=False)
    add(log, "3\n")
    log.replace(log.with_name("pod.log.1"))
    add(log, "4\n")
    page = follow(log, page)
    assert page.lines == ["3"]
    page = follow(log, page)
    assert page.lines == ["4"]
    assert read(log, tail=9, after="", ended=False).truncated, "what is in the older file is left out"


def test_who_comes_after_two_turns_is_told_that_something_is_missing(log: Path) -> None:
    page = Page([], "1-5", truncated=False)
    add(log, "9\n")
    page = follow(log, page)
    assert (page.lines, page.truncated) == (["9"], True)
    assert read(log.with_name("none"), tail=1, after="", ended=False) == Page([], "", truncated=False)


def test_pages_are_bounded_and_end_with_a_line(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podlog, "PAGE_BYTES", 8)
    monkeypatch.setattr(podlog, "WINDOW_BYTES", 10)
    add(log, "123\n456\n789\nwithout any end")
    page = read(log, tail=9, after="", ended=True)
    assert (page.lines, page.truncated) == ([], True), "a line longer than the window"
    page = Page([], f"{log.stat().st_ino}-0", truncated=False)
    seen = []
    for _ in range(4):
        page = follow(log, page, ended=True)
        seen.append(page.lines)
    assert seen == [["123", "456"], ["789"], ["without "], ["any end"]]
