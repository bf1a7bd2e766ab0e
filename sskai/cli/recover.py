"""`sskai recover`: the steps after a restore (docs/operations/recovery.md), while the services are stopped."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from sskai.cli import common, programs
from sskai.cli.common import AsJson
from sskai.local.paths import home_folder
from sskai.local.state import told_by_the_stack
from sskai.settings import Settings, beneath_environment

app = typer.Typer(no_args_is_help=True, help="The steps after a restore, while the services are stopped.")
Moment = Annotated[str, typer.Argument(help="RFC 3339, e.g. 2026-11-30T04:00:00Z.")]


@app.command()
def attempts(as_json: AsJson = False) -> None:
    """After a restore of the database: attempts are numbered on above those begun since, and what is lost is said."""
    found = programs.run("services.scheduler.recovering")
    if as_json:
        common.print_json(found)
        return
    for one in found["raised"]:
        print(f"{one['job_id']}: goes on with attempt {one['attempts'] + 1} (the backup knew {one['before']})")
    for job_id in found["lost"]:
        print(f"{job_id}: lost. It was submitted after the backup; its objects are below jobs/{job_id}/")
    print(f"{len(found['raised'])} jobs go on, {len(found['lost'])} are lost.")


@app.command()
def republish(since: Moment, as_json: AsJson = False) -> None:
    """After the loss of the broker's disks: tell again what the gateway's log took in since then."""
    found = programs.run("services.gateway.republishing", _moment(since).isoformat())
    common.done(f"{found['republished']} events told again.", as_json, **found)


@app.command()
def rewind(to: Moment, as_json: AsJson = False) -> None:
    """After a restore of the database beside a broker that stands: services read again from then on."""
    moved = asyncio.run(_rewind(_moment(to)))
    if as_json:
        common.print_json(moved)
        return
    for group, events in moved.items():
        print(f"{group}: {events} events to read again")


async def _rewind(moment: datetime) -> dict[str, int]:
    from sskai.broker import Broker
    from sskai.broker_admin import AdminError, connected
    from sskai.contract import OTLP_TOPIC, TOPICS
    from sskai.database import SERVICES

    topics = [*TOPICS, OTLP_TOPIC]
    settings = beneath_environment(Settings, told_by_the_stack(home_folder()))
    try:
        async with connected(Broker.from_settings(settings)) as broker:
            groups = await broker.groups(SERVICES)
            if busy := [name for name, one in groups.items() if one.members]:
                raise common.fail(f"Stop the services first: {', '.join(busy)} still read.")
            offsets = await broker.at(topics, moment)
            moved = {}
            for name, group in groups.items():
                # Forward is never meant: what was not read yet would be skipped.
                back = {at: min(offset, group.committed[at]) for at, offset in offsets.items() if at in group.committed}
                await broker.move(name, back)
                moved[name] = sum(group.committed[at] - offset for at, offset in back.items())
    except (AdminError, OSError) as error:
        raise common.fail(f"The broker does not answer: {error!r}", 3) from error
    return moved


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise common.fail(f"{text!r} is no RFC 3339 time, e.g. 2026-11-30T04:00:00Z", 2) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
