"""A trace as a tree with times. Spans that are alike under one parent are drawn once, with how many there were."""

from __future__ import annotations

from rich.tree import Tree

from sskai.client import Document

MAX_CHILDREN = 14


def draw(trace: Document) -> Tree:
    """`trace` is the monitor's answer: its spans are flat, in tree order, each with a `depth` and times in seconds."""
    root = Tree(f"[bold]trace {trace['trace_id']}[/bold] [dim]{trace['duration_seconds']:.1f} s[/dim]")
    _add(root, trace["spans"], 0)
    return root


def _add(parent: Tree, spans: list[Document], depth: int) -> None:
    """Draw the spans of this depth; those below each go under it."""
    branches: list[list[Document]] = []
    for span in spans:
        if span["depth"] <= depth or not branches:
            branches.append([span])
        else:
            branches[-1].append(span)
    groups: dict[tuple[str, str], list[list[Document]]] = {}
    for branch in branches:
        groups.setdefault((branch[0]["service"], branch[0]["name"]), []).append(branch)
    for shown, ((service, name), alike) in enumerate(groups.items()):
        if shown == MAX_CHILDREN:
            parent.add("[dim]...[/dim]")
            return
        first = alike[0][0]
        took = sum(branch[0]["duration_seconds"] for branch in alike)
        times = f" x{len(alike)}" if len(alike) > 1 else ""
        when = f"+{first['start_offset_seconds']:.2f} s, {took * 1000:.0f} ms"
        line = f"[cyan]{service}[/cyan] {name}{times} [dim]{when}[/dim]"
        _add(parent.add(line), [span for branch in alike for span in branch[1:]], depth + 1)
