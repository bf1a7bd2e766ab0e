"""The contract's golden examples, told of other ids and tenants, and a database's rows as one checksum."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import text

from sskai import contract
from sskai.database import Database

FOLDER = Path(__file__).parents[2] / "proto" / "examples" / "v1"
TENANT = "tenant_default"
NOBODYS = ("inbox", "outbox", "alembic_version")
_COLUMNS = text(
    "SELECT table_name, bool_or(column_name = 'tenant_id') FROM information_schema.columns "
    "WHERE table_schema = :schema GROUP BY 1 ORDER BY 1"
)


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
    async with database.transaction() as session:
        listed = await session.execute(_COLUMNS, {"schema": database.schema})
        asked = " UNION ALL ".join(
            f"SELECT '{table}', md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM {database.schema}.{table} t "
            + ("WHERE tenant_id <> :tenant" if has_tenant else "")
            for table, has_tenant in listed.all()
            if table not in NOBODYS
        )
        return {table: digest or "" for table, digest in await session.execute(text(asked), {"tenant": besides})}
