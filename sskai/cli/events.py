"""`sskai events`: facts as they happen."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from sskai.cli import common
from sskai.client import Event

app = typer.Typer(no_args_is_help=True, help="The event stream.")

HIDDEN = {"tenant_id", "job_id", "endpoint_id"}


@app.command("tail")
def tail_events(
    after: Annotated[int | None, typer.Option(help="Resume after this position; 0: from the oldest kept.")] = None,
    types: Annotated[str, typer.Option(help="Only these event types, separated by commas.")] = "",
    subject: Annotated[str | None, typer.Option(help="Only of this job, endpoint, dataset, ... by its id.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="CloudEvents in JSON, one a line.")] = False,
) -> None:
    """Events as they happen, until interrupted. In a pipe they are CloudEvents in JSON, one a line."""
    wanted = [kind for kind in types.split(",") if kind]
    plain = as_json or not common.out.is_terminal
    with common.connect() as client:
        for number, event in enumerate(client.events(after=after, types=wanted, subject=subject), start=1):
            if plain:
                print(json.dumps({"position": event.position, **event.cloudevent}), flush=True)
            else:
                common.out.print(_line(event), highlight=False, no_wrap=True, overflow="ellipsis")
            if number == limit:
                return


def _line(event: Event) -> str:
    at: Any = event.cloudevent.get("time")
    clock = datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S") if at else ""
    told = {name: value for name, value in event.data.items() if not isinstance(value, dict | list)}
    words = " ".join(f"{name}={value}" for name, value in told.items() if name not in HIDDEN)
    return (
        f"[dim]{event.position} {clock}[/dim] [cyan]{event.type}[/cyan] {escape(event.subject)} "
        f"[dim]{escape(words)}[/dim]"
    )
