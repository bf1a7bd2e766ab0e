"""The optimizer's figures: `make bench NAME=optimizer`, or some of them with ARGS="memory steps savings speed"."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable

import psutil

from benchmarks.optimizer import memory, savings, speed, steps
from benchmarks.optimizer.figures import Figure

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
    report = {
        "benchmark": "optimizer",
        "figures": [one for part in wanted for one in PARTS[part]()],
        "machine": {
            "cpus": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "platform": platform.platform(),
            "python": platform.python_version(),
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
