"""Whose a thing is, its first event says; an event of another tenant about it changes nothing and is set aside.

Everybody who can publish could write any `tenant_id` into an event. Handlers trust it where a service knows nothing of
the thing yet; once it does, this check stands before all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf.message import Message
from sqlalchemy import ScalarSelect, bindparam, select

from sskai import contract

Asked: TypeAlias = tuple[tuple[str, type[Any]], ...]


class Owned(dict[type[Message], Any]):
    """Handlers of one service, and by the field of an event that names a thing, the tables that know whose it is.

    Of an event's own field alone; what a table needs is that column and `tenant_id`.
    """

    def __init__(self, handlers: Mapping[type[Message], Any], owners: Mapping[str, Sequence[type[Any]]]) -> None:
        super().__init__(handlers)
        self.owners = owners

    def asked(self, event: Message) -> Asked:
        """The things of somebody's that such an event names: by which field, and the table that knows whose it is."""
        fields = event.DESCRIPTOR.fields_by_name
        if "tenant_id" not in fields:
            return ()  # the market's and the cloud's facts are of no tenant
        return tuple((field, table) for field, tables in self.owners.items() if field in fields for table in tables)


def owners(asked: Asked) -> list[ScalarSelect[str]]:
    """A query for the owner of each; the parameters are those of `names`."""
    tables = [(field, table.__table__.c) for field, table in asked]
    return [
        select(columns.tenant_id).where(columns[field] == bindparam(f"named_{field}")).limit(1).scalar_subquery()
        for field, columns in tables
    ]


def names(event: Message, asked: Asked) -> dict[str, str]:
    """What the event names, for `owners`."""
    return {f"named_{field}": getattr(event, field) for field, _ in asked}


def refuse_foreign(event: Message, asked: Asked, owned_by: Sequence[str | None]) -> None:
    """Raises ForeignEventError: it names what another tenant has. `owned_by`: what `owners` found."""
    told = contract.tenant_of(event)
    for (field, _), owner in zip(asked, owned_by, strict=True):
        if owner is not None and owner != told:
            kind, named = event.DESCRIPTOR.name, getattr(event, field)
            raise contract.ForeignEventError(f"{kind} of {told or 'no tenant'}: {field} {named} is another's")
