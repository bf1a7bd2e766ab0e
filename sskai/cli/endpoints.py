"""`sskai endpoints`: models that answer."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sskai.cli import common, complete
from sskai.cli.common import AsJson, Yes
from sskai.client import Document

app = typer.Typer(no_args_is_help=True, help="Models that answer.")
retraining = typer.Typer(no_args_is_help=True, help="When an endpoint's model is trained again, and who says yes.")
app.add_typer(retraining, name="retraining")

COLUMNS = ["id", "name", "kind", "state", "model", "version"]
Endpoint = Annotated[str, typer.Argument(help="Its id or its name.", autocompletion=complete.endpoints)]


@app.command("create")
def create_endpoint(  # noqa: PLR0917 (typer gives options by name)
    name: str,
    model: Annotated[str, typer.Option(help="A base model's id, or NAME@VERSION.", autocompletion=complete.models)],
    kind: Annotated[str, typer.Option(help="adapter, serverless or spot.")] = "adapter",
    minimum: Annotated[int | None, typer.Option(help="Of kind spot: replicas at least; 0: none while idle.")] = None,
    maximum: Annotated[int | None, typer.Option(help="Of kind spot: replicas at most.")] = None,
    on_demand: Annotated[int | None, typer.Option(help="Of kind spot: replicas that are always on demand.")] = None,
    accelerators: Annotated[str | None, typer.Option(help="Of kind spot: for example L4:1.")] = None,
    mode: Annotated[str | None, typer.Option(help="New versions: suggest, approve or auto.")] = None,
    as_json: AsJson = False,
) -> None:
    """Deploy a model behind the OpenAI-compatible API, and wait until it answers."""
    counts = {"minimum": minimum, "maximum": maximum, "on_demand": on_demand}
    given: Document = {
        "replicas": {field: count for field, count in counts.items() if count is not None},
        "resources": {"accelerators": accelerators} if accelerators else {},
        "promotion": {"mode": mode} if mode else {},
    }
    more = {field: value for field, value in given.items() if value}
    with common.connect() as client:
        endpoint = client.endpoints.create(name, model, kind=kind, **more)
        ready = client.endpoints.wait(endpoint["id"])
    common.show(ready, COLUMNS, as_json)
    if ready["state"] != "ready":
        raise common.fail(f"{ready.get('reason') or ready['state']}. {ready.get('advice') or ''}".rstrip())


@app.command("list")
def list_endpoints(as_json: AsJson = False) -> None:
    """Your endpoints."""
    with common.connect() as client:
        common.show(client.endpoints.list(), COLUMNS, as_json)


@app.command("show")
def show_endpoint(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """An endpoint: its state, replicas, cold start, cost and share of traffic."""
    with common.connect() as client:
        found = client.endpoints.get(common.find_endpoint(client, endpoint)["id"])
    common.show(found, [*COLUMNS, "replicas", "cold_start_seconds", "usd_per_million_tokens"], as_json)
    traffic = found.get("traffic")
    if traffic and not as_json:
        columns = ["version", "shadow", "requests", "errors", "p95_seconds", "mean_score"]
        common.show(traffic["versions"], columns, as_json=False)


@app.command("try")
def try_version(
    endpoint: Endpoint,
    version: Annotated[str, typer.Argument(help="NAME@VERSION.", autocompletion=complete.models)],
    as_json: AsJson = False,
) -> None:
    """Try a version beside the one that answers: a canary."""
    _change(endpoint, as_json, canary=version)


@app.command("promote")
def promote_version(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """The version that is tried answers from now on."""
    _change(endpoint, as_json, promote=True)


@app.command("rollback")
def roll_back_version(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Take back the version that is tried; when none is, the last promotion."""
    _change(endpoint, as_json, roll_back=True)


def _change(endpoint: str, as_json: bool, **change: Any) -> None:
    with common.connect() as client:
        found = common.find_endpoint(client, endpoint)
        common.show(client.endpoints.change(found["id"], **change), COLUMNS, as_json)


@app.command("drift")
def drift(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """Whether its traffic still looks like what it was trained on."""
    with common.connect() as client:
        common.show_one(client.endpoints.drift(common.find_endpoint(client, endpoint)["id"]), as_json)


@app.command("objectives")
def objectives(
    endpoint: Endpoint,
    latency: Annotated[
        float | None, typer.Option(min=0, help="From now on: answers within so many seconds, in --target of them.")
    ] = None,
    target: Annotated[float, typer.Option(min=0.5, max=0.99999)] = 0.99,
    as_json: AsJson = False,
) -> None:
    """What it promises and whether it keeps it; with --latency, what it promises from now on."""
    with common.connect() as client:
        if latency is not None:
            promise = {"name": "latency", "target": target, "at_most_seconds": latency}
            client.objectives.put(endpoint, [promise])
            common.show(promise, ["name", "target", "at_most_seconds"], as_json)
            return
        found = client.objectives.get(endpoint)
    if as_json:
        common.print_json(found)
    else:
        common.show(found.get("data", []), ["name", "target", "at_most_seconds", "kept", "good", "total"], as_json)


@app.command("playground")
def playground(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """How to ask it: its parameters, examples and code to copy."""
    with common.connect() as client:
        common.show_one(client.endpoints.playground(common.find_endpoint(client, endpoint)["id"]), as_json)


@app.command("delete")
def delete_endpoint(endpoint: Endpoint, yes: Yes = False, as_json: AsJson = False) -> None:
    """Take an endpoint down."""
    with common.connect() as client:
        found = common.find_endpoint(client, endpoint)
        if not endpoint.startswith("endpoint_"):  # an id is exact; a name is asked about
            common.confirm(f"Delete the endpoint {found['name']} ({found['id']})?", yes)
        common.show(client.endpoints.delete(found["id"]), ["id", "state"], as_json)


@retraining.command("show")
def show_retraining(endpoint: Endpoint, as_json: AsJson = False) -> None:
    """The policy, what waits for a decision, and the loop so far."""
    with common.connect() as client:
        common.show_one(client.retraining.get(endpoint), as_json)


@retraining.command("set")
def set_retraining(
    endpoint: Endpoint,
    mode: Annotated[str, typer.Option(help="suggest, approve or auto.")],
    schedule: Annotated[str | None, typer.Option(help="Cron, five fields, UTC.")] = None,
    budget: Annotated[float | None, typer.Option(help="USD a month, of all retrains.")] = None,
    as_json: AsJson = False,
) -> None:
    """When its model is trained again from now on."""
    policy: Document = {"on": {"schedule": schedule}} if schedule else {}
    if budget is not None:
        policy["budget_usd_per_month"] = budget
    with common.connect() as client:
        told = client.retraining.put(endpoint, mode, **policy)
    common.show(told, ["endpoint_id", "policy.mode", "policy.on.schedule", "policy.budget_usd_per_month"], as_json)


@retraining.command("approve")
def approve(endpoint: Endpoint, retrain_id: str, as_json: AsJson = False) -> None:
    """Train again, as it was suggested."""
    with common.connect() as client:
        common.show(client.retraining.approve(endpoint, retrain_id), ["id", "endpoint_id", "approved"], as_json)


@retraining.command("decline")
def decline(endpoint: Endpoint, retrain_id: str, as_json: AsJson = False) -> None:
    """Leave the model as it is."""
    with common.connect() as client:
        common.show(client.retraining.decline(endpoint, retrain_id), ["id", "endpoint_id", "approved"], as_json)
