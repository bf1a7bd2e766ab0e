"""`sskai rebuild`: a service's state from the log of events, beside what stands (docs/operations/rebuild.md)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sskai.cli import common, programs
from sskai.cli.common import AsJson, Yes


def add_to(app: typer.Typer) -> None:
    app.command("rebuild")(rebuild)


def rebuild(
    service: Annotated[str, typer.Argument(help="gateway, optimizer, scheduler, trainer, inference or monitor.")],
    *,
    apply: Annotated[
        bool, typer.Option("--apply/--check", help="Put what was rebuilt in the place of what stands, or only compare.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="With --apply: rows that no event on the log makes go, too.")
    ] = False,
    max_events: Annotated[int, typer.Option(min=1, help="A longer log is not read.")] = 5_000_000,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make the state of SERVICE anew from the log of events, and compare it with the one that stands.

    Its own handlers read the log into a database beside it, which is dropped again; nothing is told. Where the
    service's account may make none, SSKAI_REBUILD_DATABASE_URL names an empty one. With --apply the service must be
    stopped. Exit code 1: it differs (--check), or nothing was applied (--apply).
    """
    from sskai.database import SERVICES  # and with it SQLAlchemy, which no other command needs

    if service not in SERVICES:
        near = common.nearest(service, SERVICES)
        raise common.fail(f"There is no service {service!r}: {', '.join(SERVICES)}. {near}".strip(), 2)
    if remove and not apply:
        raise common.fail("--remove goes with --apply.", 2)
    if apply:
        common.confirm(f"Replace the derived rows of {service} that differ from the log?", yes)
    arguments = ["--max-events", str(max_events)]
    arguments += [name for name, wanted in (("--apply", apply), ("--remove", remove)) if wanted]
    found = programs.run(f"services.{service}.derived", *arguments)
    if as_json:
        common.print_json(found)
    else:
        _show(found)
    raise typer.Exit(0 if found["applied"] or (not apply and found["equal"] and not found["short"]) else 1)


def _show(found: dict[str, Any]) -> None:
    tables = [
        {
            "table": one["table"],
            "stored": one["stored_rows"],
            "rebuilt": one["rebuilt_rows"],
            "differ": one["differing"],
            "only stored": one["only_stored"],
            "only rebuilt": one["only_rebuilt"],
            "moving": one["moving"],
            "state hash": f"{one['rebuilt_sha256'][:12]}{'' if one['equal'] else ' DIFFERS'}",
        }
        for one in found["tables"]
    ]
    if tables:
        common.show(tables, list(tables[0]), as_json=False)
    for one in found["tables"]:
        for example in one["examples"]:
            columns = f": {', '.join(example['columns'])}" if example["columns"] else ""
            print(f"{one['table']} {example['key']} {example['kind']}{columns}")
    events = found["events"]
    counts = {
        "records read": found["log_records"],
        "handled": events["handled"],
        "refused as another's": events["foreign"],
        "failed": events["failed"],
        "left out as set aside": found["set_aside"],
        "not handled yet by the service": found["not_yet_handled"],
    }
    print(
        f"{', '.join(f'{count} {what}' for what, count in counts.items())}; {found['events_per_second']:.0f} a second."
    )
    print(f"Not made of events alone, and left out: {', '.join(found['left_out'])}.")
    for problem in events["problems"]:
        print(f"Failed: {problem}")
    for why in found["short"]:
        print(f"The log is short: {why}")
    for why in found["refused"]:
        print(f"Not applied: {why}.")
    if found["applied"]:
        print("Applied.")
