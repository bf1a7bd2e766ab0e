"""The command line: `sskai up`, `sskai plan job.yaml`, `sskai jobs submit job.yaml`, ... `--json` everywhere.

It speaks to the gateway named by SSKAI_GATEWAY_URL and SSKAI_API_KEY, or else to the embedded stack of this machine.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from sskai import plan_table, timeline, timeline_picture, waiting_words
from sskai.client import Client, Document, SskaiError
from sskai.local import stack
from sskai.local.paths import home_folder
from sskai.local.processes import StartError
from sskai.local.state import read_state


class FileOrCommand(TyperGroup):
    """A group whose command `file` need not be written: `sskai plan job.yaml` is `sskai plan file job.yaml`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["file", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
data = typer.Typer(no_args_is_help=True, help="Datasets.")
models = typer.Typer(no_args_is_help=True, help="Foundation models and your own versions.")
plan = typer.Typer(
    no_args_is_help=True,
    cls=FileOrCommand,
    subcommand_metavar="FILE | replay PLAN_ID",
    short_help="FILE, or replay PLAN_ID: what it would run on and cost, before anything is spent.",
    help="What it would run on and cost, before anything is spent: `sskai plan FILE [--explain] [--json]`. "
    "A stored plan made again: `sskai plan replay PLAN_ID [--policy NAME] [--json]`.",
)
jobs = typer.Typer(no_args_is_help=True, help="Training jobs.")
endpoints = typer.Typer(no_args_is_help=True, help="Models that answer.")
costs = typer.Typer(no_args_is_help=True, help="Receipts, totals, budgets, exports.")
events = typer.Typer(no_args_is_help=True, help="The event stream.")
dlq = typer.Typer(no_args_is_help=True, help="Records that could not be handled.")
for name, group in {
    "data": data,
    "models": models,
    "plan": plan,
    "jobs": jobs,
    "endpoints": endpoints,
    "costs": costs,
    "events": events,
    "dlq": dlq,
}.items():
    app.add_typer(group, name=name)

ENDPOINT_COLUMNS = ["id", "name", "kind", "state", "model", "version"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
out = Console()
err = Console(stderr=True)


def connect() -> Client:
    """The gateway's client. Exits with what to do when there is no gateway to speak to."""
    url, key = os.environ.get("SSKAI_GATEWAY_URL"), os.environ.get("SSKAI_API_KEY")
    if not (url and key):
        state = read_state(home_folder())
        if state is None or state.phase != "running":
            err.print(
                "No gateway: start the embedded stack with `sskai up`, or set SSKAI_GATEWAY_URL and SSKAI_API_KEY."
            )
            raise typer.Exit(1)
        url, key = url or state.gateway_url, key or state.admin_key
    return Client(url, key, retry_seconds=15)


def show(rows: list[Document] | Document, columns: list[str], as_json: bool) -> None:
    """A table of the named fields, or JSON."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(box=None, padding=(0, 1))
    for column in columns:
        table.add_column(column)
    for row in rows if isinstance(rows, list) else [rows]:
        table.add_row(*(_cell(row, column) for column in columns))
    out.print(table)


def _cell(row: Document, path: str) -> str:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def read_job_file(path: Path) -> Document:
    """A job file, YAML or JSON. Exits with code 2 and the reason when it is neither."""
    try:
        job = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        err.print(f"{path} cannot be read as a job file: {error}")
        raise typer.Exit(2) from error
    if not isinstance(job, dict):
        err.print(f"{path} is no job file: it should be a mapping with `kind: finetune` or `kind: endpoint`")
        raise typer.Exit(2)
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in job.items()}


@app.command(
    "lab",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    short_help="replay | compare | fit: the spot policy on recorded markets. `sskai lab replay --help`.",
)
def lab(context: typer.Context) -> None:
    """The scheduler's spot policy on recorded markets: replayed, compared with others, its priors learnt."""
    # A program of the scheduler's: the client knows no service.
    raise typer.Exit(subprocess.call([sys.executable, "-m", "services.scheduler.lab", *context.args]))


@app.command()
def up(
    infrastructure_only: Annotated[bool, typer.Option(help="Broker, database, objects and cloud only.")] = False,
) -> None:
    """Start the embedded stack on this machine."""
    state = stack.up(services=not infrastructure_only)
    out.print(f"SSKAI is up: {state.gateway_url}\nAPI key: {state.admin_key}")
    if not infrastructure_only:
        link = Client(state.gateway_url, state.admin_key, retry_seconds=15).sign_in_link()
        out.print(f"Console, signed in once within five minutes: {link['url']}", soft_wrap=True)


@app.command("console")
def open_console(
    print_only: Annotated[bool, typer.Option("--print", help="Print the link, open nothing.")] = False,
) -> None:
    """Open the web console, signed in. The link works once, for five minutes."""
    url = connect().sign_in_link()["url"]
    if print_only or not webbrowser.open(url):
        print(url)


@app.command()
def down(purge: Annotated[bool, typer.Option(help="Delete all data, too.")] = False) -> None:
    """Stop the embedded stack and its pods."""
    stack.down(purge=purge)


@app.command()
def status(as_json: AsJson = False) -> None:
    """What runs."""
    parts = stack.status()
    if not parts:
        out.print("SSKAI is down." if not as_json else "[]")
        raise typer.Exit(1)
    rows = [
        {
            "part": part.name,
            "state": part.state,
            "pid": part.pid,
            "uptime_s": None if part.uptime_seconds is None else round(part.uptime_seconds),
            "restarts": part.restarts,
            "port": part.port,
            "rss_mib": None if part.rss_bytes is None else part.rss_bytes // 2**20,
        }
        for part in parts
    ]
    show(rows, ["part", "state", "pid", "uptime_s", "restarts", "port", "rss_mib"], as_json)


@app.command()
def logs(
    part: str,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=100_000)] = 100,
) -> None:
    """The log of one part of the embedded stack."""
    for line in stack.logs(part, follow=follow, lines=lines):
        print(line, flush=follow)


