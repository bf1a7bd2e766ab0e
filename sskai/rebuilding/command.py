"""A service's state from the log of events, beside the one that stands, or in its place: `sskai rebuild SERVICE`.

`python -m services.NAME.derived` is the program of one service; it prints JSON. What was found and what was done is
one `Report`; it is an answer, too, that nothing was applied, and why.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import psycopg
import structlog

from sskai.broker import Broker
from sskai.broker_admin import AdminError, connected
from sskai.broker_log import Log, opened
from sskai.contract import DEAD_LETTER_SUFFIX
from sskai.rebuilding import putting, scratch
from sskai.rebuilding.handled import Handled
from sskai.rebuilding.replay import Counts, Replay
from sskai.rebuilding.scratch import ScratchError, connect, copy
from sskai.rebuilding.states import Compared, Connection, compare, rows
from sskai.rebuilding.tables import Projection
from sskai.settings import Settings

MAX_EVENTS = 5_000_000

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Wish:
    """What is asked for. `remove`: rows that no event on the log makes go, too; otherwise they stay and are named."""

    apply: bool = False
    remove: bool = False
    max_events: int = MAX_EVENTS
    scratch: str = ""


@dataclass
class Report:
    """`short`: why the log may not make all of the state. `refused`: why nothing was applied that should have been."""

    service: str
    events: Counts
    log_records: int = 0
    set_aside: int = 0  # records that the service had set aside, and that the rebuild left out
    not_yet_handled: int = 0
    short: list[str] = field(default_factory=list)
    tables: list[Compared] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    applied: bool = False
    events_per_second: float = 0.0
    seconds: float = 0.0

    @property
    def equal(self) -> bool:
        return all(one.equal for one in self.tables)


async def rebuild(projection: Projection, settings: Settings, wish: Wish) -> Report:
    """The whole of it. Raises AdminError, OSError, psycopg.Error, ScratchError."""
    began, url, broker = time.monotonic(), settings.database_url.get_secret_value(), Broker.from_settings(settings)
    report = Report(projection.service, Counts())
    report.left_out = {name: one.why for name, one in projection.tables.kept.items()}
    async with connected(broker) as admin:
        group = (await admin.groups([projection.service])).get(projection.service)
    if wish.apply and group is not None and group.members:
        report.refused.append(f"{projection.service} runs ({group.members} members read): stop it first")
        return report
    letters = [one + DEAD_LETTER_SUFFIX for one in projection.topics]
    async with await connect(url) as stored:
        await stored.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        if wish.apply:
            await putting.lock(stored, projection.tables)
        # From here on the stored state is one moment's. Offsets were read before it, the log's ends are read after it:
        # what is handled below the first is in it, and all that is in it is below the second.
        handled = await Handled.at(stored, projection.service, dict(group.committed) if group else {})
        async with (
            opened(broker, letters, max_records=wish.max_events) as dead,
            opened(broker, projection.topics, max_records=wish.max_events) as log,
            scratch.scratch(url, projection.service, wish.scratch) as database,
            await connect(database.url) as rebuilt,
        ):
            await handled.leave_out(dead)
            await _seed(projection, stored, rebuilt)
            await _replay(Replay(projection, database), log, handled, report)
            report.short = [*log.bounds.short, *dead.bounds.short, *await handled.missing(rebuilt)]
            await _compare(projection, stored, rebuilt, report, moving=handled.moving)
            if wish.apply:
                report.refused = _refusals(report)
            if wish.apply and not report.refused:
                moving = sorted(handled.moving)
                for one in report.tables:
                    if not one.equal:
                        await putting.put(stored, rebuilt, projection.tables, one, moving, remove=wish.remove)
                await stored.commit()
                report.applied = True
    report.seconds = time.monotonic() - began
    return report


async def _seed(projection: Projection, stored: Connection, rebuilt: Connection) -> None:
    """What a rebuild begins with."""
    for table, where in projection.tables.seeds().items():
        name, columns = f'"{projection.service}"."{table}"', projection.tables.columns(table)
        listed = ", ".join(f'"{column}"' for column in columns)
        await copy(stored, f"SELECT {listed} FROM {name} WHERE {where}", rebuilt, name, columns)  # noqa: S608
    await rebuilt.commit()


async def _replay(replay: Replay, log: Log, handled: Handled, report: Report) -> None:
    """All that the service had handled, and what is past its time forgotten again."""
    began = time.monotonic()
    await replay.prepare()
    await replay.run(handled.of(log))
    await replay.take(await handled.late())
    report.events, report.log_records = replay.counts, log.read
    report.events_per_second = replay.counts.records / max(time.monotonic() - began, 1e-9)
    report.set_aside, report.not_yet_handled = handled.set_aside, handled.not_yet
    if replay.projection.forget is not None:
        await replay.projection.forget(replay.database)


async def _compare(
    projection: Projection, stored: Connection, rebuilt: Connection, report: Report, *, moving: set[str]
) -> None:
    for table in projection.tables.derived:
        left, right = (rows(one, projection.tables, table) for one in (stored, rebuilt))
        report.tables.append(await compare(left, right, table, moving))


def _refusals(report: Report) -> list[str]:
    """Why what was rebuilt may not stand in the place of what there is."""
    found = []
    if report.short:
        found.append("the log does not hold all that the state was made of")
    if unhandled := report.events.failed + report.events.undecodable:
        found.append(f"{unhandled} events could not be handled")
    return found


def main(projection_of: Callable[[S], Projection], settings_of: type[S]) -> None:
    """The program of one service."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--apply", action="store_true")
    parser.add_argument("--remove", action="store_true")
    parser.add_argument("--max-events", type=int, default=MAX_EVENTS)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    # By the environment, as every address that may hold a password: arguments are seen by everybody on the machine.
    settings, given = settings_of(), os.environ.get(scratch.VARIABLE, "")
    wish = Wish(**vars(parser.parse_args()), scratch=given)
    try:
        report = asyncio.run(rebuild(projection_of(settings), settings, wish))
    except (AdminError, OSError, ScratchError, psycopg.Error) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    print(json.dumps(document(report)))


def document(report: Report) -> dict[str, Any]:
    """As JSON."""
    tables = [asdict(one) | {"equal": one.equal} for one in report.tables]
    return asdict(report) | {"equal": report.equal, "tables": tables}
