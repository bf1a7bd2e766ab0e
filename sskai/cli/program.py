"""All commands as one program."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.markup import escape

from sskai.cli import (
    chat,
    common,
    complete,
    costs,
    data,
    dlq,
    doctor,
    endpoints,
    events,
    jobs,
    keys,
    login,
    members,
    models,
    plan,
    rebuild,
    recover,
    stack_commands,
    train,
    webhooks,
)
from sskai.cli.problems import Reporting

HELP = """Fine-tune on the cheapest spot capacity, survive every interruption, serve, watch, retrain.

It speaks to the gateway of SSKAI_GATEWAY_URL and SSKAI_API_KEY, else to that of the profile that `sskai login` stored,
else to the embedded stack of this machine (`sskai up`).

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 not reachable or not signed in, 130 interrupted;
`doctor` has its own.
"""

app = typer.Typer(cls=Reporting, no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
for part in (stack_commands, doctor, rebuild, login, train, chat):
    part.add_to(app)
for name, group in {
    "data": data.app,
    "models": models.app,
    "plan": plan.app,
    "jobs": jobs.app,
    "endpoints": endpoints.app,
    "costs": costs.app,
    "keys": keys.app,
    "members": members.app,
    "webhooks": webhooks.app,
    "events": events.app,
    "dlq": dlq.app,
    "recover": recover.app,
}.items():
    app.add_typer(group, name=name)


@app.callback()
def choose(
    profile: Annotated[
        str | None,
        typer.Option(envvar="SSKAI_PROFILE", help="The profile to use.", autocompletion=complete.profiles),
    ] = None,
) -> None:
    common.chosen.profile = profile


def main() -> None:
    """The program. A bug is a line, not a stack; SSKAI_DEBUG=1 shows that."""
    try:
        app()
    except Exception as error:
        if os.environ.get("SSKAI_DEBUG"):
            raise
        common.err.print(f"[red]Unexpected[/red]: {escape(repr(error))}. SSKAI_DEBUG=1 shows where.", highlight=False)
        sys.exit(1)
