"""Runs tests on copies of the tree: one as it stands, and one for each seeded bug."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from tools.mutants.patches import ROOT, Mutant, PatchError

# What a copy needs not: what was built or cached, but for compiled code. The environment is the one that runs us.
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".*_cache", ".cache", ".hypothesis", "node_modules", "dist", "build", "*.egg-info"
)
LIMIT_SECONDS = 300.0
STOP_SECONDS = 10.0
# https://docs.pytest.org/en/stable/reference/exit-codes.html
PASSED, FAILED = 0, 1


class Outcome(StrEnum):
    CAUGHT = "caught"
    SURVIVED = "survived"  # all its tests passed
    MISFIT = "does not apply"
    TOO_LATE = "no end in time"
    NOT_RUN = "tests did not run"  # none failed, but one could not begin: that says nothing about the bug


@dataclass(frozen=True, slots=True)
class Verdict:
    """`caught_by`: the first test that failed; `detail`: its words, or what went wrong."""

    name: str
    outcome: Outcome
    seconds: float
    caught_by: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tested:
    """What a run of pytest said. `failed`: node ids with the first line of each failure. `code` None: stopped."""

    code: int | None
    failed: dict[str, str]
    output: str


@contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """A copy of the tree, deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(root, tree, ignore=LEFT_OUT, symlinks=True)
        with suppress(FileNotFoundError):
            (tree / ".venv").symlink_to((root / ".venv").resolve(strict=True))
        yield tree


def test(tree: Path, tests: Sequence[str], limit_seconds: float, *options: str) -> Tested:
    """Run these tests in a tree; whatever they started ends with them."""
    report = tree / "mutant-report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *options, *tests]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    # Compiled once: copies of this tree take the compiled code along, which is valid by its source's time and size.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    code: int | None = None
    try:
        output, _ = process.communicate(timeout=limit_seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        # A test that is interrupted takes its broker and database down by itself.
        process.send_signal(signal.SIGINT)
        try:
            output, _ = process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            output = ""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Tested(code, _failures(report), output)


def _failures(report: Path) -> dict[str, str]:
    """Of tests that ran: a fixture that broke, or a file that could not be read, is no failure of a test."""
    if not report.exists():
        return {}
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 (pytest wrote it a moment ago)
        failure = case.find("failure")
        if failure is not None:
            path = case.get("classname", "").replace(".", "/") + ".py"
            found[f"{path}::{case.get('name')}"] = failure.get("message", "").partition("\n")[0]
    return found


def without_bugs(tree: Path, mutants: Sequence[Mutant], limit_seconds: float) -> Tested:
    """All their tests on the tree as it stands, each once."""
    tests = dict.fromkeys(one for mutant in mutants for one in mutant.tests)
    return test(tree, list(tests), limit_seconds * len(mutants))


def verdict(tree: Path, mutant: Mutant, limit_seconds: float) -> Verdict:
    """Put the bug into a copy of the tree, and see whether one of its tests fails."""
    begun = time.monotonic()
    with copied(tree) as mutated:
        try:
            for path, text in mutant.mutated(mutated).items():
                path.write_text(text)
        except PatchError as error:
            return Verdict(mutant.name, Outcome.MISFIT, 0.0, detail=str(error))
        tested = test(mutated, mutant.tests, limit_seconds, "-x")
    seconds = time.monotonic() - begun
    if tested.failed and tested.code == FAILED:
        caught_by, detail = next(iter(tested.failed.items()))
        return Verdict(mutant.name, Outcome.CAUGHT, seconds, caught_by, detail)
    if tested.code is None:
        return Verdict(mutant.name, Outcome.TOO_LATE, seconds, detail=f"stopped after {limit_seconds:.0f} s")
    if tested.code == PASSED:
        return Verdict(mutant.name, Outcome.SURVIVED, seconds)
    return Verdict(mutant.name, Outcome.NOT_RUN, seconds, detail=tested.output[-2000:])
