"""From events a second to machines: each resource is as large as keeps it below the utilisation limit. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scale import prices
from benchmarks.scale.load import Work, flows, handled_per_second, readers, told_per_second
from services.gateway.settings import Settings as GatewaySettings
from sskai import contract
from sskai.delivery import INBOX_RETENTION_DAYS

UTILISATION = 0.6
CONNECTIONS = 21  # of a process: docs/operations.md, "Capacity"
LEAST_REPLICAS, LEAST_PARTITIONS, BROKERS, LEAST_NODES = 2, 12, 3, 3  # as deploy/helm and deploy/terraform install
COPIES = 3  # of each record
DAY_SECONDS, GIB = 86_400, 2**30
BROKER_DAYS = 7  # Kafka's default
RECORD_BYTES, INBOX_BYTES, LOG_BYTES, LEDGER_BYTES, SPAN_BYTES = 600, 200, 1_000, 500, 700  # rows with their indexes
PAGE_BYTES = 8192
RESULT_GIB = 0.03  # a LoRA adapter of 30 MB: docs/benchmarks.md, "The trainer"
LOG_LOCK_MS = 6.5  # one INSERT and one synced commit: docs/benchmarks.md, the floor of "submit", p50
MAX_LOG_EVENTS: int = GatewaySettings.model_fields["max_events"].default
LOG_DAYS: float = GatewaySettings.model_fields["event_retention_days"].default


@dataclass(frozen=True)
class Calibration:
    """Processor milliseconds: docs/benchmarks.md, sections "Events", "The gateway" and the spans of the first table."""

    handle: float = 0.77
    tell: float = 0.77
    postgres: float = 0.16
    broker: float = 0.07
    submit: float = 13.7
    span: float = 0.085


TOGETHER = Calibration()  # events wait, and are handled many in a transaction
ALONE = Calibration(handle=4.9, tell=3.6, postgres=1.05, broker=2.5)  # each as it comes, 100 a second


@dataclass(frozen=True)
class Needs:
    """`relay_utilisation` is of the busiest service's one relay; above 1 its outbox grows without end."""

    events_per_second: float
    handled_per_second: float
    replicas: dict[str, int]
    partitions: int
    handle_p99_ms: float
    relay_utilisation: float
    log_hours: float
    transactions_per_second: float
    connections: int
    postgres_vcpus: int
    database_gib_growth_per_month: float
    database_gib: float
    iops: float
    broker_mib_in_per_second: float
    broker_mib_out_per_second: float
    broker_vcpus: int
    broker_gib: float
    usd_per_month: dict[str, float]

    @property
    def usd(self) -> float:
        """Of everything, a month."""
        return sum(self.usd_per_month.values())


