"""`sskai lab simulate`: the whole of SSKAI in one process, on a simulated clock, from one seed."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, help=__doc__)


@app.command()
def simulate(
    seed: Annotated[int, typer.Option(help="Replay this one, with its timeline.")] = 1,
    seeds: Annotated[str | None, typer.Option(help="Run N..M instead, a line each.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes for --seeds; each has a server.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Exit code 1: an invariant was violated; it is printed with its seed."""
    from simulation import running

    if seeds is not None:
        raise typer.Exit(running.many(running.range_of(seeds), as_json=as_json, workers=workers))
    raise typer.Exit(running.one(seed, as_json=as_json))


def main(arguments: list[str] | None = None) -> Any:
    """Python draws the hashes of texts anew for each process, unless it is told not to; sets are ordered by them."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "simulation", *(sys.argv[1:] if arguments is None else arguments)]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606
    return app(arguments)


if __name__ == "__main__":
    main()
