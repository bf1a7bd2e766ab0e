"""`make bench NAME=scale` prints one JSON object; `python -m benchmarks.scale --table` the tables of docs/scale.md."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace

from benchmarks.figures import figure, print_report
from benchmarks.scale.load import Work, consumers, flows
from benchmarks.scale.sizing import (
    ALONE,
    TOGETHER,
    UTILISATION,
    Needs,
    jobs_by_relay,
    needs,
    tenant_jobs_by_log_lock,
)

JOBS = (100, 1_000, 10_000)
LONG_METERING_SECONDS, FEW_DAYS = 60.0, 1.0
MEASURED_PER_SECOND = 1_139  # docs/benchmarks.md, "Events": one process at saturation, with TOGETHER's processor time


def table(cases: list[tuple[str, Needs]]) -> str:
    """Markdown: a row for each need, a column for each case."""
    rows = [
        ("events told a second", [f"{it.events_per_second:,.0f}" for _, it in cases]),
        ("events handled a second", [f"{it.handled_per_second:,.0f}" for _, it in cases]),
        ("partitions a topic", [f"{it.partitions}" for _, it in cases]),
    ]
    rows += [(f"replicas: {name}", [f"{it.replicas[name]}" for _, it in cases]) for name in cases[0][1].replicas]
    rows += [
        ("handling, p99 with waiting for the process, ms", [f"{it.handle_p99_ms:.0f}" for _, it in cases]),
        ("utilisation of the busiest relay", [f"{it.relay_utilisation:.0%}" for _, it in cases]),
        ("PostgreSQL: transactions a second", [f"{it.transactions_per_second:,.0f}" for _, it in cases]),
        ("PostgreSQL: vCPUs", [f"{it.postgres_vcpus}" for _, it in cases]),
        ("PostgreSQL: connections at most", [f"{it.connections:,}" for _, it in cases]),
        ("PostgreSQL: IOPS", [f"{it.iops:,.0f}" for _, it in cases]),
        ("PostgreSQL: GiB after a month", [f"{it.database_gib:,.0f}" for _, it in cases]),
        ("of them ledger rows, which stay", [f"{it.database_gib_growth_per_month:,.1f}" for _, it in cases]),
        ("hours that the gateway's event log reaches back", [f"{it.log_hours:.2f}" for _, it in cases]),
        ("broker: MiB/s written, copies included", [f"{it.broker_mib_in_per_second:.2f}" for _, it in cases]),
        ("broker: MiB/s read", [f"{it.broker_mib_out_per_second:.2f}" for _, it in cases]),
        ("broker: vCPUs in all; GiB", [f"{it.broker_vcpus}; {it.broker_gib:,.0f}" for _, it in cases]),
    ]
    for part in cases[0][1].usd_per_month:
        rows.append((f"USD a month: {part}", [f"{it.usd_per_month[part]:,.0f}" for _, it in cases]))
    rows.append(("**USD a month**", [f"**{it.usd:,.0f}**" for _, it in cases]))
    lines = ["| | " + " | ".join(name for name, _ in cases) + " |", "|---|" + "---|" * len(cases)]
    return "\n".join(lines + [f"| {name} | " + " | ".join(values) + " |" for name, values in rows])


def cases() -> list[tuple[str, Needs]]:
    """The columns of the docs."""
    found = [(f"{jobs:,} jobs", needs(Work(jobs))) for jobs in JOBS]
    largest = Work(JOBS[-1])
    longer = replace(largest, metering_seconds=LONG_METERING_SECONDS, trace_days=FEW_DAYS)
    found.append(
        (f"{JOBS[-1]:,}, metered every {LONG_METERING_SECONDS:.0f} s, traces for {FEW_DAYS:.0f} day", needs(longer))
    )
    return [*found, (f"{JOBS[1]:,}, each event alone", needs(Work(JOBS[1]), ALONE))]


def fan_out() -> str:
    """Markdown: the types that are told, most often first, for a thousand jobs."""
    told: dict[str, float] = {}
    names: dict[str, str] = {}
    for flow in flows(Work(1000)):
        name = flow.message.DESCRIPTOR.name
        told[name] = told.get(name, 0.0) + flow.per_second
        names[name] = ", ".join(consumers()[flow.message])
    lines = ["| event | a second with 1,000 jobs | handled by |", "|---|---|---|"]
    ordered = sorted(told.items(), key=lambda it: -it[1])
    return "\n".join(lines + [f"| {name} | {often:,.2f} | {names[name]} |" for name, often in ordered])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="print the tables of docs/scale.md")
    if parser.parse_args().table:
        print(table(cases()), fan_out(), sep="\n\n")
        return
    planned = UTILISATION * 1000 / TOGETHER.handle
    how = f"events of one process at {UTILISATION:.0%}; measured at saturation: {MEASURED_PER_SECOND}, {TOGETHER}"
    figures = [figure("planned_events_per_second", planned, "1/s", MEASURED_PER_SECOND, "lower", how=how)]
    figures += [figure("usd_per_month", it.usd, "USD", None, "lower", how=name) for name, it in cases()]
    locked, relayed = tenant_jobs_by_log_lock(Work(1000)), jobs_by_relay(Work(1000))
    figures.append(figure("tenant_jobs_by_log_lock", locked, "jobs", None, "higher", how="one event a transaction"))
    figures.append(figure("jobs_by_relay", relayed, "jobs", None, "higher", how="the scheduler's"))
    print_report("scale", figures, needs={name: asdict(it) for name, it in cases()})


if __name__ == "__main__":
    main()
