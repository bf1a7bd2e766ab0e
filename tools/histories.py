"""Recorded histories as files: what was told, in the order in which it could be read, and the state that it made.

`events.jsonl.gz`: a record of the broker a line. `state.jsonl.gz`: a row of a derived table a line, and (`seed`) those
that a rebuild begins with. Rows are kept whole, not as a hash: a release may add columns and fields to what is there.
"""

from __future__ import annotations

import base64
import gzip
import importlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from sskai import contract
from sskai.bus import Incoming
from sskai.database import SERVICES, Database
from sskai.rebuilding.dead import set_aside
from sskai.rebuilding.replay import Replay
from sskai.rebuilding.scratch import connect
from sskai.rebuilding.states import Connection, rows
from sskai.rebuilding.tables import Projection, Tables

FOLDER = Path(__file__).parents[1] / "tests" / "histories"


@dataclass
class State:
    """Of one service: compared rows by table and key, and rows that a rebuild begins with, by table."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class History:
    """What one installation did."""

    records: list[Incoming]
    states: dict[str, State]

    def read_by(self, projection: Projection) -> list[Incoming]:
        """What the service handled."""
        letters = [one for one in self.records if one.topic.endswith(contract.DEAD_LETTER_SUFFIX)]
        left_out, topics = set_aside(letters, projection.service), set(projection.topics)
        return [
            one
            for one in self.records
            if one.topic in topics and (one.topic, one.partition, one.offset) not in left_out
        ]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "events.jsonl.gz", map(_to_line, self.records))
        _write(folder / "state.jsonl.gz", self._state_lines())

    def _state_lines(self) -> Iterator[dict[str, Any]]:
        for service, state in self.states.items():
            for table, found in state.rows.items():
                yield from ({"service": service, "table": table, "key": key, "row": row} for key, row in found.items())
            for table, seeds in state.seeds.items():
                yield from ({"service": service, "table": table, "seed": row} for row in seeds)

    @classmethod
    def load(cls, folder: Path) -> History:
        states: dict[str, State] = {service: State() for service in SERVICES}
        for line in _read(folder / "state.jsonl.gz"):
            state = states[line["service"]]
            if "seed" in line:
                state.seeds.setdefault(line["table"], []).append(line["seed"])
            else:
                state.rows.setdefault(line["table"], {})[line["key"]] = line["row"]
        return cls([_of_line(line) for line in _read(folder / "events.jsonl.gz")], states)


def projection_of(service: str) -> Projection:
    """As the service's own `derived.py` has it, with the settings' defaults."""
    module = importlib.import_module(f"services.{service}.derived")
    settings = importlib.import_module(f"services.{service}.settings")
    found: Projection = module.projection(settings.Settings())
    return found


async def state_of(connection: Connection, tables: Tables) -> State:
    """As it stands in a database."""
    state = State()
    for table in tables.derived:
        found = state.rows.setdefault(table, {})
        async for key, row in rows(connection, tables, table):
            # A row that is there twice is to be seen as a second one.
            found[key if key not in found else f"{key} again"] = json.loads(row)
    for table, where in tables.seeds().items():
        query = f'SELECT to_jsonb(t) FROM "{tables.metadata.schema}"."{table}" AS t WHERE {where}'  # noqa: S608
        cursor = await connection.execute(query.encode())
        state.seeds[table] = [row for (row,) in await cursor.fetchall()]
    return state


async def replayed(
    projection: Projection, database: Database, records: Iterable[Incoming], seeds: dict[str, list[dict[str, Any]]]
) -> tuple[Replay, State]:
    """A fresh database after these records, and what became of them."""
    replay = Replay(projection, database)
    await replay.prepare()
    async with await connect(database.url) as connection:
        for table, found in seeds.items():
            name = f'"{projection.service}"."{table}"'
            query = f"INSERT INTO {name} SELECT * FROM jsonb_populate_record(NULL::{name}, %s)"  # noqa: S608
            for row in found:
                await connection.execute(query.encode(), (Jsonb(row),))
    taken = list(records)
    for begin in range(0, len(taken), 100):
        await replay.take(taken[begin : begin + 100])
    async with await connect(database.url) as connection:
        return replay, await state_of(connection, projection.tables)


def _to_line(record: Incoming) -> dict[str, Any]:
    headers = [[name, value.decode()] for name, value in record.headers]
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": (record.key or b"").decode(),
        "value": base64.b64encode(record.value or b"").decode(),
        "headers": headers,
    }


def _of_line(line: dict[str, Any]) -> Incoming:
    return Incoming(
        line["topic"],
        line["partition"],
        line["offset"],
        line["key"].encode(),
        base64.b64decode(line["value"]),
        [(name, value.encode()) for name, value in line["headers"]],
    )


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def _read(path: Path) -> Iterator[dict[str, Any]]:
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        yield json.loads(line)
