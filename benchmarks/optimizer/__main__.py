"""The optimizer's figures: `make bench NAME=optimizer`, or some of them with ARGS="memory steps savings speed"."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from benchmarks.figures import Figure, print_report
from benchmarks.optimizer import memory, savings, speed, steps

THREADS = min(os.cpu_count() or 1, 2)
PARTS: dict[str, Callable[[], list[Figure]]] = {
    "speed": lambda: speed.figures(savings.profiles()),
    "savings": lambda: savings.figures(savings.profiles()),
    "memory": lambda: memory.figures(THREADS),
    "steps": lambda: steps.figures(THREADS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    wanted = parser.parse_args().parts or list(PARTS)
    unknown = sorted(set(wanted) - PARTS.keys())
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    print_report("optimizer", [one for part in wanted for one in PARTS[part]()])


if __name__ == "__main__":
    main()
