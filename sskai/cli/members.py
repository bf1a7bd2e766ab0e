"""`sskai members`: people in the project."""

from __future__ import annotations

from typing import Annotated

import typer

from sskai.cli import common
from sskai.cli.common import AsJson, Yes
from sskai.client import Client
from sskai.client.documents import Member

app = typer.Typer(no_args_is_help=True, help="People in the project, and their roles.")

COLUMNS = ["id", "email", "name", "role", "state"]
Who = Annotated[str, typer.Argument(help="A member's id or address.")]
Role = Annotated[str, typer.Argument(help="viewer, developer or admin.")]


@app.command("list")
def list_members(as_json: AsJson = False) -> None:
    """Everybody in the project."""
    with common.connect() as client:
        common.show(client.members.list(), COLUMNS, as_json)


@app.command("invite")
def invite(email: str, role: Role = "developer", as_json: AsJson = False) -> None:
    """Let somebody in, who joins by signing in with this address."""
    with common.connect() as client:
        common.show(client.members.invite(email, role), COLUMNS, as_json)


@app.command("role")
def change_role(member: Who, role: Role, as_json: AsJson = False) -> None:
    """Give a member another role."""
    with common.connect() as client:
        common.show(client.members.change(_find(client, member)["id"], role), COLUMNS, as_json)


@app.command("remove")
def remove(member: Who, yes: Yes = False, as_json: AsJson = False) -> None:
    """Take somebody out of the project."""
    with common.connect() as client:
        found = _find(client, member)
        common.confirm(f"Take {found['email']} out of the project?", yes)
        client.members.remove(found["id"])
    common.done(f"{found['email']} is out.", as_json, id=found["id"], removed=True)


def _find(client: Client, reference: str) -> Member:
    known = list(client.members.list())
    for member in known:
        if reference in (member["id"], member["email"]):
            return member
    hint = common.nearest(reference, (member["email"] for member in known))
    raise common.fail(f"There is no member {reference!r}. {hint}".strip())
