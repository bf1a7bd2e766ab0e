"""`python -m tools.record_history`: what this release tells, and the state that it makes, kept for releases to come.

Runs of the simulation (docs/guides/simulation.md) are recorded: every service's own handlers, with interruptions,
failures, cancellations and budgets. What is recorded must make the same state again, or nothing is written. Beside them
stand the contract's examples, one event of each type, with the state that this release makes of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from simulation import processes, running
from simulation.postgres import Server
from simulation.run import World, run
from sskai import contract
from sskai.bus import Incoming
from sskai.database import SERVICES
from sskai.events import v1 as events
from sskai.local.postgres import Postgres
from sskai.rebuilding.scratch import connect
from sskai.testing import fresh_database
from tools.histories import FOLDER, History, projection_of, replayed, state_of

EXAMPLES = Path(__file__).parents[1] / "proto" / "examples" / "v1"
BEGINNINGS = {events.JobSubmitted, events.EndpointRequested, events.ModelVersionReady}
ENDS = {events.JobSucceeded, events.JobFailed, events.JobCancelled}
DELETIONS = {events.EndpointDeletionRequested, events.EndpointDeleted, events.BudgetRemoved}


def recorded(seed: int, server: Server) -> History:
    """One run, to its end. Raises RuntimeError if it broke an invariant."""
    found: list[History] = []

    def look(world: World) -> None:
        kept = sorted(
            (one for log in world.broker.logs.values() for one in log),
            key=lambda one: (one.visible_at, one.topic, one.partition, one.offset),
        )
        records = [
            Incoming(one.topic, one.partition, one.offset, one.key, one.value, list(one.headers)) for one in kept
        ]
        found.append(History(records, {}))

    async def states(history: History) -> None:
        async with await connect(server.postgres.url) as connection:
            for service in processes.SERVICES:
                history.states[service] = await state_of(connection, projection_of(service).tables)
        await of_this_release(history, sorted(set(SERVICES) - set(processes.SERVICES)), server.postgres.url)

    result = run(seed, server, at_rest=look)
    if result.violations:
        raise RuntimeError(f"seed {seed}: {result.violations[0]}")
    asyncio.run(states(found[0]))
    return found[0]


def examples() -> list[Incoming]:
    """One event of each type of the contract, about the same few things: what runs of the simulation do not meet."""
    told = [contract.from_cloudevent(json.loads(path.read_text())) for path in sorted(EXAMPLES.glob("*.json"))]
    # What deletes things would leave little to look at.
    told = [one for one in told if type(one.message) not in DELETIONS]
    told.sort(key=lambda one: (type(one.message) not in BEGINNINGS, type(one.message) in ENDS))
    offsets: dict[str, int] = {}
    records = []
    for one in told:
        record = contract.encode(one)
        offset = offsets[record.topic] = offsets.get(record.topic, -1) + 1
        records.append(Incoming(record.topic, 0, offset, record.key, record.value, record.headers))
    return records


async def of_this_release(history: History, services: Iterable[str], server_url: str) -> None:
    """The state that this release makes of it, where no run has one to compare it with."""
    for service in services:
        projection = projection_of(service)
        async with fresh_database(server_url, service) as database:
            replay, history.states[service] = await replayed(projection, database, history.read_by(projection), {})
        if replay.counts.problems:
            raise RuntimeError(f"{service}: {replay.counts.problems[0]}")


async def differences(history: History, server_url: str) -> list[str]:
    """Where the recorded events do not make the recorded state."""
    found = []
    for service in SERVICES:
        projection, expected = projection_of(service), history.states[service]
        async with fresh_database(server_url, service) as database:
            replay, state = await replayed(projection, database, history.read_by(projection), expected.seeds)
        found += [f"{service}: {problem}" for problem in replay.counts.problems]
        for table, rows in expected.rows.items():
            keys = sorted(rows.keys() ^ state.rows[table].keys())
            keys += [key for key, row in rows.items() if state.rows[table].get(key, row) != row]
            found += [f"{service}.{table} {key}" for key in keys]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="3,7,8,18", help="of the simulation, with commas")
    parser.add_argument("--folder", type=Path, default=FOLDER / version("sskai"))
    arguments = parser.parse_args()
    wrong = []
    with Postgres.start() as server:
        history = History(examples(), {})
        asyncio.run(of_this_release(history, SERVICES, server.url))
        history.save(arguments.folder / "examples")
        print(f"examples: {len(history.records)} records")
    with running.ready() as server:
        for seed in map(int, filter(None, arguments.seeds.split(","))):
            history = recorded(seed, server)
            wrong += (found := asyncio.run(differences(history, server.postgres.url)))
            print(f"seed {seed}: {len(history.records)} records, {len(found)} rows differ")
            for text in found[:20]:
                print(f"  {text}", file=sys.stderr)
            if not found:
                history.save(arguments.folder / f"simulation-{seed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
