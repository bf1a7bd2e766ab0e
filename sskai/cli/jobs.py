"""`sskai jobs`: training jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sskai import timeline, timeline_picture, waiting_words
from sskai.cli import common, complete
from sskai.cli.common import AsJson
from sskai.cli.follow import follow
from sskai.client import JOB_ENDS, Client
from sskai.demo import tree

app = typer.Typer(no_args_is_help=True, help="Training jobs.")

Job = Annotated[str, typer.Argument(help="Its id, or its name: the newest of it.", autocompletion=complete.jobs)]
COLUMNS = ["id", "name", "state", "waiting", "attempt", "progress.step", "progress.total_steps", "spent_usd"]


@app.command("submit")
def submit(
    file: Annotated[Path | None, typer.Argument(help="The job file.")] = None,
    named: Annotated[Path | None, typer.Option("--file", "-f", help="The job file, as other tools take it.")] = None,
    following: Annotated[bool, typer.Option("--follow", help="Show its progress until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job file, YAML or JSON: `sskai jobs submit job.yaml`, or `-f job.yaml`."""
    if (file is None) == (named is None):
        raise common.fail("Name one job file: sskai jobs submit job.yaml", 2)
    document = common.read_file(file or named or Path())
    with common.connect() as client:
        job = client.jobs.create(document)
        if not (following and as_json):
            common.show(job, ["id", "name", "state"], as_json)
        if following:
            raise typer.Exit(follow(client, job["id"], as_json=as_json))


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Of this state only: running, held, failed, ...")] = None,
    as_json: AsJson = False,
) -> None:
    """Your jobs, newest first; of those that wait, why and until when."""
    with common.connect() as client:
        rows: list[dict[str, Any]] = [{**row} for row in client.jobs.list(state)]
    if not as_json:
        now = datetime.now(UTC)
        rows = [{**row, "waiting": waiting_words.in_short(row.get("waiting"), now)} for row in rows]
    common.show(rows, COLUMNS, as_json)


@app.command("show")
def show_job(job: Job, as_json: AsJson = False) -> None:
    """All that is known of one job; while it waits, why and until when as a line on stderr."""
    with common.connect() as client:
        found = common.find_job(client, job)
    common.show_one(found, as_json)
    if waiting := found.get("waiting"):
        common.err.print(waiting_words.in_words(waiting, datetime.now(UTC)), highlight=False, markup=False)


@app.command("follow")
def follow_job(job: Job, as_json: AsJson = False) -> None:
    """Its progress until it ends. Exit code 1 if it fails."""
    with common.connect() as client:
        raise typer.Exit(follow(client, _id(client, job), as_json=as_json))


@app.command("wait")
def wait(
    job: Job, limit: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 86_400, as_json: AsJson = False
) -> None:
    """Until it has ended, in silence. Exit code 1 if it did not succeed."""
    with common.connect() as client:
        ended = client.jobs.wait(_id(client, job), limit_seconds=limit)
    common.show(ended, ["id", "name", "state", "end.reason", "spent_usd"], as_json)
    raise typer.Exit(0 if ended["state"] == JOB_ENDS[0] else 1)


@app.command("timeline")
def job_timeline(
    job: Job,
    as_json: AsJson = False,
    svg: Annotated[Path | None, typer.Option(help="Draw it into this SVG file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw it into this PNG file.")] = None,
) -> None:
    """Its attempts, interruptions, checkpoints and prices in time: in the terminal, as data, or as a picture."""
    wrong = [f"--{kind} {file}" for kind, file in (("svg", svg), ("png", png)) if file and file.suffix != f".{kind}"]
    if wrong:
        raise common.fail(f"{wrong[0]}: the file's name should end like the option", 2)
    with common.connect() as client:
        told = client.jobs.timeline(_id(client, job))
    pictures = [file for file in (svg, png) if file is not None]
    try:
        for file in pictures:
            timeline_picture.save(told, file)
    except (OSError, timeline_picture.NoMatplotlibError) as error:
        raise common.fail(str(error)) from error
    if as_json:
        common.print_json(told)
    elif pictures:
        print("\n".join(map(str, pictures)))
    else:
        common.out.print(timeline.draw(told, common.out.width))


@app.command("trace")
def job_trace(job: Job, as_json: AsJson = False) -> None:
    """The trace of its whole journey: which part did what, when, and for how long."""
    with common.connect() as client:
        trace = client.jobs.trace(_id(client, job))
    if as_json:
        common.print_json(trace)
    else:
        common.out.print(tree.draw(trace))


@app.command("logs")
def job_logs(
    job: Job,
    following: Annotated[bool, typer.Option("--follow", "-f", help="And what comes, until the job ends.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; the newest if not said.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000)] = 100,
    as_json: AsJson = False,
) -> None:
    """What the job's pod printed, as far as the cluster keeps it."""
    with common.connect() as client:
        job_id = _id(client, job)
        if following:
            _follow_logs(client, job_id, attempt, lines, as_json)
            return
        log = client.jobs.logs(job_id, attempt=attempt, tail=lines)
    if as_json:
        common.print_json(log)
        return
    for line in log["lines"]:
        print(line["text"])
    if not log["attempt"]:
        common.err.print(f"{job_id} has no attempt yet.", highlight=False)


def _follow_logs(client: Client, job_id: str, attempt: int | None, lines: int, as_json: bool) -> None:
    seen = 0
    for line in client.jobs.follow_logs(job_id, attempt=attempt, tail=lines):
        if as_json:
            told = {"attempt": line.attempt, "text": line.text, **({"at": line.at} if line.at else {})}
            Console(soft_wrap=True).print_json(data=told, indent=None, highlight=False)
            continue
        if seen and line.attempt != seen:
            common.err.print(f"--- attempt {line.attempt} ---", highlight=False)
        seen = line.attempt
        print(line.text, flush=True)


@app.command("cancel")
def cancel(job: Job, as_json: AsJson = False) -> None:
    """Stop it; a running attempt saves first."""
    with common.connect() as client:
        common.show(client.jobs.cancel(_id(client, job)), ["id", "state"], as_json)


def _id(client: Client, job: str) -> str:
    return job if job.startswith("job_") else common.find_job(client, job)["id"]
