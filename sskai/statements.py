"""Statements that every request or every event executes: written with SQLAlchemy, executed by the driver itself.

Through SQLAlchemy a short statement takes more than twice the processor's time (docs/decisions/0028). What is executed
seldom stays with it; both may be in one transaction.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.selectable import ReturnsRows

EXECUTE = "execute"  # of a session's `info`: how its transaction executes what is compiled already
Execute: TypeAlias = Callable[[AsyncSession, str, Mapping[str, Any]], Awaitable[Sequence[Any]]]
DIALECT = PGDialectAsync_psycopg()  # type: ignore[no-untyped-call]


class Statement:
    """Compiled once. `columns`: of an INSERT without VALUES, those that the parameters will give.

    A session's changes that are not flushed are not seen by it.
    """

    def __init__(self, statement: Executable, columns: Sequence[str] = ()) -> None:
        assert isinstance(statement, ClauseElement)
        compiled = statement.compile(dialect=DIALECT, column_keys=list(columns) or None)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._row = _named(statement)
        self._given = dict(compiled.params)  # with the values that the statement itself holds
        self._adapted = {}
        for name, parameter in compiled.binds.items():
            if adapt := parameter.type.dialect_impl(DIALECT).bind_processor(DIALECT):
                self._adapted[name] = adapt

    async def all(self, session: AsyncSession, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows, by the names of their columns (not of a textual statement); none of one that returns none. Raises
        what a session raises."""
        given = {**self._given, **values}
        for name, adapt in self._adapted.items():
            given[name] = adapt(given[name])
        execute: Execute = session.info[EXECUTE]
        rows = await execute(session, self.text, given)
        return rows if self._row is None else [self._row(row) for row in rows]

    async def first(self, session: AsyncSession, values: Mapping[str, Any]) -> Any:
        """The first row; None: there is none."""
        rows = await self.all(session, values)
        return rows[0] if rows else None


def _named(statement: ClauseElement) -> Callable[[Iterable[Any]], Any] | None:
    """What makes a row a named tuple; None: the columns of a text are not known."""
    if not isinstance(statement, ReturnsRows):
        return None
    names = [name or "" for name in statement.exported_columns.keys()]  # noqa: SIM118 (no mapping)
    row: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]
    make: Callable[[Iterable[Any]], Any] = row._make
    return make
