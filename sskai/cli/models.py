"""`sskai models`: foundation models, trained versions, models of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sskai.cli import common, complete
from sskai.cli.common import AsJson, Yes

app = typer.Typer(no_args_is_help=True, help="Foundation models and your own versions.")
aliases = typer.Typer(no_args_is_help=True, help="What NAME@champion and NAME@challenger mean.")
app.add_typer(aliases, name="aliases")

COLUMNS = ["id", "task", "parameters", "owned_by", "parent", "licence", "available"]
Model = Annotated[str, typer.Argument(help="Its id, NAME@VERSION or NAME.", autocompletion=complete.models)]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """What can be fine-tuned or deployed."""
    with common.connect() as client:
        common.show(client.models.list(), COLUMNS, as_json)


@app.command("show")
def show_model(model: Model, as_json: AsJson = False) -> None:
    """What is known of one model."""
    with common.connect() as client:
        common.show_one(client.models.get(model), as_json)


@app.command("upload")
def upload_model(
    path: Path, name: Annotated[str, typer.Option(help="The model's name.")], as_json: AsJson = False
) -> None:
    """Upload a folder that save_pretrained() wrote, or a zip of a model as code."""
    if not path.exists():
        raise common.fail(f"{path} is not there: name a folder of a saved model, or a zip with model.py and data.py", 2)
    with common.connect() as client:
        made = common.uploading(path.name, lambda told: client.models.upload(path, name, progress=told), as_json)
    common.show(made, ["id", "name", "version", "origin", "task", "parameters", "bytes"], as_json)


@app.command("delete")
def delete(model: Model, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a version, or a model of your own."""
    common.confirm(f"Delete the model {model}?", yes)
    with common.connect() as client:
        client.models.delete(model)
    common.done(f"{model} is deleted.", as_json, id=model, deleted=True)


@aliases.command("list")
def list_aliases(name: Model, as_json: AsJson = False) -> None:
    """The aliases of a model."""
    with common.connect() as client:
        common.show(client.models.aliases(name), ["model", "alias", "version"], as_json)


@aliases.command("move")
def move_alias(
    name: Model,
    alias: Annotated[str, typer.Argument(help="champion or challenger.")],
    version: Annotated[int, typer.Argument(min=1)],
    as_json: AsJson = False,
) -> None:
    """Have an alias mean a version. Endpoints stay what they are."""
    with common.connect() as client:
        common.show(client.models.move_alias(name, alias, version), ["model", "alias", "version"], as_json)
