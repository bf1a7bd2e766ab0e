"""`sskai train`: a job from flags, its data uploaded on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from sskai.cli import common, complete, plan
from sskai.cli.common import AsJson
from sskai.cli.data import name_of
from sskai.cli.follow import follow
from sskai.client import Client, Document, SskaiError
from sskai.client.wire import DATASET_TYPES

DATASET = "dataset://"


def add_to(app: typer.Typer) -> None:
    app.command("train")(train)


def train(  # noqa: PLR0917 (typer gives options by name)
    data: Annotated[
        str | None,
        typer.Option(
            help="A file, which is uploaded, or a dataset: NAME, NAME@VERSION.", autocompletion=complete.datasets
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The foundation model to start from.", autocompletion=complete.models)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Or a model of your own: NAME@VERSION.", autocompletion=complete.models),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The job's name, and its model's. By default the data's.")] = None,
    method: Annotated[str, typer.Option(help="lora, qlora, full or scratch.")] = "lora",
    rank: Annotated[int | None, typer.Option(min=1, help="Of LoRA.")] = None,
    epochs: Annotated[float | None, typer.Option(help="How often the data is gone through.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps at most.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    budget: Annotated[float | None, typer.Option(help="USD that it may cost; hard.")] = None,
    deadline: Annotated[str | None, typer.Option(help="6h, or a time with its offset.")] = None,
    max_price: Annotated[float | None, typer.Option(help="USD an hour.")] = None,
    spot: Annotated[str | None, typer.Option(help="auto, spot or on-demand.")] = None,
    accelerators: Annotated[str | None, typer.Option(help="For example L4:1.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="cheapest, fastest, cheapest-within-deadline or fastest-within-budget.")
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Show what it would run on and cost; submit nothing.")
    ] = False,
    show_file: Annotated[bool, typer.Option("--print", help="Print the job file; submit and upload nothing.")] = False,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Show its progress until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model: upload the data if it is a file, make a job file of the flags, submit it.

    sskai train --data chats.jsonl --base smollm2-135m-instruct --budget 5 --deadline 6h --follow
    """
    if (base is None) == (model is None):
        raise common.fail("Say --base, a foundation model (`sskai models list`), or --model, one of your own.", 2)
    file = Path(data) if data and Path(data).is_file() else None
    if data and file is None and _names_a_file(data):
        raise common.fail(f"--data {data}: there is no such file, and a dataset is NAME or NAME@VERSION", 2)
    called = name or (name_of(file) if file else _plain(data or model or base or ""))
    hyperparameters = _given(n_epochs=epochs, max_steps=steps, batch_size=batch_size, learning_rate=learning_rate)
    job = _given(
        kind="train" if method == "scratch" and not data else "finetune",
        name=called,
        model=_given(base=base, artifact=_artifact(model), method=method, rank=rank),
        dataset={"uri": _reference(data)} if data and file is None else None,
        hyperparameters=hyperparameters or None,
        budget={"total_usd": budget} if budget else None,
        deadline=deadline,
        max_price=max_price,
        spot_policy=spot,
        resources={"accelerators": accelerators} if accelerators else None,
        objective=objective,
    )
    if show_file:
        if file:
            job["dataset"] = {"uri": f"{DATASET}{name_of(file)}"}
        common.print_json(job) if as_json else print(yaml.safe_dump(job, sort_keys=False), end="")
        return
    with common.connect() as client:
        if file:
            job["dataset"] = {"uri": _uploaded(client, file, as_json)}
        try:
            if show_plan:
                plan.show(client.plans.create(job), explain=False, as_json=as_json)
                return
            submitted = client.jobs.create(job)
        except SskaiError as error:
            _hint(client, error, base)
            raise
        if not (following and as_json):
            common.show(submitted, ["id", "name", "state"], as_json)
        if following:
            raise typer.Exit(follow(client, submitted["id"], as_json=as_json))


def _names_a_file(data: str) -> bool:
    """What is no file here and cannot be meant as a dataset's name."""
    return not data.startswith(DATASET) and ("/" in data or Path(data).suffix.lower() in DATASET_TYPES)


def _uploaded(client: Client, file: Path, as_json: bool) -> str:
    name = name_of(file)
    made = common.uploading(file.name, lambda told: client.datasets.upload(file, name, progress=told), as_json)
    common.err.print(f"{file}: {made['rows']} rows as {name}@{made['version']}", highlight=False, markup=False)
    return made["uri"]


def _hint(client: Client, error: SskaiError, base: str | None) -> None:
    """A misspelt foundation model is the likeliest mistake."""
    if base and str(error.problem.get("field", "")).startswith("model"):
        hint = common.nearest(base, (one["id"] for one in client.models.list()))
        if hint:
            error.problem["advice"] = hint


def _reference(data: str) -> str:
    """As a job file names a dataset: NAME@VERSION is dataset://NAME/VERSION."""
    plain = data.removeprefix(DATASET)
    return data if plain.startswith("dataset_") else DATASET + plain.replace("@", "/")


def _artifact(model: str | None) -> str | None:
    if model is None or model.startswith("model://"):
        return model
    return "model://" + model.replace("@", "/")


def _plain(reference: str) -> str:
    return name_of(Path(reference.removeprefix(DATASET).partition("@")[0].partition("/")[0]))


def _given(**values: Any) -> Document:
    return {name: value for name, value in values.items() if value is not None}
