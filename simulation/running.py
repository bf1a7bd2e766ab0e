"""Seeds one after the other, in as many processes as wanted, and what is printed of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from simulation import globals as simulated
from simulation import processes
from simulation.postgres import Server
from simulation.run import Result, run
from simulation.trace import Entry, Trace


@contextmanager
def ready() -> Iterator[Server]:
    """A server with empty schemas, and the services' code on simulated parts."""
    server = Server.start()
    try:
        with processes.simulated_parts(server):
            simulated.install()
            yield server
    finally:
        server.stop()


def range_of(text: str) -> range:
    """`3..7` or `5`. Raises ValueError."""
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def one(seed: int, *, as_json: bool) -> int:
    """The exit code."""
    with ready() as server:
        result = run(seed, server, Trace(keep=True) if as_json else Trace(keep=True, show=show))
    if as_json:
        timeline = [[round(e.seconds, 6), e.actor, e.kind, e.text] for e in result.entries]
        print(json.dumps(result.document() | {"timeline": timeline}, indent=1))
    else:
        print(line(result.document()))
        for text in result.violations:
            print(text)
    return 1 if result.violations else 0


def many(seeds: range, *, as_json: bool, workers: int = 1) -> int:
    """The exit code. Each seed is told as soon as it is over."""
    documents = []
    for document in _in_processes(seeds, workers) if workers > 1 else map(Result.document, _here(seeds)):
        documents.append(document)
        if not as_json:
            print(line(document), flush=True)
        for text in document["violations"]:
            print(f"seed {document['seed']}: {text}", file=sys.stderr, flush=True)
    if as_json:
        for document in documents:
            print(json.dumps(document))
    return 1 if any(document["violations"] for document in documents) else 0


def _here(seeds: Iterable[int]) -> Iterator[Result]:
    with ready() as server:
        for seed in seeds:
            yield run(seed, server)


def _in_processes(seeds: range, workers: int) -> Iterator[dict[str, Any]]:
    """Each process has a server of its own, and every so-manieth seed. Documents come process by process."""
    size = -(-len(seeds) // workers)
    shares = [seeds[begin : begin + size] for begin in range(0, len(seeds), size)]
    running = []
    for share in shares:
        command = [sys.executable, "-m", "simulation", "--seeds", f"{share[0]}..{share[-1]}", "--json"]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
    for process in running:
        told, _ = process.communicate()
        if process.returncode not in (0, 1):
            raise RuntimeError(f"{' '.join(process.args)} ended with {process.returncode}")  # type: ignore[arg-type]
        yield from map(json.loads, told.splitlines())


def line(document: dict[str, Any]) -> str:
    """Of one seed."""
    ends = ", ".join(f"{count} {end}" for end, count in sorted(document["ends"].items()))
    return (
        f"seed {document['seed']:6d}  {document['sha256'][:12]}  {document['simulated_seconds']:6.0f} s simulated in "
        f"{document['seconds']:6.2f} s, {document['events']:4d} events, {document['statements']:6d} statements; {ends}"
        f"{'  VIOLATED' if document['violations'] else ''}"
    )


def show(entry: Entry) -> None:
    """A line of the timeline."""
    print(f"{entry.seconds:10.3f}  {entry.actor:26.26}  {entry.kind:13.13}  {entry.text[:200]}", flush=True)
