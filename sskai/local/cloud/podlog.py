"""A pod's log in pages, over its turning: a full file becomes `.1`, and a new one begins (`shim.py`).

A position is `INODE-OFFSET`: a file that was renamed meanwhile is found again by its inode.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 256 * 1024
WINDOW_BYTES = 1024 * 1024  # in which the last lines are looked for


@dataclass(frozen=True, slots=True)
class Page:
    lines: list[str]
    after: str
    truncated: bool


def read(log: Path, *, tail: int, after: str, ended: bool) -> Page:
    """The last lines, or those after a position. A line that is still being written is left to the next page, unless
    its pod has ended."""
    files = _files(log)
    if not files:
        return Page([], after, truncated=bool(after))
    if not after:
        return _last(files[-1], tail, ended=ended, older=len(files) > 1)
    inode, _, offset = after.partition("-")
    at = next((number for number, (known, _) in enumerate(files) if str(known) == inode), None)
    begin = int(offset) if at is not None else 0
    for number, (known, path) in enumerate(files[at or 0 :], start=at or 0):
        newest = number == len(files) - 1
        with path.open("rb") as file:
            file.seek(begin)
            piece = file.read(PAGE_BYTES)
        full = len(piece) == PAGE_BYTES
        whole = piece if (ended or not newest) and not full else _whole(piece, full=full)
        if whole or newest:
            return Page(_lines(whole), f"{known}-{begin + len(whole)}", truncated=at is None)
        begin = 0
    raise AssertionError("the newest file always answers")


def _last(found: tuple[int, Path], tail: int, *, ended: bool, older: bool) -> Page:
    inode, path = found
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - WINDOW_BYTES)
        file.seek(start)
        piece = file.read(size - start)
    whole = piece if ended else _whole(piece, full=size > WINDOW_BYTES)
    lines = _lines(whole)[start > 0 :]  # the first line of a window is a part of one
    cut = older or start > 0 or len(lines) > tail
    return Page(lines[-tail:], f"{inode}-{start + len(whole)}", truncated=cut)


def _whole(piece: bytes, *, full: bool) -> bytes:
    """Up to the last line's end; all of it where one line fills the page."""
    end = piece.rfind(b"\n") + 1
    return piece if full and not end else piece[:end]


def _lines(whole: bytes) -> list[str]:
    lines = whole.decode(errors="replace").split("\n")
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]


def _files(log: Path) -> list[tuple[int, Path]]:
    """The older file and the newer one, as far as they are there. It may turn between two looks: then once more."""
    for _ in range(3):
        try:
            newest = log.stat().st_ino
        except FileNotFoundError:
            return []
        older = log.with_name(log.name + ".1")
        found = [(older.stat().st_ino, older)] if older.exists() else []
        if log.exists() and log.stat().st_ino == newest:
            return [*found, (newest, log)]
    return []
