"""Each seeded bug fits the code as it stands, and each is caught by the test that it names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tools.mutants import __main__ as program
from tools.mutants import running
from tools.mutants.patches import ROOT, Mutant, PatchError, parse, read_all
from tools.mutants.running import Outcome

MUTANTS = read_all()
LEAST = 25  # shared goal of this folder: fewer would prove little


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len(MUTANTS) >= LEAST
    same = Counter(mutant.changes for mutant in MUTANTS)
    assert [changes for changes, times in same.items() if times > 1] == []
    numbers = [int(mutant.name.partition("-")[0]) for mutant in MUTANTS]
    assert numbers == list(range(1, len(MUTANTS) + 1))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_fits_the_code_and_changes_nothing_but_that(mutant: Mutant) -> None:
    changed = [path.relative_to(ROOT) for path in mutant.mutated(ROOT)]
    assert {path.parts[0] for path in changed} <= {"services", "sskai"}
    assert mutant.about


def test_each_bug_is_whole_code(tmp_path: Path) -> None:
    """Nothing but the bug itself may make a test fail: no name that is not there, no line that does not parse."""
    for mutant in MUTANTS:
        for path, text in mutant.mutated(ROOT).items():
            copy = tmp_path / mutant.name / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    checked = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "E9,F821,F822,F823"]
    done = subprocess.run([*checked, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_that_are_named_are_there() -> None:
    missing = [f"{mutant.name}: {test}" for mutant in MUTANTS for test in mutant.tests if not exists(test)]
    assert missing == []
    assert not exists("tests/mutants/test_mutants.py::test_that_is_not_there")
    assert not exists("tests/mutants/not_there.py::test_the_tests_that_are_named_are_there")


def exists(node_id: str) -> bool:
    """Whether there is such a test; of one with parameters, its function."""
    name, *parts = node_id.partition("[")[0].split("::")
    path = ROOT / name
    if not path.is_file() or not name.startswith("tests/") or len(parts) != 1:
        return False
    functions = (
        one for one in ast.parse(path.read_text()).body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return parts[0] in {one.name for one in functions}


def test_what_is_broken_is_explained() -> None:
    rows = "".join((ROOT / "docs" / name).read_text() for name in ("reliability.md", "security.md"))
    known = set(re.findall(r"^\| ([FIRS]\d+) ", rows, re.MULTILINE))
    named = {one for mutant in MUTANTS for one in (*mutant.breaks, *re.findall(r"\bF\d+\b", mutant.seen_in))}
    assert named <= known


GOOD = """\
Nothing is added any more.

Breaks: I1
Tests: test_sum.py::test_sum

--- a/sum.py
+++ b/sum.py
@@ -1,2 +1,2 @@
 def add(one: int, two: int) -> int:
-    return one + two
+    return one
"""
TESTS = """\
import pytest
import sum

@pytest.fixture
def part():
    assert sum.add(1, 1) == 2

def test_sum():
    while sum.add(1, 1) == 99:
        pass
    assert sum.add(1, 2) == 3

def test_other():
    assert sum.add(3, 0) == 3

def test_with_part(part):
    pass
"""


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"Tests: ": "Tests: test_sum.py::test_other\n    "}, Outcome.CAUGHT),
        ({"test_sum.py::test_sum": "test_sum.py::test_other"}, Outcome.SURVIVED),
        ({"test_sum.py::test_sum": "test_sum.py::test_with_part"}, Outcome.NOT_RUN),
        ({"+    return one": "+    return 99"}, Outcome.TOO_LATE),
        ({"one: int, two": "one: int, three"}, Outcome.MISFIT),
    ],
)
def test_what_becomes_of_a_bug(tmp_path: Path, change: dict[str, str], outcome: Outcome) -> None:
    (tmp_path / "sum.py").write_text("def add(one: int, two: int) -> int:\n    return one + two\n")
    (tmp_path / "test_sum.py").write_text(TESTS)
    text = GOOD
    for old, new in change.items():
        text = text.replace(old, new)
    found = running.verdict(tmp_path, parse("01-sum", text), 3 if outcome is Outcome.TOO_LATE else 60)
    assert found.outcome is outcome, found.detail
    assert found.caught_by == ("test_sum.py::test_sum" if outcome is Outcome.CAUGHT else "")
    assert (tmp_path / "sum.py").read_text().endswith("one + two\n"), "the tree itself is left alone"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Breaks: I1", "Breaks:", "says nothing under Breaks"),
        ("Breaks: I1", "Breaks: X1", "'X1' is no number"),
        ("Tests: test_sum.py::test_sum\n", "", "says nothing under Tests"),
        ("Tests:", "Test:", "belongs to no field"),
        ("+++ b/sum.py", "+++ b/other.py", "after --- a/sum.py"),
        ("-1,2 +1,2", "-1,3 +1,2", "not followed by so many lines"),
        ("+    return one", "+    return one + two", "not followed by so many lines"),
        ("--- a/sum.py", "--- sum.py", "no diff"),
        ("@@ -1,2", "@ -1,2", "no part of a diff"),
    ],
)
def test_a_file_that_is_no_seeded_bug_is_refused(old: str, new: str, why: str) -> None:
    with pytest.raises(PatchError, match=re.escape(why)):
        parse("01-sum", GOOD.replace(old, new))


def test_bugs_are_chosen_by_parts_of_their_names() -> None:
    assert program.chosen(MUTANTS, []) == MUTANTS
    assert program.chosen(MUTANTS, ["01-", MUTANTS[3].name]) == [MUTANTS[0], MUTANTS[3]]
    with pytest.raises(PatchError, match="nobody"):
        program.chosen(MUTANTS, ["nobody"])


@pytest.mark.heavy
@pytest.mark.timeout(7200)
def test_every_seeded_bug_is_caught() -> None:
    assert program.main([]) == 0
