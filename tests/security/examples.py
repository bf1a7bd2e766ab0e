"""The contract's golden examples, told of other ids and tenants, and a database's rows as one checksum."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import text

from sskai import contract
from sskai.database import Database

FOLDER = Path(__file__).parents[2] / "proto" / "examples" / "v1"
JOB, ENDPOINT = "job_01jdq4v7m2c8r5t9w3x6y0z1ab", "endpoint_01jdq5f7h1j3k5m7n9p2q4r6st"
PLAN, TENANT = "plan_01jdq4vb3d5f7h9k1m2n4p6q8r", "tenant_default"


@cache
def _text(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text()


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def example(name: str, **instead: str) -> Any:
    """The event of this name; `instead`: by field, what stands there in place of the example's own text."""
    document = json.loads(_text(name))
    written = json.dumps(document)
    for field, value in instead.items():
        for old in _texts(document["data"], field):
            written = written.replace(json.dumps(old), json.dumps(value))
    message: Message = contract.from_cloudevent(json.loads(written)).message
    return message


def of_tenant(name: str, tenant_id: str) -> Any:
    """The example as it stands, of another tenant."""
    return contract.from_cloudevent(json.loads(_text(name).replace(TENANT, tenant_id))).message


def _texts(document: Any, field: str) -> set[str]:
    if isinstance(document, list):
        return set().union(*(_texts(one, field) for one in document))
    if not isinstance(document, dict):
        return set()
    own = {document[field]} if isinstance(document.get(field), str) else set()
    return own.union(*(_texts(one, field) for one in document.values()))


async def checksum(database: Database, *, besides: str) -> dict[str, str]:
    """By table, a digest of all rows that are not of the tenant `besides`: whatever somebody else owns, or nobody."""
    found: dict[str, str] = {}
    async with database.transaction() as session:
        listed = await session.execute(
            text(
                "SELECT t.table_name, bool_or(c.column_name = 'tenant_id') FROM information_schema.tables t "
                "JOIN information_schema.columns c USING (table_schema, table_name) "
                "WHERE t.table_schema = :schema GROUP BY 1 ORDER BY 1"
            ),
            {"schema": database.schema},
        )
        for table, has_tenant in listed.all():
            if table in ("inbox", "outbox", "alembic_version"):
                continue
            only = "WHERE tenant_id <> :tenant" if has_tenant else ""
            rows = await session.execute(
                text(f'SELECT t::text FROM "{database.schema}"."{table}" t {only} ORDER BY 1'),
                {"tenant": besides} if has_tenant else {},
            )
            digest = hashlib.sha256("\n".join(rows.scalars()).encode()).hexdigest()
            found[table] = digest
    return found
