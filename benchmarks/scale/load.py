"""How many events a second a number of concurrent jobs tells, and who handles them. The fan-out is the code's own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from google.protobuf.message import Message

from services.monitor.settings import Settings as MonitorSettings
from services.optimizer.settings import Settings as OptimizerSettings
from services.scheduler.settings import Settings as SchedulerSettings
from services.trainer.progress import HEARTBEAT_SECONDS, LOSS_SECONDS
from sskai import contract
from sskai.database import SERVICES
from sskai.events import v1 as events

POD = "pod"  # tells its events to the broker itself, without an outbox
CATALOGUE_OFFERS = 904  # docs/benchmarks.md, "The optimizer": offers of one plan
METERING_SECONDS: float = SchedulerSettings.model_fields["metering_seconds"].default
TRACE_DAYS: float = MonitorSettings.model_fields["trace_retention_days"].default
PRICE_REFRESH_SECONDS: float = OptimizerSettings.model_fields["price_refresh_seconds"].default

# How often in the life of a job that nothing interrupts, and by whom it is told.
OF_A_JOB: Mapping[type[Message], tuple[str, float]] = {
    events.JobSubmitted: ("gateway", 1),
    events.PlanProposed: ("optimizer", 1),
    events.JobAdmitted: ("scheduler", 1),
    events.AttemptStarted: ("scheduler", 1),
    events.AttemptFinished: (POD, 1),
    events.JobSucceeded: ("scheduler", 1),
    events.ModelVersionReady: ("trainer", 1),
    events.ModelEvaluated: ("trainer", 1),
    events.ReceiptIssued: ("monitor", 1),
}
# And with each interruption.
OF_AN_INTERRUPTION: Mapping[type[Message], tuple[str, float]] = {
    events.InterruptionNoticed: ("monitor", 1),
    events.AttemptDrained: (POD, 1),
    events.JobRequeued: ("scheduler", 1),
    events.PlanProposed: ("optimizer", 1),
    events.AttemptStarted: ("scheduler", 1),
    events.AttemptResumed: (POD, 1),
}


@dataclass(frozen=True)
class Work:
    """The jobs that run at the same time. `interruptions_per_hour` is of one job."""

    jobs: int
    job_hours: float = 2.0
    step_seconds: float = 1.0
    checkpoints_per_job: float = 10.0  # the trainer's own interval without a plan's: a tenth of the steps
    interruptions_per_hour: float = 0.05
    metering_seconds: float = METERING_SECONDS
    trace_days: float = TRACE_DAYS  # a job's traces are all kept so long, whatever share of others is

    @property
    def submitted_per_second(self) -> float:
        """By Little's law: as many begin as end."""
        return self.jobs / (self.job_hours * 3600)


@dataclass(frozen=True)
class Flow:
    """Events of one type: how many a second, and which program tells them."""

    message: type[Message]
    teller: str
    per_second: float


@cache
def consumers() -> Mapping[type[Message], tuple[str, ...]]:
    """The services that handle each type."""
    handled = {name: importlib.import_module(f"services.{name}.handlers").HANDLERS for name in SERVICES}
    return {
        message: tuple(name for name in SERVICES if message in handled[name]) for message in contract.MESSAGES.values()
    }


@cache
def readers() -> Mapping[str, int]:
    """How many services read each topic: those that handle at least one of its types read all of it."""
    reading: dict[str, set[str]] = {topic: set() for topic in contract.TOPICS}
    for message, names in consumers().items():
        reading[contract.topic_of(message)].update(names)
    return {topic: len(names) for topic, names in reading.items()}


def progress_per_second(step_seconds: float) -> float:
    """AttemptProgressed of one pod: each step, at most one in LOSS_SECONDS, and a heartbeat where a step is long."""
    if step_seconds < LOSS_SECONDS:
        return 1 / (step_seconds * -(-LOSS_SECONDS // step_seconds))
    return (1 + step_seconds // HEARTBEAT_SECONDS) / step_seconds


def flows(work: Work) -> list[Flow]:
    """Everything that is told, by type and teller."""
    interruptions = work.jobs * work.interruptions_per_hour / 3600
    found = [
        Flow(events.AttemptProgressed, POD, work.jobs * progress_per_second(work.step_seconds)),
        Flow(events.CheckpointCommitted, POD, work.submitted_per_second * work.checkpoints_per_job),
        Flow(events.SpendRecorded, "scheduler", work.jobs / work.metering_seconds),
        Flow(events.PriceObserved, "optimizer", CATALOGUE_OFFERS / PRICE_REFRESH_SECONDS),
    ]
    for often, facts in ((work.submitted_per_second, OF_A_JOB), (interruptions, OF_AN_INTERRUPTION)):
        found += [Flow(message, teller, often * times) for message, (teller, times) in facts.items()]
    return found


def handled_per_second(told: list[Flow]) -> dict[str, float]:
    """Of each service."""
    return {name: sum(it.per_second for it in told if name in consumers()[it.message]) for name in SERVICES}


def told_per_second(told: list[Flow]) -> dict[str, float]:
    """Through the outbox of each service."""
    return {name: sum(it.per_second for it in told if it.teller == name) for name in SERVICES}
