"""`sskai lab`: replay the scheduler's policy on recorded markets, compare it with others, learn its priors.

Exit codes: 0 done, 1 a deadline was missed (replay) or nothing could be run, 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace as changed
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from services.scheduler.availability import Model, PriorsError, read_priors
from services.scheduler.lab import comparing, fitting, replaying
from services.scheduler.lab.replaying import LOOKAHEAD, POLICIES, UNIFORM, Result, Window
from services.scheduler.lab.simulator import Work
from services.scheduler.lab.traces import Trace, read_all
from sskai.local.cloud.records import RecordError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
out, err = Console(), Console(stderr=True)


class Zones(StrEnum):
    SINGLE = "single"
    MULTI = "multi"


# One name per option, and functions that take as many: typer's way of a command line.
# ruff: noqa: PLR0917
PolicyName = StrEnum("PolicyName", {name.upper().replace("-", "_"): name for name in POLICIES})  # type: ignore[misc]

OURS = PolicyName(LOOKAHEAD)

Traces = Annotated[Path, typer.Option("--traces", help="A folder of records (or one file), searched deeply.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Priors = Annotated[Path | None, typer.Option(help="A priors file of `sskai lab fit`; default: the shipped one.")]
Need = Annotated[int, typer.Option(min=1, help="Instances that the job needs at once.")]
Count = Annotated[int, typer.Option("--windows", min=1, max=1000, help="Windows per record, evenly spaced.")]
First = Annotated[float, typer.Option(min=0, max=1, help="Leave out this share of each record's beginning.")]
Last = Annotated[float, typer.Option(min=0, max=1, help="Leave out what follows this share of each record.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Processes; default: all cores.")]


@app.command()
def replay(
    traces: Traces,
    work_hours: Annotated[float, typer.Option(min=0.01, help="Hours of work on one machine.")] = 48,
    deadline_hours: Annotated[float, typer.Option(min=0.01)] = 52,
    restart_overhead_hours: Annotated[float, typer.Option(min=0)] = 0.2,
    zones: Annotated[Zones, typer.Option(help="Each zone alone, or all zones of a folder at once.")] = Zones.SINGLE,
    policy: Annotated[PolicyName, typer.Option()] = OURS,
    window_count: Count = 12,
    need: Need = 1,
    first_share: First = 0.0,
    last_share: Last = 1.0,
    priors: Priors = None,
    processes: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """One policy on every window: mean cost over on-demand, the omniscient bound, misses, restarts."""
    work = _work(work_hours, deadline_hours, restart_overhead_hours)
    todo = _windows(_read(traces, need), [work], zones, window_count, first_share, last_share)
    results = _run(todo, sorted({policy.value, UNIFORM}), _priors(priors), processes)
    document = {
        "traces": str(traces),
        "zones": zones.value,
        "work_hours": work_hours,
        "deadline_hours": deadline_hours,
        "restart_overhead_hours": restart_overhead_hours,
        **replaying.summary(results, policy.value),
        "per_window": replaying.per_window(results, policy.value),
    }
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        _print_replay(document)
    raise typer.Exit(1 if document["deadline_misses"] else 0)


@app.command()
def compare(
    traces: Traces,
    work_hours: Annotated[float, typer.Option(min=0.01)] = 48,
    deadline_hours: Annotated[str, typer.Option(help="Comma-separated.")] = "52,70,92",
    restart_overhead_hours: Annotated[str, typer.Option(help="Comma-separated.")] = "0.05,0.1,0.2,0.4",
    zones: Annotated[Zones, typer.Option()] = Zones.SINGLE,
    policies: Annotated[str, typer.Option(help="Comma-separated.")] = ",".join(POLICIES),
    window_count: Count = 6,
    need: Need = 1,
    first_share: First = 0.0,
    last_share: Last = 1.0,
    priors: Priors = None,
    plot: Annotated[Path | None, typer.Option(help="Write PLOT.png and PLOT.svg.")] = None,
    processes: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Policies x settings: a table, and a picture."""
    names = [name.strip() for name in policies.split(",") if name.strip()]
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        known = ", ".join(POLICIES)
        raise typer.BadParameter(f"unknown policy {unknown[0]!r}: choose of {known}", param_hint="policies")
    settings = [
        _work(work_hours, deadline, overhead)
        for deadline in _numbers("deadline-hours", deadline_hours)
        for overhead in _numbers("restart-overhead-hours", restart_overhead_hours)
    ]
    todo = _windows(_read(traces, need), settings, zones, window_count, first_share, last_share)
    results = _run(todo, sorted({*names, UNIFORM}), _priors(priors), processes)
    rows = comparing.table(results, names)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_comparison(rows, names)
    if plot is not None:
        title = f"{work_hours:g} h of work on {traces.name}, {zones.value} zone{'s' if zones is Zones.MULTI else ''}"
        for path in comparing.picture(rows, names, title, plot):
            err.print(f"wrote {path}")


