"""What reliability is claimed (R1 to R15): `make bench NAME=reliability`, or some parts with ARGS="poison overload".

simulation  R2, R4, R9, R14: seeds of the deterministic simulation
cells       R3: the crash matrix
poison      R11: records that nobody of ours wrote
overload    R12: ten times the load
others      R6, R7, R8, R10: what further benchmarks measure, run by this one
soak        R1, R5, R13: the chaos of real processes
upgrade     R15: recorded histories, and the release before beside this one
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figure, print_report
from benchmarks.reliability import cells, others, overload, poison, simulation, soak, upgrade

Part = Callable[[argparse.Namespace], tuple[list[Figure], dict[str, Any]]]
PARTS: dict[str, Part] = {
    "simulation": lambda given: simulation.measure(given.seeds, given.workers),
    "cells": lambda _given: cells.measure(),
    "poison": lambda _given: poison.measure(),
    "overload": lambda given: overload.measure(given.seconds),
    "others": lambda given: others.measure(given.faults),
    "soak": lambda given: soak.measure(given.soak_seconds, given.rounds),
    "upgrade": lambda _given: upgrade.measure(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--seeds", type=int, default=200, help="of the simulation; the goal is meant for 10,000")
    parser.add_argument("--workers", type=int, default=2, help="processes of the simulation")
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    parser.add_argument("--soak-seconds", type=float, default=1800, help="of chaos")
    parser.add_argument("--rounds", type=int, default=2, help="of each part dying alone, after the chaos")
    parser.add_argument("--faults", type=int, default=500, help="of what further benchmarks do to a scheduler")
    given = parser.parse_args()
    if unknown := sorted(set(given.parts) - PARTS.keys()):
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    figures: list[Figure] = []
    more: dict[str, Any] = {}
    for name in given.parts or PARTS:
        found, more[name] = PARTS[name](given)
        figures += found
    print_report("reliability", figures, **more)


if __name__ == "__main__":
    main()
