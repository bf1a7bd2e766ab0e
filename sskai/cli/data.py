"""`sskai data`: datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sskai.cli import common, complete
from sskai.cli.common import AsJson, Yes

app = typer.Typer(no_args_is_help=True, help="Datasets.")

COLUMNS = ["id", "name", "version", "format", "rows", "bytes"]
Dataset = Annotated[str, typer.Argument(help="Its id, NAME@VERSION or NAME.", autocompletion=complete.datasets)]


@app.command("upload")
def upload(
    file: Path,
    name: Annotated[str | None, typer.Option(help="The dataset's name; the file's if it is not said.")] = None,
    resume: Annotated[str | None, typer.Option(help="The id of an upload of this file that broke off.")] = None,
    as_json: AsJson = False,
) -> None:
    """Upload JSON Lines, CSV, Parquet or a zip of images; a broken row is named. Over 64 MiB it goes in parts."""
    called = name or name_of(file)
    with common.connect() as client:
        made = common.uploading(
            file.name,
            lambda told: client.datasets.upload(file, called, progress=told, resume=resume),
            as_json,
        )
    common.show(made, COLUMNS, as_json)


@app.command("list")
def list_data(
    name: Annotated[str | None, typer.Option(help="Of this name only.")] = None, as_json: AsJson = False
) -> None:
    """Your datasets, newest first."""
    with common.connect() as client:
        common.show(client.datasets.list(name), COLUMNS, as_json)


@app.command("show")
def show_data(dataset: Dataset, as_json: AsJson = False) -> None:
    """What is known of one dataset, with its report of lengths, duplicates and classes."""
    with common.connect() as client:
        common.show_one(client.datasets.get(dataset), as_json)


@app.command("preview")
def preview(
    dataset: Dataset,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=20)] = 5,
    as_json: AsJson = False,
) -> None:
    """Its first rows, one a line."""
    with common.connect() as client:
        found = client.datasets.preview(dataset, rows)
    if as_json:
        common.print_json(found)
        return
    for row in found:
        print(json.dumps(row, ensure_ascii=False))


@app.command("delete")
def delete(dataset: Dataset, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a dataset. What was trained on it stays."""
    common.confirm(f"Delete the dataset {dataset}?", yes)
    with common.connect() as client:
        client.datasets.delete(dataset)
    common.done(f"{dataset} is deleted.", as_json, id=dataset, deleted=True)


def name_of(file: Path) -> str:
    """What a dataset of this file may be called."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in file.stem.lower())
    return plain.strip("-")[:63].rstrip("-") or "data"
