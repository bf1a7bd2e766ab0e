"""A few seeds of the whole system, and what makes a seed worth having: the same one is the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Crashes, a market that takes machines, lost answers, two schedulers, clocks that differ; some of them are calm.
QUICK = "1..3"


def simulated(seeds: str, *more: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "simulation", "--seeds", seeds, "--json", *more]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_no_invariant_is_violated_and_the_same_seed_is_the_same_run() -> None:
    """By another process, too."""
    found, again = simulated(QUICK), simulated("1..1")
    assert [one["violations"] for one in found] == [[]] * len(found)
    assert found[0]["sha256"] == again[0]["sha256"]
    assert len({one["sha256"] for one in found}) == len(found)
    assert sum(sum(one["ends"].values()) for one in found) > 0


@pytest.mark.heavy
@pytest.mark.timeout(14_400)
def test_no_invariant_is_violated_in_500_seeds() -> None:
    found = simulated("1..500", "--workers", "2")
    assert len(found) == 500
    assert {one["seed"]: one["violations"] for one in found if one["violations"]} == {}
