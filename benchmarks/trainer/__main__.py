"""The trainer's figures: `make bench NAME=trainer`, or some of them with ARGS="stalls kills"."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.figures import Figure, print_report
from benchmarks.trainer import kills, notices, stalls, throughput, workers

# Each part adds its own options (sizes, above all) and is measured with the parsed ones.
PARTS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], list[Figure]]]] = {
    "stalls": (stalls.options, stalls.figures),
    "kills": (kills.options, kills.figures),
    "notices": (notices.options, notices.figures),
    "throughput": (throughput.options, throughput.figures),
    "workers": (workers.options, workers.figures),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    for options, _ in PARTS.values():
        options(parser)
    arguments = parser.parse_args()
    wanted = arguments.parts or list(PARTS)
    unknown = sorted(set(wanted) - PARTS.keys())
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    print_report("trainer", [one for part in wanted for one in PARTS[part][1](arguments)])


if __name__ == "__main__":
    main()
