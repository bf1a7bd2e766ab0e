"""Derived tables as they are read to be compared: row by row in the order of their keys, and a hash over all rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from sskai.rebuilding.tables import Tables

Connection: TypeAlias = psycopg.AsyncConnection[Any]
Row: TypeAlias = tuple[str, str]  # the key and the compared columns, both as JSON
ROWS_AT_ONCE = 2_000
MAX_EXAMPLES = 10  # of one table


@dataclass
class Difference:
    """One row that differs. `columns`: which; empty where the row stands on one side only."""

    key: list[Any]
    kind: str  # "differs" | "only-stored" | "only-rebuilt"
    columns: list[str] = field(default_factory=list)


@dataclass
class Compared:
    """One table. `moving`: rows about which an event is told and not yet handled; they are no differences."""

    table: str
    stored_rows: int = 0
    rebuilt_rows: int = 0
    stored_sha256: str = ""
    rebuilt_sha256: str = ""
    differing: int = 0
    only_stored: int = 0
    only_rebuilt: int = 0
    moving: int = 0
    examples: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.differing or self.only_stored or self.only_rebuilt)


def key_query(tables: Tables, table: str) -> str:
    """A row's key as JSON text, in SQL."""
    return f"jsonb_build_array({', '.join(tables.key(table))})::text"


def row_query(tables: Tables, table: str, columns: Collection[str] | None = None) -> str:
    """The compared columns of a row as JSON text, in SQL. `columns`: only these of them."""
    compared = {name: how for name, how in tables.compared(table).items() if columns is None or name in columns}
    # Several objects that become one: a function takes no more than 100 arguments.
    pairs = [f"{_quoted(name)}, {how}" for name, how in compared.items()]
    parts = [pairs[begin : begin + 40] for begin in range(0, len(pairs), 40)]
    objects = [f"jsonb_build_object({', '.join(part)})" for part in parts]
    return f"({' || '.join(objects)})::text"


async def rows(
    connection: Connection, tables: Tables, table: str, columns: Collection[str] | None = None
) -> AsyncIterator[Row]:
    """The derived rows of a table by the bytes of their keys. `columns`: only these of those that are compared."""
    query = (
        f"SELECT {key_query(tables, table)}, {row_query(tables, table, columns)} "  # noqa: S608 (SQL of ours)
        f'FROM "{tables.metadata.schema}"."{table}" WHERE {tables.derived[table].where} '
        f'ORDER BY {key_query(tables, table)} COLLATE "C"'
    )
    async with connection.cursor(name=f"rows_{table}") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        await cursor.execute(query.encode())
        async for key, row in cursor:
            yield key, row


def _quoted(text: str) -> str:
    return sql.Literal(text).as_string(None)


class Digest:
    """SHA-256 over the rows of a table, in order."""

    def __init__(self) -> None:
        self.rows = 0
        self._sha256 = hashlib.sha256()

    def add(self, row: Row) -> None:
        self.rows += 1
        self._sha256.update(f"{row[0]}\t{row[1]}\n".encode())

    def text(self) -> str:
        return self._sha256.hexdigest()


async def compare(
    stored: AsyncIterator[Row], rebuilt: AsyncIterator[Row], table: str, moving: Collection[str] = ()
) -> Compared:
    """Both sides in one pass. `moving`: keys of things about which events are on their way."""
    found, digests_of = Compared(table), (Digest(), Digest())
    left, right = await _next(stored, digests_of[0]), await _next(rebuilt, digests_of[1])
    while left is not None or right is not None:
        if right is None or (left is not None and left[0].encode() < right[0].encode()):
            assert left is not None
            _note(found, "only-stored", left[0], moving)
            left = await _next(stored, digests_of[0])
        elif left is None or right[0].encode() < left[0].encode():
            _note(found, "only-rebuilt", right[0], moving)
            right = await _next(rebuilt, digests_of[1])
        else:
            if left[1] != right[1]:
                _note(found, "differs", left[0], moving, (left[1], right[1]))
            left, right = await _next(stored, digests_of[0]), await _next(rebuilt, digests_of[1])
    found.stored_rows, found.rebuilt_rows = (one.rows for one in digests_of)
    found.stored_sha256, found.rebuilt_sha256 = (one.text() for one in digests_of)
    return found


async def _next(side: AsyncIterator[Row], digest: Digest) -> Row | None:
    row = await anext(side, None)
    if row is not None:
        digest.add(row)
    return row


def _note(found: Compared, kind: str, key: str, moving: Collection[str], both: tuple[str, str] = ("{}", "{}")) -> None:
    parts = json.loads(key)
    if moving and any(part in moving for part in parts if isinstance(part, str)):
        found.moving += 1
        return
    if kind == "differs":
        found.differing += 1
    elif kind == "only-stored":
        found.only_stored += 1
    else:
        found.only_rebuilt += 1
    if len(found.examples) < MAX_EXAMPLES:
        one, other = (json.loads(text) for text in both)
        found.examples.append(Difference(parts, kind, [name for name in one if one[name] != other.get(name)]))


def contains(today: Any, recorded: Any) -> bool:
    """Whether a value holds everything that an older release recorded: objects may have got more fields since."""
    if isinstance(recorded, Mapping) and isinstance(today, Mapping):
        return all(name in today and contains(today[name], value) for name, value in recorded.items())
    if isinstance(recorded, list) and isinstance(today, list):
        return len(today) == len(recorded) and all(map(contains, today, recorded))
    return bool(today == recorded)
