"""The monitor's figures: `make bench NAME=monitor`, or some of them with ARGS="spans ledger drift".

`spans` and `ledger` have a PostgreSQL of their own (durable settings) on loopback; drift is computed in this process.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from benchmarks.figures import Figure, print_report
from benchmarks.monitor import drift, ledger, spans
from sskai.local.postgres import Postgres

PARTS = ("spans", "ledger", "drift")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--minutes", type=float, default=0.5, help="of spans; the goal of memory is meant for 10")
    parser.add_argument("--jobs", type=int, default=ledger.JOBS)
    given = parser.parse_args()
    wanted = given.parts or PARTS
    if unknown := sorted(set(wanted) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    figures: list[Figure] = []
    more: dict[str, Any] = {}
    if {"spans", "ledger"} & set(wanted):
        with Postgres.start(durable=True) as server:
            if "spans" in wanted:
                found, more["spans"] = asyncio.run(spans.measure(server, given.minutes))
                figures += found
            if "ledger" in wanted:
                more["ledger"] = asyncio.run(ledger.measure(server.url, given.jobs))
                figures += ledger.figures(more["ledger"])
    if "drift" in wanted:
        more["drift"] = drift.report()
        figures += drift.figures(more["drift"])
    print_report("monitor", figures, **more)


if __name__ == "__main__":
    main()
