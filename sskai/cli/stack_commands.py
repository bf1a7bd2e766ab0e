"""The embedded stack of this machine, and the lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from sskai.cli import common
from sskai.cli.common import AsJson
from sskai.client import Client, SskaiError
from sskai.local.state import StackState

LINK_SECONDS = 5.0


def add_to(app: typer.Typer) -> None:
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command(
        "lab",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
        short_help="replay | compare | fit: the spot policy on recorded markets; simulate: all of it, from a seed.",
    )(lab)


def up(
    infrastructure_only: Annotated[bool, typer.Option(help="Broker, database, objects and cloud only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start the embedded stack on this machine, and say how to sign in."""
    from sskai.local import stack  # and with it a database's client, which takes longer than most commands

    state = stack.up(services=not infrastructure_only, say=common.err.print if as_json else print)
    link = "" if infrastructure_only else _sign_in(state)
    if as_json:
        common.print_json({"gateway_url": state.gateway_url, "api_key": state.admin_key, "console_url": link or None})
        return
    print(f"SSKAI is up: {state.gateway_url}\nAPI key: {state.admin_key}")
    if link:
        print(f"Console, signed in (once, for a few minutes; `sskai console` makes another): {link}")


def _have_a_model(say: Callable[[str], None]) -> None:
    """Without it nothing can be trained before a model was uploaded."""
    from sskai.local import weights

    if not weights.is_here():
        say(f"{weights.NAME}: fetching (98 MB, once)")
    try:
        weights.fetch()
    except weights.WeightsError as error:
        say(f"{weights.NAME} could not be had, and the rest works without it: {error}")


def _sign_in(state: StackState) -> str:
    """An address that signs a browser in; empty of a gateway that has none."""
    try:
        with Client(state.gateway_url, state.admin_key, retry_seconds=LINK_SECONDS) as client:
            return client.session.link()["url"]
    except SskaiError:
        return ""


def down(purge: Annotated[bool, typer.Option(help="Delete all data, too.")] = False, as_json: AsJson = False) -> None:
    """Stop the embedded stack and its pods."""
    from sskai.local import stack

    stack.down(purge=purge, say=common.err.print if as_json else print)
    if as_json:
        common.print_json({"state": "down", "purged": purge})


def status(as_json: AsJson = False) -> None:
    """What runs."""
    from sskai.local import stack

    parts = stack.status()
    if not parts:
        print("[]" if as_json else "SSKAI is down.")
        raise typer.Exit(1)
    rows = [
        {
            "part": part.name,
            "state": part.state,
            "pid": part.pid,
            "uptime_s": None if part.uptime_seconds is None else round(part.uptime_seconds),
            "restarts": part.restarts,
            "port": part.port,
            "rss_mib": None if part.rss_bytes is None else part.rss_bytes // 2**20,
        }
        for part in parts
    ]
    common.show(rows, ["part", "state", "pid", "uptime_s", "restarts", "port", "rss_mib"], as_json)


def logs(
    part: str,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000)] = 100,
) -> None:
    """The log of one part of the embedded stack. A job's: `sskai jobs logs`."""
    from sskai.local import stack

    for line in stack.logs(part, follow=follow, lines=lines):
        print(line, flush=follow)


def lab(context: typer.Context) -> None:
    """The scheduler's spot policy on recorded markets: replayed, compared with others, its priors learnt; and all of
    SSKAI simulated from a seed (`sskai lab simulate --help`)."""
    # Programs of their own: the client knows no service.
    arguments = ["-m", "services.scheduler.lab", *context.args]
    if context.args[:1] == ["simulate"]:
        arguments = ["-m", "simulation", *context.args[1:]]
    raise typer.Exit(subprocess.call([sys.executable, *arguments]))