@plan.command("file", short_help="FILE: what it would run on and cost. The word may be left out.")
def plan_file(
    file: Annotated[Path, typer.Argument(help="A job file, or an endpoint file (`kind: endpoint`).")],
    explain: Annotated[bool, typer.Option("--explain", help="Where hours and dollars go, and why not others.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a job or an endpoint would run on and cost, before anything is spent."""
    proposed = connect().plans.create(read_job_file(file))
    if as_json:
        print(json.dumps(proposed, indent=2))
        return
    draw = plan_table.endpoint_plan if proposed["kind"] == "endpoint" else plan_table.job_plan
    out.print(draw(proposed, out.width, explain=explain))


@plan.command("replay", short_help="PLAN_ID: a stored plan made again. Is it equal to the bit?")
def replay_plan(
    plan_id: str,
    policy: Annotated[str | None, typer.Option(help="Decide by another policy, such as fastest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a stored decision again from its inputs. Exit code 1 if it is not equal and no policy was asked for."""
    replay = connect().plans.replay(plan_id, policy)
    if as_json:
        print(json.dumps(replay, indent=2))
    else:
        out.print(plan_table.replayed(replay, out.width))
    raise typer.Exit(0 if replay["equal"] or policy else 1)


@data.command("upload")
def upload_data(
    file: Path, name: Annotated[str, typer.Option(help="The dataset's name.")], as_json: AsJson = False
) -> None:
    """Upload JSON Lines, CSV, Parquet or a zip of images; a broken row is named."""
    show(connect().datasets.upload(file, name), ["id", "name", "version", "format", "rows", "bytes"], as_json)


@data.command("list")
def list_data(as_json: AsJson = False) -> None:
    """Your datasets."""
    show(list(connect().datasets.list()), ["id", "name", "version", "format", "rows", "bytes"], as_json)


@data.command("show")
def show_data(dataset: str) -> None:
    """What is known of one dataset, with its report of lengths, duplicates and classes, as JSON."""
    print(json.dumps(connect().datasets.get(dataset), indent=2))


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """What can be fine-tuned or deployed."""
    show(connect().models.list(), ["id", "task", "parameters", "owned_by", "parent", "licence", "available"], as_json)


@models.command("upload")
def upload_model(
    path: Path, name: Annotated[str, typer.Option(help="The model's name.")], as_json: AsJson = False
) -> None:
    """Upload a folder that save_pretrained() wrote, or a zip of a model as code."""
    if not path.exists():
        err.print(f"{path} is not there: name a folder of a saved model, or a zip with model.py and data.py")
        raise typer.Exit(2)
    show(
        connect().models.upload(path, name), ["id", "name", "version", "origin", "task", "parameters", "bytes"], as_json
    )


@jobs.command("submit")
def submit(
    file: Path,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show events until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job file."""
    client = connect()
    job = client.jobs.create(read_job_file(file))
    show(job, ["id", "name", "state"], as_json)
    if follow:
        _follow(client, job["id"])


@jobs.command("list")
def list_jobs(as_json: AsJson = False) -> None:
    """Your jobs, newest first; of those that wait, why and until when."""
    rows, now = list(connect().jobs.list()), datetime.now(UTC)
    if not as_json:
        rows = [{**row, "waiting": waiting_words.in_short(row.get("waiting"), now)} for row in rows]
    show(
        rows,
        ["id", "name", "state", "waiting", "attempt", "progress.step", "progress.total_steps", "spent_usd"],
        as_json,
    )


@jobs.command("show")
def show_job(job_id: str) -> None:
    """All that is known of one job, as JSON; while it waits, why and until when as a line on stderr."""
    job = connect().jobs.get(job_id)
    print(json.dumps(job, indent=2))
    if waiting := job.get("waiting"):
        err.print(waiting_words.in_words(waiting, datetime.now(UTC)), highlight=False, markup=False)


@jobs.command("follow")
def follow_job(job_id: str) -> None:
    """Its events until it ends."""
    _follow(connect(), job_id)


@jobs.command("timeline")
def job_timeline(
    job_id: str,
    as_json: AsJson = False,
    svg: Annotated[Path | None, typer.Option(help="Draw it into this SVG file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw it into this PNG file.")] = None,
) -> None:
    """Its attempts, interruptions, checkpoints and prices in time: in the terminal, as data, or as a picture."""
    wrong = [f"--{kind} {file}" for kind, file in (("svg", svg), ("png", png)) if file and file.suffix != f".{kind}"]
    if wrong:
        err.print(f"{wrong[0]}: the file's name should end like the option")
        raise typer.Exit(2)
    told = connect().jobs.timeline(job_id)
    pictures = [file for file in (svg, png) if file is not None]
    try:
        for file in pictures:
            timeline_picture.save(told, file)
    except (OSError, timeline_picture.NoMatplotlibError) as error:
        err.print(str(error))
        raise typer.Exit(1) from error
    if as_json:
        print(json.dumps(told, indent=2))
    elif pictures:
        out.print("\n".join(map(str, pictures)))
    else:
        out.print(timeline.draw(told, out.width))


@jobs.command("logs")
def job_logs(
    job_id: str,
    attempt: Annotated[int | None, typer.Option(help="Which attempt; the newest if not said.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 100,
) -> None:
    """What the job's pod printed (embedded stack)."""
    state = read_state(home_folder())
    tried = {one["number"]: one["machine_id"] for one in connect().jobs.get(job_id)["attempts"]}
    number = attempt or max(tried, default=0)
    if state is None or number not in tried:
        err.print(
            f"No log: {job_id} has the attempts {sorted(tried) or 'none'}, on {'this' if state else 'another'} machine"
        )
        raise typer.Exit(1)
    answer = httpx2.get(
        f"{state.environment['SSKAI_CLOUD_URL']}/machines/{tried[number]}/log",
        params={"tail": lines},
        headers={"Authorization": f"Bearer {state.environment['SSKAI_CLOUD_TOKEN']}"},
    )
    print(answer.text)


@jobs.command("cancel")
def cancel(job_id: str, as_json: AsJson = False) -> None:
    """Stop it; a running attempt saves first."""
    show(connect().jobs.cancel(job_id), ["id", "state"], as_json)


def _follow(client: Client, job_id: str) -> None:
    for event in client.events(after=0, subject=job_id):
        if event.type == "JobHeld":
            words = escape(waiting_words.in_words(event.data, datetime.now(UTC)))
            out.print(f"[cyan]{event.type}[/cyan] {words}", highlight=False)
            continue
        hidden = ("job_id", "tenant_id")
        told = {name: value for name, value in event.data.items() if not isinstance(value, dict | list)}
        out.print(f"[cyan]{event.type}[/cyan] " + " ".join(f"{k}={v}" for k, v in told.items() if k not in hidden))
        if event.type in ("JobSucceeded", "JobFailed", "JobCancelled"):
            raise typer.Exit(0 if event.type == "JobSucceeded" else 1)


@endpoints.command("create")
def create_endpoint(  # noqa: PLR0917 (typer gives options by name)
    name: str,
    model: Annotated[str, typer.Option(help="A base model's id, or NAME@VERSION.")],
    kind: Annotated[str, typer.Option(help="adapter, serverless or spot.")] = "adapter",
    minimum: Annotated[int | None, typer.Option(help="Of kind spot: replicas at least; 0: none while idle.")] = None,
    maximum: Annotated[int | None, typer.Option(help="Of kind spot: replicas at most.")] = None,
    on_demand: Annotated[int | None, typer.Option(help="Of kind spot: replicas that are always on demand.")] = None,
    accelerators: Annotated[str | None, typer.Option(help="Of kind spot: for example L4:1.")] = None,
    mode: Annotated[str | None, typer.Option(help="New versions: suggest, approve or auto.")] = None,
    as_json: AsJson = False,
) -> None:
    """Deploy a model behind the OpenAI-compatible API."""
    client = connect()
    counts = {"minimum": minimum, "maximum": maximum, "on_demand": on_demand}
    given: Document = {
        "replicas": {field: count for field, count in counts.items() if count is not None},
        "resources": {"accelerators": accelerators} if accelerators else {},
        "promotion": {"mode": mode} if mode else {},
    }
    more = {field: value for field, value in given.items() if value}
    endpoint = client.endpoints.create(name, model, kind=kind, **more)
    ready = client.endpoints.wait(endpoint["id"])
    show(ready, ENDPOINT_COLUMNS, as_json)
    if ready["state"] != "ready":
        err.print(f"{ready.get('reason') or ready['state']}. {ready.get('advice') or ''}")
        raise typer.Exit(1)


@endpoints.command("show")
def show_endpoint(endpoint_id: str, as_json: AsJson = False) -> None:
    """An endpoint: its state, replicas, cold start, cost and share of traffic."""
    found = connect().endpoints.get(endpoint_id)
    show(found, [*ENDPOINT_COLUMNS, "replicas", "cold_start_seconds", "usd_per_million_tokens"], as_json)
    traffic = found.get("traffic")
    if traffic and not as_json:
        columns = ["version", "shadow", "requests", "errors", "p95_seconds", "mean_score"]
        show(traffic["versions"], columns, as_json=False)


@endpoints.command("try")
def try_version(endpoint_id: str, version: str, as_json: AsJson = False) -> None:
    """Try a version (NAME@VERSION) beside the one that answers: a canary."""
    show(connect().endpoints.change(endpoint_id, canary=version), ENDPOINT_COLUMNS, as_json)


@endpoints.command("promote")
def promote_version(endpoint_id: str, as_json: AsJson = False) -> None:
    """The version that is tried answers from now on."""
    show(connect().endpoints.change(endpoint_id, promote=True), ENDPOINT_COLUMNS, as_json)


@endpoints.command("rollback")
def roll_back_version(endpoint_id: str, as_json: AsJson = False) -> None:
    """Take back the version that is tried; when none is, the last promotion."""
    show(connect().endpoints.change(endpoint_id, roll_back=True), ENDPOINT_COLUMNS, as_json)


@endpoints.command("list")
def list_endpoints(as_json: AsJson = False) -> None:
    """Your endpoints."""
    show(list(connect().endpoints.list()), ENDPOINT_COLUMNS, as_json)


@endpoints.command("delete")
def delete_endpoint(endpoint_id: str, as_json: AsJson = False) -> None:
    """Take an endpoint down."""
    show(connect().endpoints.delete(endpoint_id), ["id", "state"], as_json)


@app.command()
def chat(model: str, message: str, max_tokens: Annotated[int, typer.Option(min=1)] = 256) -> None:
    """Ask an endpoint one thing."""
    body = {"model": model, "messages": [{"role": "user", "content": message}], "max_tokens": max_tokens}
    answer = connect().request("POST", "/v1/chat/completions", json=body, timeout=300)
    print(answer["choices"][0]["message"]["content"])


@costs.command("receipt")
def receipt(job_id: str) -> None:
    """What a job cost, and what it would have cost on demand."""
    print(json.dumps(connect().receipts.get(job_id), indent=2))


@costs.command("totals")
def cost_totals(
    group_by: Annotated[str, typer.Option(help="Of day, kind, job, endpoint, project, with commas.")] = "day",
    since: str | None = None,
    until: str | None = None,
    as_json: AsJson = False,
) -> None:
    """What was spent, the same machine time on demand, and the saving; by default of this month."""
    told = connect().costs.totals(group_by=group_by, since=since, until=until)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    columns = [*told["group_by"], "spent_usd", "on_demand_usd", "saving_fraction", "machine_seconds"]
    total = dict.fromkeys(told["group_by"][:1], "all") | told["total"]
    show([*told["groups"], total], columns, as_json=False)


@costs.command("budgets")
def list_budgets(as_json: AsJson = False) -> None:
    """Budgets, and what is spent, reserved and left of each."""
    columns = ["id", "scope", "target", "period", "action", "amount_usd", "spent_usd", "reserved_usd", "left_usd"]
    show(list(connect().budgets.list()), columns, as_json)


@costs.command("export")
def export_costs(file: Path, since: str | None = None, until: str | None = None) -> None:
    """Write every row of the ledger as FOCUS 1.2, as FILE.csv or FILE.parquet; by default of this month."""
    if file.suffix not in {".csv", ".parquet"}:
        raise typer.BadParameter("FILE ends in .csv or .parquet")
    print(f"{connect().costs.export(file, since=since, until=until)} bytes")


@events.command("tail")
def tail_events(
    after: Annotated[int | None, typer.Option(help="Resume after this position; 0: from the oldest kept.")] = None,
    types: Annotated[str, typer.Option(help="Only these event types, separated by commas.")] = "",
) -> None:
    """Events as CloudEvents in JSON, one a line, until interrupted."""
    for event in connect().events(after=after, types=[kind for kind in types.split(",") if kind]):
        print(json.dumps({"position": event.position, **event.cloudevent}), flush=True)


@dlq.command("list")
def list_letters(topic: str, limit: Annotated[int, typer.Option(min=1, max=1000)] = 20) -> None:
    """What was set aside from TOPIC, and why."""
    from sskai import bus

    for letter in asyncio.run(bus.read_dead_letters(_bootstrap(), topic, limit=limit)):
        headers = {name: value.decode(errors="replace") for name, value in letter.headers}
        line = {"offset": letter.offset, "key": (letter.key or b"").decode(errors="replace")} | headers
        print(json.dumps(line))


@dlq.command("redrive")
def redrive_letters(topic: str, limit: Annotated[int, typer.Option(min=1, max=1000)] = 100) -> None:
    """Publish the dead letters of TOPIC to it again; what was handled once changes nothing."""
    from sskai import bus

    print(f"{asyncio.run(bus.redrive(_bootstrap(), topic, limit=limit))} records published to {topic} again")


def _bootstrap() -> str:
    state = read_state(home_folder())
    known = os.environ.get("SSKAI_KAFKA_BOOTSTRAP") or (state.environment["SSKAI_KAFKA_BOOTSTRAP"] if state else None)
    if known is None:
        err.print("No broker: start the embedded stack with `sskai up`, or set SSKAI_KAFKA_BOOTSTRAP.")
        raise typer.Exit(1)
    return known


def main() -> None:
    try:
        app()
    except SskaiError as error:
        err.print(f"[red]{error.problem.get('title', 'Refused')}[/red]: {error.problem.get('detail', '')}")
        sys.exit(1)
    except (StartError, TimeoutError) as error:
        err.print(f"[red]{type(error).__name__}[/red]: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
