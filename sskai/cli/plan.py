"""`sskai plan`: what something would run on and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sskai import plan_table
from sskai.cli import common
from sskai.cli.common import AsJson, FileOrCommand
from sskai.client.documents import Plan

app = typer.Typer(
    no_args_is_help=True,
    cls=FileOrCommand,
    subcommand_metavar="FILE | replay PLAN_ID",
    short_help="FILE, or replay PLAN_ID: what it would run on and cost, before anything is spent.",
    help="What it would run on and cost, before anything is spent: `sskai plan FILE [--explain] [--json]`. "
    "A stored plan made again: `sskai plan replay PLAN_ID [--policy NAME] [--json]`.",
)

Explain = Annotated[bool, typer.Option("--explain", help="Where hours and dollars go, and why not others.")]


@app.command("file", short_help="FILE: what it would run on and cost. The word may be left out.")
def plan_file(
    file: Annotated[Path, typer.Argument(help="A job file, or an endpoint file (`kind: endpoint`).")],
    explain: Explain = False,
    as_json: AsJson = False,
) -> None:
    """What a job or an endpoint would run on and cost, before anything is spent."""
    document = common.read_file(file)
    with common.connect() as client:
        show(client.plans.create(document), explain=explain, as_json=as_json)


@app.command("replay", short_help="PLAN_ID: a stored plan made again. Is it equal to the bit?")
def replay_plan(
    plan_id: str,
    policy: Annotated[str | None, typer.Option(help="Decide by another policy, such as fastest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a stored decision again from its inputs. Exit code 1 if it is not equal and no policy was asked for."""
    with common.connect() as client:
        replay = client.plans.replay(plan_id, policy)
    if as_json:
        common.print_json(replay)
    else:
        common.out.print(plan_table.replayed(replay, common.out.width))
    raise typer.Exit(0 if replay["equal"] or policy else 1)


def show(proposed: Plan, *, explain: bool, as_json: bool) -> None:
    if as_json:
        common.print_json(proposed)
        return
    draw = plan_table.endpoint_plan if proposed["kind"] == "endpoint" else plan_table.job_plan
    common.out.print(draw(proposed, common.out.width, explain=explain))
