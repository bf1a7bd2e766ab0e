"""What all commands share: the client, tables and JSON, names of things, job files."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from typer.core import TyperGroup

from sskai.client import Client, Document
from sskai.client.documents import Endpoint, Job
from sskai.client.wire import Progress as Told
from sskai.client.wire import nothing_sent
from sskai.profiles import Address, find

T = TypeVar("T")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
RETRY_SECONDS = 15.0
MAX_SHOWN_CHARACTERS = 300
PIPE_CHARACTERS = 1_000

out = Console()
err = Console(stderr=True)


@dataclass
class Chosen:
    """What was said before the command."""

    profile: str | None = None


chosen = Chosen()


def address() -> Address:
    """Which gateway is meant."""
    # Only an option beats the environment's address; the variable names what is used where there is none.
    return find(chosen.profile if chosen.profile != os.environ.get("SSKAI_PROFILE") else None)


def connect() -> Client:
    """The gateway's client."""
    found = address()
    return Client(found.url, found.key, retry_seconds=RETRY_SECONDS)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show(rows: Iterable[Mapping[str, Any]] | Mapping[str, Any], columns: list[str], as_json: bool) -> None:
    """A table of the named fields (`end.reason` is one within another), or JSON."""
    if as_json:
        print_json(rows if isinstance(rows, Mapping) else list(rows))
        return
    table = Table(box=None, padding=(0, 1))
    for column in columns:
        # An id is there to be copied: it is never cut.
        table.add_column(column, no_wrap=column == "id", overflow="ignore" if column == "id" else "fold")
    for row in [rows] if isinstance(rows, Mapping) else rows:
        table.add_row(*(escape(_cell(row, column)) for column in columns))
    # A program that reads a table should find it whole.
    (out if out.is_terminal else Console(width=PIPE_CHARACTERS)).print(table)


def show_one(document: Mapping[str, Any], as_json: bool) -> None:
    """All of one document: JSON in a pipe, fields and their values where somebody reads."""
    if as_json or not out.is_terminal:
        print_json(document)
        return
    table = Table(box=None, padding=(0, 1), show_header=False)
    for name, value in document.items():
        fields = (
            {f"{name}.{field}": one for field, one in value.items()} if isinstance(value, Mapping) else {name: value}
        )
        for field, one in fields.items():
            if one not in (None, "", [], {}):
                table.add_row(f"[cyan]{escape(field)}[/cyan]", escape(_in_short(one)))
    out.print(table)


def _in_short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}... (--json shows all)"


def done(text: str, as_json: bool, **facts: Any) -> None:
    """What was done, in words or as JSON."""
    if as_json:
        print_json(facts)
    else:
        print(text)


def _cell(row: Mapping[str, Any], path: str) -> str:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if path.endswith("_at") and isinstance(value, str):
        return value[:16].replace("T", " ")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def fail(message: str, code: int = 1) -> typer.Exit:
    """Say it, and be raised: `raise fail("...")`."""
    err.print(message, highlight=False, markup=False)
    return typer.Exit(code)


def confirm(question: str, yes: bool) -> None:
    """Ask before something is lost. Without a terminal nobody can answer: then `--yes` must have been said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise fail(f"{question} Say --yes to do it without being asked.", 2)
    typer.confirm(question, abort=True)


def read_file(path: Path) -> Document:
    """A job or endpoint file, YAML or JSON. Exits with code 2 and the reason when it is neither."""
    try:
        job = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise fail(f"{path} cannot be read as a job file: {error}", 2) from error
    if not isinstance(job, dict):
        raise fail(f"{path} is no job file: it should be a mapping with `kind: finetune` or `kind: endpoint`", 2)
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in job.items()}


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean ...?`, or nothing."""
    close = difflib.get_close_matches(word, [*known], n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else ""


def find_endpoint(client: Client, reference: str) -> Endpoint:
    """By id, or by name: the newest of it that is not deleted."""
    if reference.startswith("endpoint_"):
        return client.endpoints.get(reference)
    known = list(client.endpoints.list())
    living = [one for one in known if one["name"] == reference and one["state"] != "deleted"]
    return _first(living, "endpoint", reference, (one["name"] for one in known if one["state"] != "deleted"))


def find_job(client: Client, reference: str) -> Job:
    """By id, or by name: the newest of it."""
    if reference.startswith("job_"):
        return client.jobs.get(reference)
    known = list(client.jobs.list())
    found = _first([one for one in known if one["name"] == reference], "job", reference, (one["name"] for one in known))
    return client.jobs.get(found["id"])


def _first(found: list[T], kind: str, reference: str, known: Iterable[str]) -> T:
    if not found:
        hint = nearest(reference, sorted(set(known)))
        raise fail(f"There is no {kind} {reference!r}. {hint}".strip())
    return found[0]


def uploading(name: str, send: Callable[[Told], T], as_json: bool) -> T:
    """Send, with a bar on stderr where somebody looks."""
    if as_json or not err.is_terminal:
        return send(nothing_sent)
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(escape(name), total=None)

        def told(sent: int, total: int) -> None:
            what = name if sent < total else f"{name}: sent, being checked"
            bar.update(task, completed=sent, total=total, description=escape(what))

        return send(told)


class FileOrCommand(TyperGroup):
    """A group whose command `file` need not be written: `sskai plan job.yaml` is `sskai plan file job.yaml`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["file", *args]
        return super().parse_args(ctx, args)
