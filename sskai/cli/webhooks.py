"""`sskai webhooks`: events to an address of yours, signed."""

from __future__ import annotations

from typing import Annotated

import typer

from sskai.cli import common, complete
from sskai.cli.common import AsJson, Yes

app = typer.Typer(no_args_is_help=True, help="Events to an address of yours, signed.")

COLUMNS = ["id", "url", "types", "created_at", "disabled_at"]
DELIVERY_COLUMNS = ["id", "type", "tries", "told_at", "delivered_at", "next_try_at", "last_status", "last_problem"]
Webhook = Annotated[str, typer.Argument(autocompletion=complete.webhooks)]


@app.command("create")
def create(
    url: str,
    types: Annotated[str, typer.Option(help="Only these event types, separated by commas.")] = "",
    as_json: AsJson = False,
) -> None:
    """Have events sent to an address. The signing secret is shown once."""
    with common.connect() as client:
        made = client.webhooks.create(url, [kind for kind in types.split(",") if kind])
    if as_json:
        common.print_json(made)
        return
    common.err.print(f"{made['id']}: keep the secret, it is not shown again.", highlight=False, markup=False)
    print(made.get("secret", ""))


@app.command("list")
def list_webhooks(as_json: AsJson = False) -> None:
    """Where events are sent."""
    with common.connect() as client:
        common.show(client.webhooks.list(), COLUMNS, as_json)


@app.command("show")
def show_webhook(webhook_id: Webhook, as_json: AsJson = False) -> None:
    """One, and what became of the newest events for it."""
    with common.connect() as client:
        found = client.webhooks.get(webhook_id)
    common.show(found, COLUMNS, as_json)
    if not as_json:
        common.show(found.get("deliveries") or [], DELIVERY_COLUMNS, as_json=False)


@app.command("deliveries")
def deliveries(
    webhook_id: Webhook,
    state: Annotated[str | None, typer.Option(help="For example failed.")] = None,
    as_json: AsJson = False,
) -> None:
    """What became of events for it."""
    with common.connect() as client:
        common.show(client.webhooks.deliveries(webhook_id, state), DELIVERY_COLUMNS, as_json)


@app.command("test")
def try_out(webhook_id: Webhook, as_json: AsJson = False) -> None:
    """Send it an event of no meaning."""
    with common.connect() as client:
        common.show(client.webhooks.test(webhook_id), ["delivery_id"], as_json)


@app.command("replay")
def replay(
    webhook_id: Webhook,
    delivery: Annotated[str | None, typer.Option(help="This delivery alone.")] = None,
    after: Annotated[str | None, typer.Option(help="All after this position or time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send again what was not taken."""
    if (delivery is None) == (after is None):
        raise common.fail("Say --delivery ID, or --after POSITION (or a time).", 2)
    with common.connect() as client:
        if delivery is not None:
            common.show_one(client.webhooks.replay_delivery(webhook_id, delivery), as_json)
        else:
            since = after or ""
            told = client.webhooks.replay(webhook_id, after=int(since) if since.isdecimal() else since)
            common.show_one(told, as_json)


@app.command("secret")
def rotate(webhook_id: Webhook, yes: Yes = False, as_json: AsJson = False) -> None:
    """A new signing secret, shown once."""
    common.confirm(f"Give {webhook_id} a new secret?", yes)
    with common.connect() as client:
        made = client.webhooks.rotate_secret(webhook_id)
    if as_json:
        common.print_json(made)
    else:
        print(made.get("secret", ""))


@app.command("delete")
def delete(webhook_id: Webhook, yes: Yes = False, as_json: AsJson = False) -> None:
    """Nothing more is sent there."""
    common.confirm(f"Delete the webhook {webhook_id}?", yes)
    with common.connect() as client:
        client.webhooks.delete(webhook_id)
    common.done(f"{webhook_id} is deleted.", as_json, id=webhook_id, deleted=True)
