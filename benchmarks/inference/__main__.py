"""Inference's figures: `make bench NAME=inference`, or some of them with ARGS="engines endurance".

`engines` compares the embedded engine with its peers; the other parts ask the whole system from outside.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from benchmarks.figures import Figure, print_report
from benchmarks.inference import endurance, engines, hostile, overhead, waking
from benchmarks.inference.system import System, running

STACK = {"SSKAI_PATIENCE_SECONDS": "2"}


@dataclass(frozen=True, slots=True)
class Part:
    """One that asks a stack, with its settings."""

    options: Callable[[argparse.ArgumentParser], None]
    figures: Callable[[System, argparse.Namespace], Awaitable[list[Figure]]]
    settings: Mapping[str, str]


PARTS = {
    "overhead": Part(overhead.options, overhead.figures, STACK),
    "waking": Part(waking.options, waking.figures, waking.SETTINGS),
    "endurance": Part(endurance.options, endurance.figures, endurance.SETTINGS),
    "hostile": Part(hostile.options, hostile.figures, hostile.SETTINGS),
}


async def _ask(part: Part, system: System, given: argparse.Namespace) -> list[Figure]:
    return await part.figures(system, given)


def main() -> None:
    known = ("engines", *PARTS)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(known)}; all if none is named")
    engines.options(parser)
    for part in PARTS.values():
        part.options(parser)
    given = parser.parse_args()
    wanted = given.parts or known
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(known)}")
    found: list[Figure] = []
    if "engines" in wanted:
        found += asyncio.run(engines.figures(given))
    for name, part in PARTS.items():
        if name in wanted:
            with running(**part.settings) as system:
                found += asyncio.run(_ask(part, system, given))
    print_report("inference", found, model=given.model.name)


if __name__ == "__main__":
    main()
