"""A person whom the identity provider vouches for becomes a user of ours, and a member wherever they were invited."""

from __future__ import annotations

from datetime import datetime

from services.gateway import asking
from services.gateway.asking import Asking
from services.gateway.keys import Actor
from services.gateway.people import People, Person
from services.gateway.tables import UserRow
from sskai.database import Database


async def welcome(database: Database, person: Person, now: datetime, *, invited_only: bool) -> UserRow | None:
    """The person's row. None: nobody invited them, and only the invited may come."""
    async with database.transaction() as session:
        people = People(session)
        invitations = await people.invitations(person.email)
        known = await people.user_named(person.issuer, person.subject)
        may_come = not invited_only or invitations or (known and await people.memberships(known.user_id))
        if not may_come:
            return None
        if known is not None and not invitations and not _news(person, known):
            return known
        user = await people.known(person, now)
    actor = Actor("user", user.user_id, user.email or user.name)
    for tenant_id, member_id in invitations:
        asking.begin(Asking(tenant_id, actor, "member.join", member_id, as_owner=True))
        async with database.transaction() as session:
            await People(session).join(member_id, user)
    return user


def _news(person: Person, known: UserRow) -> bool:
    return person.name != known.name or person.email not in ("", known.email)
