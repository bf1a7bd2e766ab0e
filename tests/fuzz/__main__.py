"""`python -m tests.fuzz TARGET --seconds 60`: look for inputs that break a promise. `all`: each target in turn.

What is found lies in tests/fuzz/corpus then, where `make test` tries it again. Exit code 1: something was found.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.running import once, search
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    parser.add_argument("--seed", type=int, default=None, help="of every draw (a new one)")
    parser.add_argument("--file", type=Path, help="try this one input, and nothing else")
    arguments = parser.parse_args()
    if arguments.file is not None:
        once(arguments.target, corpus.read(arguments.file))
        print("nothing found")
        return 0
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}", flush=True)
    names = list(TARGETS) if arguments.target == "all" else [arguments.target]
    return max([_search(name, arguments.seconds, seed) for name in names])


def _search(target: str, seconds: float, seed: int) -> int:
    began = time.monotonic()
    tried, finding = search(target, seconds, seed)
    print(f"{target}: {tried} inputs in {time.monotonic() - began:.1f} s", flush=True)
    if finding is None:
        return 0
    traceback.print_exception(finding.error)
    path = corpus.keep(target, finding.data)
    print(f"found: python -m tests.fuzz {target} --file {path.relative_to(Path.cwd())}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
