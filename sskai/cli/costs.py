"""`sskai costs`: receipts, totals, budgets, exports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sskai.cli import common, complete
from sskai.cli.common import AsJson, Yes

app = typer.Typer(no_args_is_help=True, help="Receipts, totals, budgets, exports.")

BUDGET_COLUMNS = ["id", "scope", "target", "period", "action", "amount_usd", "spent_usd", "reserved_usd", "left_usd"]


@app.command("receipt")
def receipt(
    job: Annotated[str, typer.Argument(help="A job's id or name.", autocompletion=complete.jobs)],
    as_json: AsJson = False,
) -> None:
    """What a job cost, and what it would have cost on demand."""
    with common.connect() as client:
        job_id = job if job.startswith("job_") else common.find_job(client, job)["id"]
        common.show_one(client.receipts.get(job_id), as_json)


@app.command("receipts")
def receipts(as_json: AsJson = False) -> None:
    """The receipts of all jobs, of the newest first."""
    columns = ["job_id", "paid_usd", "on_demand_usd", "lost_usd", "machine_seconds", "attempts"]
    with common.connect() as client:
        common.show(client.receipts.list(), columns, as_json)


@app.command("totals")
def cost_totals(
    group_by: Annotated[str, typer.Option(help="Of day, kind, job, endpoint, project, with commas.")] = "day",
    since: str | None = None,
    until: str | None = None,
    as_json: AsJson = False,
) -> None:
    """What was spent, the same machine time on demand, and the saving; by default of this month."""
    with common.connect() as client:
        told = client.costs.totals(group_by=group_by, since=since, until=until)
    if as_json:
        common.print_json(told)
        return
    columns = [*told["group_by"], "spent_usd", "on_demand_usd", "saving_fraction", "machine_seconds"]
    total = dict.fromkeys(told["group_by"][:1], "all") | told["total"]
    common.show([*told["groups"], total], columns, as_json=False)


@app.command("budgets")
def list_budgets(as_json: AsJson = False) -> None:
    """Budgets, and what is spent, reserved and left of each."""
    with common.connect() as client:
        common.show(client.budgets.list(), BUDGET_COLUMNS, as_json)


@app.command("budget")
def set_budget(  # noqa: PLR0917 (typer gives options by name)
    amount_usd: Annotated[float, typer.Argument(min=0)],
    scope: Annotated[str, typer.Option(help="tenant, project, endpoint or job.")] = "tenant",
    target: Annotated[str | None, typer.Option(help="Which project, endpoint or job.")] = None,
    period: Annotated[str, typer.Option(help="month or total.")] = "month",
    action: Annotated[str, typer.Option(help="warn, or stop: nothing is launched beyond it.")] = "warn",
    as_json: AsJson = False,
) -> None:
    """Set a budget, or change it."""
    with common.connect() as client:
        made = client.budgets.put(scope, amount_usd, target=target, period=period, action=action)
    common.show(made, BUDGET_COLUMNS, as_json)


@app.command("forget-budget")
def delete_budget(budget_id: str, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a budget: it holds nobody any more."""
    common.confirm(f"Remove the budget {budget_id}?", yes)
    with common.connect() as client:
        client.budgets.delete(budget_id)
    common.done(f"{budget_id} is removed.", as_json, id=budget_id, removed=True)


@app.command("export")
def export_costs(file: Path, since: str | None = None, until: str | None = None, as_json: AsJson = False) -> None:
    """Write every row of the ledger as FOCUS 1.2, as FILE.csv or FILE.parquet; by default of this month."""
    if file.suffix not in {".csv", ".parquet"}:
        raise common.fail(f"{file}: FILE ends in .csv or .parquet", 2)
    with common.connect() as client:
        written = client.costs.export(file, since=since, until=until)
    common.done(f"{written} bytes", as_json, file=str(file), bytes=written)