def needs(work: Work, calibration: Calibration = TOGETHER) -> Needs:
    """Raises ValueError for no jobs."""
    if work.jobs < 1:
        raise ValueError("jobs: at least 1")
    told = flows(work)
    handled, through_outbox = handled_per_second(told), told_per_second(told)
    all_told, all_handled = sum(it.per_second for it in told), sum(handled.values())
    spans = all_handled + all_told
    busy = {
        name: (handled[name] * calibration.handle + through_outbox[name] * calibration.tell) / 1000 for name in handled
    }
    busy["gateway"] += work.submitted_per_second * calibration.submit / 1000
    busy["monitor"] += spans * calibration.span / 1000
    replicas = {name: max(LEAST_REPLICAS, math.ceil(cores / UTILISATION)) for name, cores in busy.items()}
    fullest = max(busy[name] / replicas[name] for name in replicas)
    transactions = all_handled + sum(through_outbox.values())
    # What stays: ledger rows. What is cut by age or number: the inboxes, the gateway's log, spans.
    spend = work.jobs / work.metering_seconds
    growth = spend * 30 * DAY_SECONDS * LEDGER_BYTES / GIB
    log_rows = min(MAX_LOG_EVENTS, handled["gateway"] * LOG_DAYS * DAY_SECONDS)
    week = INBOX_RETENTION_DAYS * DAY_SECONDS
    kept = (all_handled * INBOX_BYTES * week + log_rows * LOG_BYTES) / GIB
    kept += spans * SPAN_BYTES * work.trace_days * DAY_SECONDS / GIB
    written = all_handled * (INBOX_BYTES + LOG_BYTES) + spans * SPAN_BYTES
    bytes_in = sum(it.per_second for it in told) * RECORD_BYTES
    bytes_out = sum(it.per_second * readers()[contract.topic_of(it.message)] for it in told) * RECORD_BYTES
    found = Needs(
        events_per_second=all_told,
        handled_per_second=all_handled,
        replicas=replicas,
        # A replica of the busiest service has at least two, so that keys that fall unevenly still find room.
        partitions=max(LEAST_PARTITIONS, 12 * math.ceil(2 * max(replicas.values()) / 12)),
        handle_p99_ms=calibration.handle * math.log(100) / (1 - fullest),
        relay_utilisation=max(through_outbox.values()) * calibration.tell / 1000,
        log_hours=log_rows / handled["gateway"] / 3600,
        transactions_per_second=transactions,
        connections=CONNECTIONS * sum(replicas.values()),
        postgres_vcpus=math.ceil(transactions * calibration.postgres / 1000 / UTILISATION),
        database_gib_growth_per_month=growth,
        database_gib=kept + growth,
        iops=transactions + written / PAGE_BYTES,
        broker_mib_in_per_second=bytes_in * COPIES / 2**20,
        broker_mib_out_per_second=bytes_out / 2**20,
        broker_vcpus=math.ceil(all_handled * calibration.broker / 1000 / UTILISATION),
        broker_gib=bytes_in * COPIES * BROKER_DAYS * DAY_SECONDS / GIB,
        usd_per_month={},
    )
    found.usd_per_month.update(_usd_per_month(work, found))
    return found


def tenant_jobs_by_log_lock(work: Work) -> int:
    """Jobs of one tenant until the lock of its event log is busy to the limit, with one event a transaction."""
    of_one = handled_per_second(flows(work))["gateway"] / work.jobs
    return int(UTILISATION * 1000 / LOG_LOCK_MS / of_one)


def jobs_by_relay(work: Work, calibration: Calibration = TOGETHER) -> int:
    """Jobs until the busiest service's one relay is busy to the limit."""
    of_one = max(told_per_second(flows(work)).values()) / work.jobs
    return int(UTILISATION * 1000 / calibration.tell / of_one)


def _usd_per_month(work: Work, found: Needs) -> dict[str, float]:
    hours = prices.HOURS_A_MONTH
    nodes = max(LEAST_NODES, math.ceil(sum(found.replicas.values()) / (prices.NODE_VCPUS - 1)))  # one vCPU for the node
    database = 2 * (
        _machines(found.postgres_vcpus, prices.RDS_VCPUS) * prices.RDS_USD_PER_VCPU_HOUR * hours
        + min(_disk_usd(found, 100, 3_000), _disk_usd(found, 400, 12_000))
    )
    each = _machines(math.ceil(found.broker_vcpus / BROKERS), prices.MSK_VCPUS)
    disks = max(200.0 * BROKERS, found.broker_gib)
    broker = BROKERS * each * prices.MSK_USD_PER_VCPU_HOUR * hours + disks * prices.MSK_USD_PER_GIB_MONTH
    results = work.submitted_per_second * hours * 3600 * RESULT_GIB * prices.S3_USD_PER_GIB_MONTH
    return {
        "services": nodes * prices.node_usd_per_hour() * hours + prices.EKS_USD_PER_HOUR * hours,
        "database": database,
        "broker": broker,
        "results": results,
    }


def _disk_usd(found: Needs, least_gib: int, free_iops: int) -> float:
    """Of one copy, a month. More IOPS are free from 400 GiB on, so a larger disk can be the cheaper one."""
    paid_iops = max(0.0, found.iops - free_iops)
    return max(least_gib, found.database_gib) * prices.RDS_USD_PER_GIB_MONTH + paid_iops * prices.RDS_USD_PER_IOPS_MONTH


def _machines(vcpus: int, sizes: Sequence[int]) -> int:
    """The vCPUs that are paid: the next size, and above the largest as many of the largest as it takes."""
    return next((size for size in sizes if size >= vcpus), sizes[-1] * math.ceil(vcpus / sizes[-1]))
