"""Whose a thing is, its first event says; an event of another tenant about it changes nothing and is set aside.

Everybody who can publish could write any `tenant_id` into an event. Handlers trust it where a service knows nothing of
the thing yet; once it does, this check stands before all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from sskai import contract


class Owned(dict[type[Message], Any]):
    """Handlers of one service, and by the field of an event that names a thing, the tables that know whose it is.

    Of an event's own field alone; what a table needs is that column and `tenant_id`.
    """

    def __init__(self, handlers: Mapping[type[Message], Any], owners: Mapping[str, Sequence[type[Any]]]) -> None:
        super().__init__(handlers)
        self.owners = owners

    async def refuse_foreign(self, session: AsyncSession, event: Message) -> None:
        """Raises ForeignEventError: it names what another tenant has."""
        if "tenant_id" not in event.DESCRIPTOR.fields_by_name:
            return  # the market's and the cloud's facts are of no tenant
        told = contract.tenant_of(event)
        for field, tables in self.owners.items():
            named = getattr(event, field, "") if field in event.DESCRIPTOR.fields_by_name else ""
            for table in tables if named else ():
                owner = await session.scalar(select(table.tenant_id).where(getattr(table, field) == named).limit(1))
                if owner is not None and owner != told:
                    kind = event.DESCRIPTOR.name
                    raise contract.ForeignEventError(f"{kind} of {told or 'no tenant'}: {field} {named} is another's")
