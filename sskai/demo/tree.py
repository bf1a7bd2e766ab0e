"""A trace as a tree with times. Long runs of alike spans are drawn once, with how many there were."""

from __future__ import annotations

from itertools import groupby

from rich.tree import Tree

from sskai.client import Json

MAX_LINES_PER_PARENT = 14


def draw(trace: Json) -> Tree:
    """`trace` is the monitor's answer: trace_id and spans nested by `children`, offsets and durations in ms."""
    root = Tree(f"[bold]trace {trace['trace_id']}[/bold]")
    _add(root, trace["spans"])
    return root


def _add(parent: Tree, spans: list[Json]) -> None:
    groups = groupby(spans, key=lambda span: (span["service"], span["name"]))
    for shown, ((service, name), group) in enumerate(groups):
        if shown == MAX_LINES_PER_PARENT:
            parent.add("[dim]...[/dim]")
            return
        alike = list(group)
        first = alike[0]
        took = sum(span["duration_ms"] for span in alike)
        times = f" x{len(alike)}" if len(alike) > 1 else ""
        line = f"[cyan]{service}[/cyan] {name}{times} [dim]+{first['offset_ms'] / 1000:.2f} s, {took:.0f} ms[/dim]"
        _add(parent.add(line), [child for span in alike for child in span.get("children", [])])
