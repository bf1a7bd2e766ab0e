"""Which tables of a service its events alone make, and which not: said once, table by table, in its `derived.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.ext.asyncio import AsyncSession

from sskai.contract import topic_of
from sskai.database import Database
from sskai.delivery import Handlers

LEASE = ("due_at", "lease_until", "lease_token")  # of a row that loops work on (`sskai.claims`)
DELIVERY = ("inbox", "outbox")  # of every service: what was handled, and what is still to be told


@dataclass(frozen=True)
class Derived:
    """A table whose rows the handlers make of events alone, in whatever order those of different things come.

    `own`: columns that no event says, such as leases and when something was handled. They are not compared; a row that
    is put back keeps them. `where`: which rows are meant, in SQL; the others are as those of a kept table that is
    `seeded`. `key`: in SQL, where the primary key is not what tells rows apart. `compared`: how to read a column of
    which not all is of events, in SQL.
    """

    own: tuple[str, ...] = ()
    where: str = "true"
    key: tuple[str, ...] = ()
    compared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """A table that cannot be had from events, and why. `seeded`: handlers ask it, so a rebuild begins with its rows."""

    why: str
    seeded: bool = False


@dataclass(frozen=True)
class Tables:
    """All tables of a service but `DELIVERY`. `unbound`: unique indexes that requests have to meet when they are made;
    events of several things may pass each other, so a rebuild goes without them."""

    metadata: MetaData
    derived: Mapping[str, Derived]
    kept: Mapping[str, Kept]
    unbound: tuple[str, ...] = ()

    def table(self, name: str) -> Table:
        return self.metadata.tables[f"{self.metadata.schema}.{name}"]

    def columns(self, name: str) -> list[str]:
        return [column.name for column in self.table(name).columns]

    def key(self, name: str) -> tuple[str, ...]:
        """What tells rows apart, in SQL."""
        return self.derived[name].key or tuple(f'"{column.name}"' for column in self.table(name).primary_key)

    def compared(self, name: str) -> dict[str, str]:
        """The columns that are compared, and how each is read, in SQL."""
        derived = self.derived[name]
        return {
            column: derived.compared.get(column, f'"{column}"')
            for column in self.columns(name)
            if column not in derived.own
        }

    def seeds(self) -> dict[str, str]:
        """What a rebuild begins with: tables, and which of their rows, in SQL."""
        return {name: "true" for name, one in self.kept.items() if one.seeded} | {
            name: f"NOT ({one.where})" for name, one in self.derived.items() if one.where != "true"
        }


@dataclass(frozen=True)
class Projection:
    """A service's state as a function of events. `forget` deletes what is past its time, as the service's loop does."""

    service: str
    handlers: Handlers
    store: Callable[[AsyncSession], Any]
    tables: Tables
    forget: Callable[[Database], Awaitable[None]] | None = None

    @property
    def topics(self) -> list[str]:
        return sorted({topic_of(message) for message in self.handlers})
