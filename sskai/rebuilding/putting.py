"""Rebuilt rows put in the place of those that stand, within the transaction that compared them."""

from __future__ import annotations

from sskai.rebuilding.scratch import copy
from sskai.rebuilding.states import Compared, Connection, key_query, row_query
from sskai.rebuilding.tables import Tables


async def lock(stored: Connection, tables: Tables) -> None:
    """Nobody writes to the derived tables or handles an event until the transaction ends. Raises LockNotAvailable."""
    schema = tables.metadata.schema
    names = ", ".join(f'"{schema}"."{name}"' for name in (*tables.derived, "inbox"))
    await stored.execute(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE".encode())


async def put(
    stored: Connection, rebuilt: Connection, tables: Tables, one: Compared, moving: list[str], *, remove: bool
) -> None:
    """One table: rows that differ get the rebuilt columns and keep their own, rows that are missing come.

    `remove`: rows that no event makes go. `moving`: things that are left alone, as events about them are on their way.
    """
    name = one.table
    there, aside = f'"{tables.metadata.schema}"."{name}"', f'pg_temp."rebuilt_{name}"'
    columns, where = tables.columns(name), tables.derived[name].where
    await stored.execute(f"CREATE TEMP TABLE {_temporary('rebuilt', name)} (LIKE {there}) ON COMMIT DROP".encode())
    await copy(rebuilt, f"SELECT {_list(columns)} FROM {there} WHERE {where}", stored, aside, columns)  # noqa: S608
    old, new = _temporary("old", name), _temporary("new", name)
    for place, table in ((old, there), (new, aside)):
        await _index(stored, place, f"{_described(tables, name)} FROM {table} WHERE {where}", moving)
    if remove:
        await stored.execute(
            f"DELETE FROM {there} WHERE ctid IN (SELECT at FROM {old} AS o "  # noqa: S608 (names of ours)
            f"WHERE NOT EXISTS (SELECT FROM {new} AS n WHERE n.key = o.key))".encode()
        )
    changed = [column for column in tables.compared(name) if column not in _primary(tables, name)]
    if changed:
        values = ", ".join(f'"{column}" = r."{column}"' for column in changed)
        await stored.execute(
            f"UPDATE {there} AS t SET {values} FROM {aside} AS r, {old} AS o, {new} AS n "  # noqa: S608 (as above)
            "WHERE n.key = o.key AND n.row IS DISTINCT FROM o.row AND t.ctid = o.at AND r.ctid = n.at".encode()
        )
    numbered = {column.name for column in tables.table(name).columns if column.identity is not None}
    given = _list([column for column in columns if column not in numbered])
    await stored.execute(
        f"INSERT INTO {there} ({given}) SELECT {given} FROM {aside} WHERE ctid IN (SELECT at FROM {new} AS n "  # noqa: S608
        f"WHERE NOT EXISTS (SELECT FROM {old} AS o WHERE o.key = n.key)) ORDER BY ctid".encode()
    )


def _described(tables: Tables, name: str) -> str:
    return f"SELECT ctid AS at, {key_query(tables, name)} AS key, {row_query(tables, name)} AS row"


async def _index(stored: Connection, place: str, rows: str, moving: list[str]) -> None:
    """Where each row is, by its key; without what is left alone."""
    await stored.execute(f"CREATE TEMP TABLE {place} ON COMMIT DROP AS {rows}".encode())
    await stored.execute(
        f"DELETE FROM {place} WHERE EXISTS "  # noqa: S608 (a name of ours)
        "(SELECT FROM jsonb_array_elements_text(key::jsonb) AS part WHERE part = ANY(%s))".encode(),
        (moving,),
    )
    await stored.execute(f"CREATE INDEX ON {place} (key)".encode())


def _temporary(kind: str, name: str) -> str:
    return f'"{kind}_{name}"'


def _list(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _primary(tables: Tables, name: str) -> set[str]:
    return {column.name for column in tables.table(name).primary_key}
