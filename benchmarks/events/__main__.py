"""The figures of the events' way: `make bench NAME=events`, or some of them with ARGS="hop saturation scaling".

Two services of the chassis with a broker and a PostgreSQL that syncs, all on this machine's processors. Each part has
fresh ones.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.events import hop, saturation
from benchmarks.events.parts import parts
from benchmarks.figures import Figure, print_report

PARTS = ("hop", "saturation", "scaling")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=60, help="of hop")
    parser.add_argument("--events", type=int, default=60_000, help="of saturation and scaling, for each process")
    given = parser.parse_args()
    wanted = given.parts or PARTS
    if unknown := sorted(set(wanted) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    figures: list[Figure] = []
    more: dict[str, Any] = {}
    if "hop" in wanted:
        with parts() as around:
            more["hop"] = hop.measure(around, 100, given.seconds)
        figures += hop.figures(more["hop"])
    if {"saturation", "scaling"} & set(wanted):
        with parts() as around:
            more["one"] = saturation.measure(around, 1, given.events)
            more["peers"] = saturation.peers(around, given.events)
        if "scaling" in wanted:
            with parts() as around:
                more["two"] = saturation.measure(around, 2, 2 * given.events)
        figures += saturation.figures(more["one"], more.get("two"), more["peers"])
    print_report("events", figures, **more)


if __name__ == "__main__":
    main()
