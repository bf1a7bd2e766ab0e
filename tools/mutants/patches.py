"""Seeded bugs as files: a head that says what is broken and who must notice, then a unified diff. No I/O but reading.

What is wrong now, and where that has happened.

Breaks: I2, R4
Seen in: F7 aiokafka #844                       (if it was)
Tests: tests/chassis/test_delivery.py::test_an_event_delivered_twice_is_handled_once
    tests/...                                   (as many as are needed, one a line; quick ones)

--- a/sskai/delivery.py
+++ b/sskai/delivery.py
@@ ...
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "mutants"
# Failures of others, invariants, goals (docs/reliability.md) and security (docs/security.md).
RULE = re.compile(r"[FIRS]\d+")
_FIELD = re.compile(r"(Breaks|Seen in|Tests): *(.*)")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class PatchError(ValueError):
    """A patch file is not what it should be, or does not fit the tree; the text says how."""


@dataclass(frozen=True, slots=True)
class Change:
    """Lines of one file (with their context), and what stands there instead."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One seeded bug. `tests`: node ids of pytest, one of which must fail."""

    name: str
    about: str
    breaks: tuple[str, ...]
    seen_in: str
    tests: tuple[str, ...]
    changes: tuple[Change, ...]

    def mutated(self, root: Path) -> Mapping[Path, str]:
        """The changed files of a tree, by path, with their new text; nothing is written.

        A place is found by its lines, wherever in the file they stand by now. Raises PatchError unless they stand
        there exactly once.
        """
        texts: dict[Path, str] = {}
        for change in self.changes:
            path = root / change.path
            if not path.is_file():
                raise PatchError(f"{self.name}: there is no {change.path}")
            text = "\n" + texts.get(path, path.read_text())
            found = text.count("\n" + change.old)
            if found != 1:
                raise PatchError(f"{self.name}: its lines stand {found} times in {change.path}")
            texts[path] = text.replace("\n" + change.old, "\n" + change.new)[1:]
        return texts


def read_all(folder: Path = FOLDER) -> list[Mutant]:
    """Every seeded bug, in the order of their numbers. Raises PatchError."""
    return [read(path) for path in sorted(folder.glob("*.patch"))]


def read(path: Path) -> Mutant:
    """Raises PatchError."""
    return parse(path.stem, path.read_text())


def parse(name: str, text: str) -> Mutant:
    """A patch file's text. Raises PatchError."""
    head, separator, diff = text.partition("\n--- a/")
    if not separator:
        raise PatchError(f"{name}: no diff")
    about, _, rest = head.strip().partition("\n\n")
    fields = _fields(name, rest)
    for wanted in ("Breaks", "Tests"):
        if not fields.get(wanted):
            raise PatchError(f"{name}: says nothing under {wanted}:")
    breaks = tuple(fields["Breaks"].replace(",", " ").split())
    if wrong := [one for one in breaks if not RULE.fullmatch(one)]:
        raise PatchError(f"{name}: {wrong[0]!r} is no number of an invariant or goal")
    tests = tuple(fields["Tests"].splitlines())
    changes = tuple(_changes(name, "--- a/" + diff))
    seen_in = " ".join(fields.get("Seen in", "").split())
    return Mutant(name, " ".join(about.split()), breaks, seen_in, tests, changes)


def _fields(name: str, text: str) -> dict[str, str]:
    """A field goes on in lines that are indented."""
    fields: dict[str, str] = {}
    field = ""
    for line in text.splitlines():
        if match := _FIELD.fullmatch(line):
            field = match[1]
            fields[field] = match[2]
        elif line.startswith(" ") and field:
            fields[field] += "\n" + line.strip()
        elif line:
            raise PatchError(f"{name}: {line!r} belongs to no field")
    return fields


def _changes(name: str, diff: str) -> Iterator[Change]:
    path, lines = "", diff.splitlines()
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if line.startswith("--- a/"):
            path = line.removeprefix("--- a/")
            if place == len(lines) or lines[place] != f"+++ b/{path}":
                raise PatchError(f"{name}: after --- a/{path} comes no +++ b/{path}")
            place += 1
        elif match := _HUNK.match(line):
            counts = [int(count or 1) for count in match.groups()]
            hunk: list[str] = []
            while place < len(lines) and lines[place][:1] in (" ", "-", "+", ""):
                old = sum(not one.startswith("+") for one in hunk)
                new = sum(not one.startswith("-") for one in hunk)
                if [old, new] == counts:
                    break
                hunk.append(lines[place] or " ")
                place += 1
            change = Change(path, _side(hunk, "+"), _side(hunk, "-"))
            if [change.old.count("\n"), change.new.count("\n")] != counts or change.old == change.new:
                raise PatchError(f"{name}: {line} is not followed by so many lines")
            yield change
        elif line:
            raise PatchError(f"{name}: {line!r} is no part of a diff")


def _side(hunk: list[str], others: str) -> str:
    return "".join(line[1:] + "\n" for line in hunk if not line.startswith(others))
