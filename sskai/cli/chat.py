"""`sskai chat`: one question, or a conversation."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from sskai.cli import common, complete
from sskai.cli.common import AsJson
from sskai.client import Client, Document, SskaiError

MISSING = 404
HELP = "Ctrl-D ends; /new begins anew; /system TEXT sets what it is told first."


def add_to(app: typer.Typer) -> None:
    app.command("chat")(chat)


def chat(  # noqa: PLR0917 (typer gives options by name)
    model: Annotated[str, typer.Argument(help="An endpoint's name.", autocompletion=complete.endpoints)],
    message: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1)] = 256,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    system: Annotated[str | None, typer.Option(help="What it is told first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask an endpoint. Answers come as they are written; without a question it is a conversation with a memory."""
    options: Document = {"max_tokens": max_tokens} | ({} if temperature is None else {"temperature": temperature})
    before = [{"role": "system", "content": system}] if system else []
    if message is None and not sys.stdin.isatty():
        message = sys.stdin.read().strip()  # a question by a pipe
        if not message:
            raise common.fail("There is no question: say one, or pipe it in.", 2)
    with common.connect() as client:
        try:
            if message is None:
                _converse(client, model, before, options)
            elif as_json:
                asked = [*before, {"role": "user", "content": message}]
                common.print_json(client.chat.create(model, asked, **options))
            else:
                _say(client, model, [*before, {"role": "user", "content": message}], options)
        except SskaiError as error:
            if error.status == MISSING:
                known = {one["name"] for one in client.endpoints.list() if one["state"] != "deleted"}
                error.problem["advice"] = common.nearest(model, sorted(known)) or "`sskai endpoints list` shows them."
            raise


def _converse(client: Client, model: str, before: list[dict[str, Any]], options: Document) -> None:
    with suppress(ImportError):
        import readline  # noqa: F401 (the line can be edited, and earlier ones come back)
    common.err.print(f"[dim]{HELP}[/dim]", highlight=False)
    messages = [*before]
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            print()
            return
        if line == "/new":
            messages = [*before]
        elif line.startswith("/system "):
            before = [{"role": "system", "content": line.removeprefix("/system ")}]
            messages = [*before]
        elif line:
            messages.append({"role": "user", "content": line})
            try:
                messages.append({"role": "assistant", "content": _say(client, model, messages, options)})
            except KeyboardInterrupt:
                messages.pop()  # the answer was cut short: the question counts as not asked
                print()


def _say(client: Client, model: str, messages: list[dict[str, Any]], options: Document) -> str:
    """Print an answer as it comes; all of it."""
    pieces = []
    for piece in client.chat.stream(model, messages, **options):
        pieces.append(piece)
        print(piece, end="", flush=True)
    print()
    return "".join(pieces)
