"""R15: the recorded histories of every release, and the release before beside this one while jobs run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET  # of a file that our own test run writes
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import ROOT

LIMIT_SECONDS = 3600
TESTS = (
    ("R15 histories that make another state today", "tests/rebuilding/test_histories.py"),
    ("R15 errors and losses while each service is replaced and put back", "tests/real/test_previous_release.py"),
)


def measure() -> tuple[list[Figure], dict[str, Any]]:
    """Raises RuntimeError where the tests could not run (no git history, say): nothing was shown then."""
    figures, more = [], {}
    for name, file in TESTS:
        began = time.monotonic()
        counts = _counts(file)
        if counts["skipped"] or not counts["tests"]:
            raise RuntimeError(f"{file} ran {counts}: see `{sys.executable} -m pytest {file} -m '' -rs`")
        how = f"{counts['tests']} tests of {file}"
        figures.append(figure(name, counts["failures"] + counts["errors"], "tests", 0, "equal", how=how))
        more[file] = counts | {"seconds": round(time.monotonic() - began, 1)}
    return figures, more


def _counts(file: str) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="sskai-upgrade-") as folder:
        report = Path(folder) / "report.xml"
        # Its own output goes where progress goes; `-m ""`: the heavy and the real ones as well.
        command = [sys.executable, "-m", "pytest", file, "-m", "", "-q", f"--junitxml={report}"]
        subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False, timeout=LIMIT_SECONDS)
        suites = ET.parse(report).getroot().iter("testsuite")
        counted = [
            {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")} for suite in suites
        ]
    return {key: sum(one[key] for one in counted) for key in counted[0]}
