"""Neighbouring releases share a database: a migration only adds, and what takes away waits until nobody uses it.

Each migration runs on a real database, and what it says there is judged: raw SQL is seen as the operations are. What
the release before could not live with stands in `deploy/contracting-migrations.yaml`, with the release in which it
became safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine, make_url

from sskai import contract, database
from sskai.database import SERVICES, plain_url
from sskai.doctor.database import revisions
from sskai.service import VERSION

ALLOWED = Path("deploy/contracting-migrations.yaml")
CONTRACTING = {
    "drops a table": r"\bDROP\s+TABLE\b",
    "drops a column": r"\bALTER\s+TABLE\b.*\bDROP\s+(COLUMN\s+)?(?!CONSTRAINT|DEFAULT|NOT|IDENTITY|EXPRESSION)\w",
    "drops a function, a type, a schema or a view": r"\bDROP\s+(FUNCTION|TYPE|SCHEMA|VIEW|MATERIALIZED)\b",
    "drops a key or a constraint that upserts may name": r"\bDROP\s+CONSTRAINT\b|\bDROP\s+INDEX\b",
    "renames": r"\bALTER\s+(TABLE|INDEX|SEQUENCE|TYPE)\b.*\bRENAME\b",
    "changes a type": r"\bALTER\s+COLUMN\s+\S+\s+(SET\s+DATA\s+)?TYPE\b",
    "demands a value": r"\bALTER\s+COLUMN\s+\S+\s+SET\s+NOT\s+NULL\b",
    "takes a default away, by which others insert": r"\bALTER\s+COLUMN\s+\S+\s+DROP\s+DEFAULT\b",
    "adds a column that demands a value": r"\bADD\s+(COLUMN\s+)?(?!CONSTRAINT)\S+\s+(?!.*\bDEFAULT\b).*\bNOT\s+NULL\b",
    "adds a constraint to rows that others write": r"\bALTER\s+TABLE\b.*\bADD\s+CONSTRAINT\b",
}


def contracts(statements: Iterable[str]) -> list[str]:
    """What the release before could not live with, in words."""
    words = [" ".join(re.sub(r"\$\$.*?\$\$|'[^']*'", "", one, flags=re.DOTALL).split()) for one in statements]
    made = {name for one in words for name in re.findall(r"CREATE (?:UNLOGGED )?TABLE (\S+)", one)}
    found = []
    for one in words:
        altered = re.match(r"ALTER TABLE (?:ONLY )?(\S+)", one)
        if altered and altered[1] in made:
            continue  # nobody else knows it yet
        found += [why for why, pattern in CONTRACTING.items() if re.search(pattern, one, re.IGNORECASE)]
    return sorted(set(found))


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("ALTER TABLE g.keys DROP COLUMN admin", "drops a column"),
        ("alter table g.keys drop admin", "drops a column"),
        ("DROP TABLE IF EXISTS g.keys", "drops a table"),
        ("ALTER TABLE g.keys RENAME admin TO operator", "renames"),
        ("ALTER TABLE g.keys RENAME TO k", "renames"),
        ("ALTER TABLE g.keys ALTER COLUMN a TYPE BIGINT", "changes a type"),
        ("ALTER TABLE g.keys ALTER COLUMN a SET NOT NULL", "demands a value"),
        ("ALTER TABLE g.keys ALTER COLUMN a DROP DEFAULT", "takes a default away, by which others insert"),
        ("ALTER TABLE g.keys ADD COLUMN a TEXT NOT NULL", "adds a column that demands a value"),
        ("ALTER TABLE g.keys ADD CONSTRAINT c CHECK (a > 0)", "adds a constraint to rows that others write"),
        ("ALTER TABLE g.keys DROP CONSTRAINT c", "drops a key or a constraint that upserts may name"),
        ("DROP FUNCTION g.f", "drops a function, a type, a schema or a view"),
    ],
)
def test_what_takes_away_is_recognised(statement: str, why: str) -> None:
    assert contracts([statement]) == [why]


def test_what_only_adds_is_let_pass() -> None:
    assert contracts(
        [
            "ALTER TABLE g.keys ADD COLUMN a TEXT", "ALTER TABLE g.keys ADD COLUMN a TEXT DEFAULT '' NOT NULL",
            "CREATE TABLE g.new (a TEXT NOT NULL)", "ALTER TABLE g.new ADD CONSTRAINT c CHECK (true)",
            "CREATE INDEX i ON g.keys (a)", "ALTER TABLE g.keys ALTER COLUMN a DROP NOT NULL",
            "ALTER TABLE g.keys ENABLE ROW LEVEL SECURITY", "CREATE FUNCTION f() AS $$ BEGIN DROP TABLE x; END $$",
        ]
    ) == []  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
async def test_a_migration_only_adds_unless_it_waited_for_its_release(
    service: str, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = contract.new_id("test")
    plain = plain_url(postgres)
    async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(postgres).set(database=name).render_as_string(hide_password=False)
    said: list[str] = []

    def listening(*arguments: Any, **options: Any) -> Engine:
        engine = create_engine(*arguments, **options)
        event.listen(engine, "before_cursor_execute", lambda _c, _cu, statement, *_rest: said.append(statement))
        return engine

    monkeypatch.setattr(database, "create_engine", listening)
    allowed = {str(one["revision"]): one for one in yaml.safe_load(ALLOWED.read_text())[service]}
    for revision in revisions(service)[1]:
        said.clear()
        database.migrate(url, service, revision)
        found = contracts(said)
        entry = allowed.pop(revision, None)
        assert entry is None or set(entry["does"]) == set(found), f"{service} {revision} {found}: mend {ALLOWED}"
        assert not found or entry is not None, (
            f"{service} {revision} {', '.join(found)}: the release before still runs beside this one. "
            f"Add first, take away a release later, and then name it in {ALLOWED}"
        )
        if entry is not None:
            assert _release(entry["safe_in"]) <= _release(VERSION)
    assert not allowed, f"{ALLOWED} names revisions of {service} that are not there: {', '.join(allowed)}"


def _release(written: str) -> tuple[int, ...]:
    return tuple(map(int, written.split(".")))
