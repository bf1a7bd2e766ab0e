"""What the monitor does in a second, whether its ledger balances, and how soon it sees drift. Prints one JSON object.

`make bench NAME=monitor [ARGS="--minutes 10"]`: its own PostgreSQL (durable settings) on loopback, the app called in
process. `spans.py`, `ledger.py` and `monitor_drift.py` say how each is measured; each runs alone, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from benchmarks import ledger, monitor_drift, spans
from sskai.local.postgres import Postgres


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.5)
    arguments = parser.parse_args()
    with Postgres.start(durable=True) as server:
        figures, more = asyncio.run(spans.measure(server, arguments.minutes))
        more["ledger"] = asyncio.run(ledger.measure(server.url))
    print(json.dumps({"benchmark": "monitor", "figures": figures, **more, "drift": monitor_drift.report()}, indent=2))


if __name__ == "__main__":
    main()
