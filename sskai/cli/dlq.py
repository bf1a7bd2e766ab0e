"""`sskai dlq`: records that could not be handled. For whoever runs SSKAI: it speaks to the broker."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from sskai.cli import common
from sskai.cli.common import AsJson
from sskai.local.paths import home_folder
from sskai.local.state import told_by_the_stack
from sskai.settings import Settings, beneath_environment

if TYPE_CHECKING:
    from sskai.broker import Broker

app = typer.Typer(no_args_is_help=True, help="Records that could not be handled.")


@app.command("list")
def list_letters(
    topic: str,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one record a line.")] = False,
) -> None:
    """What was set aside from TOPIC, and why. In a pipe it is JSON, one record a line."""
    from sskai import broker_admin  # a program that only asks the gateway needs no broker

    lines = []
    for letter in asyncio.run(broker_admin.read_dead_letters(_broker(), topic, limit=limit)):
        headers = {name: value.decode(errors="replace") for name, value in letter.headers}
        lines.append({"offset": letter.offset, "key": (letter.key or b"").decode(errors="replace")} | headers)
    if as_json or not common.out.is_terminal:
        print("\n".join(map(json.dumps, lines)), end="\n" if lines else "")
    else:
        common.show(lines, [*dict.fromkeys(name for line in lines for name in line)], as_json=False)


@app.command("redrive")
def redrive_letters(
    topic: str, limit: Annotated[int, typer.Option(min=1, max=1000)] = 100, as_json: AsJson = False
) -> None:
    """Publish the dead letters of TOPIC to it again; what was handled once changes nothing."""
    from sskai import broker_admin

    count = asyncio.run(broker_admin.redrive(_broker(), topic, limit=limit))
    common.done(f"{count} records published to {topic} again", as_json, topic=topic, published=count)


def _broker() -> Broker:
    from sskai.broker import Broker

    told = told_by_the_stack(home_folder())
    if not told and not os.environ.get("SSKAI_KAFKA_BOOTSTRAP"):
        raise common.fail("No broker: start the embedded stack with `sskai up`, or set SSKAI_KAFKA_BOOTSTRAP.", 3)
    return Broker.from_settings(beneath_environment(Settings, told))