@app.command()
def fit(
    traces: Traces,
    output: Annotated[Path, typer.Option(help="The priors file to write.")] = Path("spot_priors.json"),
    last_share: Last = 1.0,
    need: Need = 1,
    up_states: Annotated[int, typer.Option(min=1, max=8)] = 4,
    down_states: Annotated[int, typer.Option(min=1, max=8)] = 4,
    turns: Annotated[int, typer.Option(min=1, max=2000, help="Turns of expectation maximisation.")] = 150,
    seed: int = 0,
    records_begin_at_hour: Annotated[
        int | None,
        typer.Option(min=0, max=23, help="UTC hour at which every record begins; without it no hour of day is learnt."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn the priors of availability from records, into a small file that says what it was learnt from."""
    records = _read(traces, need)
    learnt_from = [record.cut(0, max(2, int(len(record) * last_share))) for record in records]
    fitted = fitting.fit(learnt_from, ups=up_states, downs=down_states, turns=turns, seed=seed, progress=err.print)
    provenance: dict[str, Any] = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "made_by": "sskai lab fit",
        "share_of_each_record": last_share,
        "instances_needed": need,
        "log_likelihood": round(fitted.log_likelihood, 2),
        "observations": fitted.observations,
        "seed": seed,
        "records": [
            {"name": record.name, "ticks": len(part), "gap_seconds": record.gap_seconds, "sha256": record.sha256}
            for record, part in zip(records, learnt_from, strict=True)
        ],
    }
    rest = [record.cut(len(part), len(record)) for record, part in zip(records, learnt_from, strict=True)]
    rest = [record for record in rest if len(record) > 1]
    if rest:
        told = fitting.log_likelihood(fitted.model, rest)
        provenance["held_out_log_likelihood_per_observation"] = round(told / sum(len(record) for record in rest), 6)
    by_hour: tuple[float, ...] = ()
    if records_begin_at_hour is not None:
        by_hour = fitting.hazard_by_hour(learnt_from, records_begin_at_hour)
    model = changed(fitted.model, provenance=provenance, hazard_by_hour=by_hour)
    output.write_text(model.to_json())
    document = {"output": str(output), "zone_correlation": model.zone_correlation, **provenance}
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        out.print(f"wrote {output}: {up_states} + {down_states} states from {len(records)} records")
        out.print("mean stay up (h):   " + ", ".join(f"{hours:.2f}" for hours in model.seconds_up / 3600))
        out.print("mean time to up (h): " + ", ".join(f"{hours:.2f}" for hours in model.seconds_down / 3600))


def _work(work_hours: float, deadline_hours: float, restart_hours: float) -> Work:
    if deadline_hours < work_hours + restart_hours:
        raise typer.BadParameter(
            f"{work_hours:g} h of work and a restart of {restart_hours:g} h cannot end within {deadline_hours:g} h",
            param_hint="deadline-hours",
        )
    return Work(work_hours, deadline_hours, restart_hours)


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of numbers", param_hint=name) from error


def _read(folder: Path, need: int) -> list[Trace]:
    try:
        return read_all(folder, need)
    except RecordError as error:
        raise typer.BadParameter(str(error), param_hint="traces") from error


def _priors(path: Path | None) -> Model | None:
    try:
        return None if path is None else read_priors(path)
    except PriorsError as error:
        raise typer.BadParameter(str(error), param_hint="priors") from error


def _windows(
    records: list[Trace], settings: list[Work], zones: Zones, count: int, first_share: float, last_share: float
) -> list[Window]:
    todo = [
        window
        for work in settings
        for window in replaying.windows(
            records, work, zones=zones.value, count=count, first_share=first_share, last_share=last_share
        )
    ]
    if not todo:
        err.print("no record is as long as the deadline: give longer records or a nearer deadline")
        raise typer.Exit(1)
    return todo


def _run(todo: list[Window], policies: list[str], priors: Model | None, processes: int | None) -> list[Result]:
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("replaying", total=len(todo))
        return replaying.replay(
            todo,
            policies,
            priors=priors,
            processes=processes,
            progress=lambda done, _: bar.update(task, completed=done),
        )


def _print_replay(document: dict[str, Any]) -> None:
    closed = document.get("gap_to_omniscient_closed")
    out.print(
        f"{document['policy']}: {document['mean_cost_over_on_demand']:.3f} of on-demand, {document['windows']} windows "
        f"(omniscient {document['omniscient_cost_over_on_demand']:.3f}"
        + (f", {closed:.0%} of the gap between Uniform Progress and it" if closed is not None else "")
        + f"), {document['deadline_misses']} deadline misses, {document['restarts']} restarts"
    )
    table = Table(box=None, padding=(0, 1))
    for column in ("trace", "start h", "cost", "omniscient", "hours", "restarts", "missed"):
        table.add_column(column, justify="left" if column == "trace" else "right")
    for row in document["per_window"]:
        figures = f"{row['ratio']:.3f}", f"{row['omniscient_ratio']:.3f}", f"{row['hours']:.1f}"
        restarts = str(max(0, row["launches"] - 1))
        table.add_row(row["trace"], f"{row['start_hours']:.0f}", *figures, restarts, "yes" if row["missed"] else "")
    out.print(table)


def _print_comparison(rows: list[dict[str, Any]], policies: list[str]) -> None:
    table = Table(box=None, padding=(0, 1))
    for column in ("deadline h", "restart h", *policies, "omniscient", "gap closed", "misses"):
        table.add_column(column, justify="right")
    for row in rows:
        closed = row.get("gap_closed")
        table.add_row(
            f"{row['deadline_hours']:g}",
            f"{row['restart_overhead_hours']:g}",
            *(f"{row[name]:.3f}" for name in policies),
            f"{row['omniscient']:.3f}",
            "" if closed is None else f"{closed:.0%}",
            str(sum(row["deadline_misses"].values())),
        )
    out.print(table)


if __name__ == "__main__":
    sys.exit(app(prog_name="sskai lab"))
