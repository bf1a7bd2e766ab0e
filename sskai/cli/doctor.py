"""`sskai doctor`: looks at an installation's parts. For whoever runs SSKAI: it speaks to the parts themselves."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from sskai.cli import common
from sskai.cli.common import AsJson

if TYPE_CHECKING:
    from sskai.doctor import Finding

SIGNS = {
    "ok": "[green]ok[/green]",
    "warn": "[yellow]warn[/yellow]",
    "fail": "[red]FAIL[/red]",
    "skipped": "[dim]skipped[/dim]",
}
PARTS = "broker, database, objects, cluster, services"


def add_to(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    part: Annotated[list[str] | None, typer.Argument(help=f"Only these: {PARTS}.", show_default="all")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at this installation: is every part sound, and what is to be mended. Changes nothing.

    It reads the same SSKAI_* variables as the services, else the embedded stack's: run it where they run.
    Exit codes: 0 sound, 1 warnings, 2 something does not work.
    """
    from sskai.doctor import examine, settings  # and with it the clients of all parts

    read, source = settings.read()
    looks = examine.parts(read)
    if unknown := [one for one in part or [] if one not in looks]:
        raise common.fail(f"There is no part {unknown[0]!r}: {PARTS}. {common.nearest(unknown[0], looks)}".strip(), 2)
    chosen = {name: look for name, look in looks.items() if not part or name in part}
    found = asyncio.run(examine.examine(chosen))
    code = examine.exit_code(found)
    if as_json:
        common.print_json({"settings": source, "exit_code": code, "findings": [asdict(one) for one in found]})
    else:
        _show(found, source)
    raise typer.Exit(code)


def _show(found: list[Finding], source: str) -> None:
    table = Table(box=None, padding=(0, 1))
    for column in ("part", "check", "", "found"):
        table.add_column(column, overflow="fold")
    for one in found:
        mend = f"\n[bold]→ {escape(one.mend)}[/bold]" if one.mend else ""
        table.add_row(one.part, one.check, SIGNS[one.state], escape(one.says) + mend)
    counts = {state: sum(one.state == state for one in found) for state in SIGNS}
    console = common.out if common.out.is_terminal else type(common.out)(width=common.PIPE_CHARACTERS)
    console.print(table)
    console.print(
        f"\nBy {source}: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}.",
        highlight=False,
        markup=False,
    )
