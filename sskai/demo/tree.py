"""A trace as a tree with times. Runs of alike spans are drawn once, with how many there were."""

from __future__ import annotations

from itertools import groupby

from rich.tree import Tree

from sskai.client import Json

MAX_CHILDREN = 14


def draw(trace: Json) -> Tree:
    """`trace` is the monitor's answer: its spans are flat, in tree order, each with a `depth` and times in seconds."""
    root = Tree(f"[bold]trace {trace['trace_id']}[/bold] [dim]{trace['duration_seconds']:.1f} s[/dim]")
    _add(root, trace["spans"], 0)
    return root


def _add(parent: Tree, spans: list[Json], depth: int) -> None:
    """Draw the spans of this depth; those below each go under it."""
    branches: list[list[Json]] = []
    for span in spans:
        if span["depth"] <= depth or not branches:
            branches.append([span])
        else:
            branches[-1].append(span)
    groups = groupby(branches, key=lambda branch: (branch[0]["service"], branch[0]["name"]))
    for shown, ((service, name), group) in enumerate(groups):
        if shown == MAX_CHILDREN:
            parent.add("[dim]...[/dim]")
            return
        alike = list(group)
        first = alike[0][0]
        took = sum(branch[0]["duration_seconds"] for branch in alike)
        times = f" x{len(alike)}" if len(alike) > 1 else ""
        line = f"[cyan]{service}[/cyan] {name}{times} [dim]+{first['start_offset_seconds']:.2f} s, {took * 1000:.0f} ms[/dim]"
        _add(parent.add(line), [span for branch in alike for span in branch[1:]], depth + 1)
