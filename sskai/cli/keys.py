"""`sskai keys`: API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from sskai.cli import common, complete
from sskai.cli.common import AsJson, Yes

app = typer.Typer(no_args_is_help=True, help="API keys.")

COLUMNS = ["id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"]


@app.command("create")
def create(
    name: str,
    scope: Annotated[list[str] | None, typer.Option(help="read, infer, write or admin; several times.")] = None,
    expires: Annotated[str | None, typer.Option(help="After so long: 90d.")] = None,
    tenant: Annotated[str | None, typer.Option(help="For another project; the operator's to say.")] = None,
    as_json: AsJson = False,
) -> None:
    """A new key. Its text is shown once, on stdout alone: `KEY=$(sskai keys create ci)`."""
    with common.connect() as client:
        made = client.keys.create(name, tenant, scopes=scope or None, expires_in=expires)
    if as_json:
        common.print_json(made)
        return
    common.err.print(
        f"{made['id']} {made['name']}: keep the key, it is not shown again.", highlight=False, markup=False
    )
    print(made.get("key", ""))


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """The project's keys, newest first."""
    with common.connect() as client:
        common.show(client.keys.list(), COLUMNS, as_json)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(autocompletion=complete.keys)], yes: Yes = False, as_json: AsJson = False
) -> None:
    """End a key at once."""
    common.confirm(f"End the key {key_id}? Whatever uses it stops working.", yes)
    with common.connect() as client:
        client.keys.revoke(key_id)
    common.done(f"{key_id} is ended.", as_json, id=key_id, ended=True)
