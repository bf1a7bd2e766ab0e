"""The gateway's figures: `make bench NAME=gateway`, or some of them with ARGS="submit streams upload overview pages".

The gateway is a process of its own with a PostgreSQL that syncs, a broker and an object store on loopback; the load
comes from other processes of the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from benchmarks.figures import Figure, print_report
from benchmarks.gateway import overview, pages, streams, submit, upload
from benchmarks.gateway.house import parts

PARTS = ("submit", "streams", "upload", "overview", "pages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=60, help="of submit and streams")
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--gigabytes", type=float, default=2, help="of upload")
    given = parser.parse_args()
    wanted = given.parts or PARTS
    if unknown := sorted(set(wanted) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    figures: list[Figure] = []
    more: dict[str, Any] = {}
    with parts() as around:
        if "submit" in wanted:
            more["submit"] = submit.measure(around, 50, given.seconds)
            figures += submit.figures(more["submit"])
        if "streams" in wanted:
            more["streams"] = streams.measure(around, given.streams, 100, given.seconds)
            figures += streams.figures(more["streams"])
        if "upload" in wanted:
            more["upload"] = upload.measure(around, given.gigabytes)
            figures += upload.figures(more["upload"])
        if "overview" in wanted:
            figures += asyncio.run(overview.measure(around.database_url))
        if "pages" in wanted:
            figures += asyncio.run(pages.measure(around.database_url))
    print_report("gateway", figures, **more)


if __name__ == "__main__":
    main()
