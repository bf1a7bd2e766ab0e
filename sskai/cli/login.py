"""Which gateway, and as whom: profiles, and the console in the browser."""

from __future__ import annotations

import webbrowser
from typing import Annotated, Any

import typer

from sskai import profiles
from sskai.cli import common, complete
from sskai.cli.common import AsJson
from sskai.client import Client, SskaiError

MISSING = 404
CHECK_SECONDS = 10.0


def add_to(app: typer.Typer) -> None:
    app.command("login")(login)
    app.command("logout")(logout)
    app.command("whoami")(whoami)
    app.command("console")(console)


def login(
    url: Annotated[str | None, typer.Option(help="The gateway's address.")] = None,
    key: Annotated[str | None, typer.Option(help="An API key, sskai_...; asked for if it is not given.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Under which name to keep them.", autocompletion=complete.profiles)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep a gateway's address and a key as a profile, which is used from now on. The key is tried first."""
    name = profile or common.chosen.profile or profiles.FIRST
    url = url or typer.prompt("The gateway's address", default="http://127.0.0.1:8000")
    key = key or typer.prompt("API key", hide_input=True)
    if not profiles.NAME.fullmatch(name):
        raise common.fail(f"--profile {name}: use letters, digits, `_` and `-`", 2)
    if not url.startswith(("http://", "https://")):
        raise common.fail(f"--url {url}: begin with https:// (or http://)", 2)
    with Client(url, key, retry_seconds=CHECK_SECONDS) as client:
        me = _session(client)
    file = profiles.store(name, url, key)
    if as_json:
        common.print_json({"profile": name, "url": url, "file": str(file), "session": me})
    else:
        common.out.print(f"Signed in to {url}{_as(me)}; profile {name} in {file}", highlight=False, soft_wrap=True)


def logout(
    profile: Annotated[
        str | None, typer.Argument(help="The default's if not said.", autocompletion=complete.profiles)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forget a profile. Its key stays valid: `sskai keys revoke` ends one."""
    name = profile or common.chosen.profile or profiles.read().default
    if not name:
        raise common.fail("There is no profile to forget.")
    profiles.forget(name)
    common.done(f"The profile {name} is forgotten.", as_json, profile=name, forgotten=True)


def whoami(as_json: AsJson = False) -> None:
    """Which gateway is spoken to, and what the key may do there."""
    with common.connect() as client:
        found = common.address()
        me = _session(client)
    if as_json:
        common.print_json({"url": client.base_url, "source": found.source, "session": me})
        return
    print(f"{client.base_url}{_as(me)} (from {found.source})")
    if me and me.get("scopes"):
        print(f"May: {', '.join(me['scopes'])}")


def console(
    print_only: Annotated[bool, typer.Option("--print", help="Print the address; open nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open the web console, signed in. The address works once, within a few minutes."""
    with common.connect() as client:
        link = client.session.link()
    if as_json:
        common.print_json(link)
    elif print_only or not webbrowser.open(link["url"]):
        print(link["url"])
    else:
        print("The console is open in your browser.")


def _session(client: Client) -> dict[str, Any] | None:
    """Who asks. None of a gateway that has no sessions: there the key is tried by a list."""
    try:
        return {**client.session.get()}
    except SskaiError as error:
        if error.status != MISSING:
            raise
    client.request("GET", "/v1/jobs", params={"limit": 1})
    return None


def _as(session: dict[str, Any] | None) -> str:
    if not session:
        return ""
    user, tenant = session.get("user") or {}, session.get("tenant") or {}
    who = user.get("email") or ("the operator" if session.get("operator") else "a key")
    where = f" in {tenant.get('name') or tenant.get('id')}" if tenant else ""
    return f" as {who}{where}" + (f" ({session['role']})" if session.get("role") else "")
