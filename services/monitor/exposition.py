"""The figures of the last minutes as Prometheus metrics, for dashboards and alert rules.

A loop counts (`look`), Prometheus is shown what it found (`Shown`): so a scrape asks no database. Labels hold no ids
but those of endpoints, of which the busiest MAX_ENDPOINTS are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from services.monitor import objectives
from services.monitor.cells import Cells, Group
from services.monitor.counting import DURATION
from services.monitor.objective_store import ANSWERING_SERVICE
from services.monitor.sketches import Tally, quantile
from services.monitor.tables import JobRow, ObjectiveRow, SpendRow
from sskai.database import Database
from sskai.money import NANO_PER_USD

PERIOD = timedelta(minutes=5)
MAX_ENDPOINTS = 100
MAX_SERVICES = 50
MAX_OBJECTIVES = 300
QUANTILES = (0.5, 0.95, 0.99)

_ENDPOINT = ("endpoint", "model")
# Name: (help, labels). Those that end in _total only rise.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sskai_service_spans_per_second": ("Spans of a service, whatever was sampled", ("service",)),
    "sskai_service_error_ratio": ("Share of them that failed", ("service",)),
    "sskai_service_span_seconds": ("How long they took", ("service", "quantile")),
    "sskai_endpoint_answers_per_second": ("Requests that an endpoint took up", _ENDPOINT),
    "sskai_endpoint_error_ratio": ("Share of them that failed", _ENDPOINT),
    "sskai_endpoint_answer_seconds": ("From the request to the end of its answer", (*_ENDPOINT, "quantile")),
    "sskai_endpoint_first_token_seconds": ("From the request to the first token", (*_ENDPOINT, "quantile")),
    "sskai_endpoint_output_token_seconds": ("Per token after the first", (*_ENDPOINT, "quantile")),
    "sskai_endpoint_queue_seconds": ("Until the engine read the prompt", (*_ENDPOINT, "quantile")),
    "sskai_endpoint_batch_sequences": ("Sequences that were stepped together", (*_ENDPOINT, "quantile")),
    "sskai_endpoint_input_tokens_per_second": ("Tokens of prompts", _ENDPOINT),
    "sskai_endpoint_output_tokens_per_second": ("Tokens of answers", _ENDPOINT),
    "sskai_endpoint_cached_tokens_ratio": ("Share of prompts' tokens that the prefix cache had", _ENDPOINT),
    "sskai_objective_burn_rate_ratio": (
        "1: the budget of errors lasts exactly 30 days",
        ("endpoint", "objective", "period_seconds"),
    ),
    "sskai_objective_budget_left_ratio": ("Of the 30 days' budget of errors", ("endpoint", "objective")),
    "sskai_objective_breached_rules": ("Burn rate rules that hold now", ("endpoint", "objective")),
    "sskai_ledger_paid_usd_total": ("Sum of the ledger", ("capacity_type",)),
    "sskai_ledger_on_demand_usd_total": ("The same machine time at on-demand prices", ("capacity_type",)),
    "sskai_ledger_jobs": ("Jobs with an account, by how they ended", ("outcome",)),
}
_OF_MEASURE = {
    DURATION: "sskai_endpoint_answer_seconds",
    "time_to_first_token_seconds": "sskai_endpoint_first_token_seconds",
    "time_per_output_token_seconds": "sskai_endpoint_output_token_seconds",
    "queue_seconds": "sskai_endpoint_queue_seconds",
    "batch_size": "sskai_endpoint_batch_sequences",
}

Samples: TypeAlias = dict[str, list[tuple[tuple[str, ...], float]]]


@dataclass(slots=True, eq=False)
class Shown(Collector):
    """What a scrape gets: what the last look found."""

    samples: Samples = field(default_factory=dict)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for name, values in self.samples.items():
            documentation, labels = FAMILIES[name]
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(name, documentation, labels=labels)
            for of_labels, value in values:
                family.add_metric(of_labels, value)
            yield family


SHOWN = Shown()
REGISTRY.register(SHOWN)


async def look(database: Database) -> None:
    """Count what is shown until the next look."""
    now = datetime.now(UTC)
    samples: Samples = {name: [] for name in FAMILIES}
    async with database.snapshot() as session:
        cells, since = Cells(session), now - PERIOD
        by_service = await cells.answer("", 60, since, now, group_by=("service",), whole=True, measures=(DURATION,))
        by_endpoint = await cells.answer(
            "",
            60,
            since,
            now,
            group_by=("endpoint_id", "model"),
            whole=True,
            labels={"service": ANSWERING_SERVICE},
        )
        promises = (await session.scalars(select(ObjectiveRow).limit(MAX_OBJECTIVES))).all()
        paid, on_demand = func.sum(SpendRow.amount_nano_usd), func.sum(SpendRow.on_demand_nano_usd)
        money = await session.execute(select(SpendRow.capacity_type, paid, on_demand).group_by(SpendRow.capacity_type))
        jobs = await session.execute(select(JobRow.outcome, func.count()).group_by(JobRow.outcome))
    _services(samples, by_service)
    _endpoints(samples, by_endpoint)
    _objectives(samples, promises)
    for capacity_type, paid_nano_usd, on_demand_nano_usd in money:
        samples["sskai_ledger_paid_usd_total"].append(((capacity_type,), float(paid_nano_usd) / NANO_PER_USD))
        samples["sskai_ledger_on_demand_usd_total"].append(((capacity_type,), float(on_demand_nano_usd) / NANO_PER_USD))
    for outcome, number in jobs:
        samples["sskai_ledger_jobs"].append(((outcome or "open",), number))
    SHOWN.samples = samples


def _services(samples: Samples, found: Mapping[Group, Tally]) -> None:
    busiest = sorted(found.items(), key=lambda item: -item[1].spans)[:MAX_SERVICES]
    for group, tally in busiest:
        samples["sskai_service_spans_per_second"].append((group.labels, tally.spans / PERIOD.total_seconds()))
        samples["sskai_service_error_ratio"].append((group.labels, tally.failed / tally.spans))
        _quantiles(samples, "sskai_service_span_seconds", group.labels, tally)


def _endpoints(samples: Samples, found: Mapping[Group, Tally]) -> None:
    rows: dict[tuple[str, ...], dict[str, Tally]] = {}
    for group, tally in found.items():
        if group.labels[0]:  # others were refused before an endpoint took them up
            rows.setdefault(group.labels, {})[group.measure] = tally
    busiest = sorted(rows.items(), key=lambda item: -item[1][DURATION].spans)[:MAX_ENDPOINTS]
    for labels, measures in busiest:
        answers = measures[DURATION]
        samples["sskai_endpoint_answers_per_second"].append((labels, answers.spans / PERIOD.total_seconds()))
        samples["sskai_endpoint_error_ratio"].append((labels, answers.failed / answers.spans))
        for measure, name in _OF_MEASURE.items():
            if measure in measures:
                _quantiles(samples, name, labels, measures[measure])
        for direction in ("input", "output"):
            if tokens := measures.get(f"{direction}_tokens"):
                name = f"sskai_endpoint_{direction}_tokens_per_second"
                samples[name].append((labels, tokens.total / PERIOD.total_seconds()))
        read, cached = measures.get("input_tokens"), measures.get("cached_tokens")
        if read and cached and read.total:
            samples["sskai_endpoint_cached_tokens_ratio"].append((labels, cached.total / read.total))


def _objectives(samples: Samples, promises: Iterable[ObjectiveRow]) -> None:
    for row in promises:
        labels = (row.endpoint_id, row.objective)
        samples["sskai_objective_breached_rules"].append((labels, len(row.breached)))
        for seconds, burn_rate in row.burn_rates.items():
            samples["sskai_objective_burn_rate_ratio"].append(((*labels, seconds), burn_rate))
        spent = row.burn_rates.get(str(objectives.BUDGET_SECONDS))
        if spent is not None:
            samples["sskai_objective_budget_left_ratio"].append((labels, 1 - spent))


def _quantiles(samples: Samples, name: str, labels: tuple[str, ...], tally: Tally) -> None:
    for fraction in QUANTILES:
        value = quantile(tally.counts, fraction)
        if value is not None:
            samples[name].append(((*labels, f"{fraction:g}"), value))
