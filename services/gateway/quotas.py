"""What one job of a tenant may ask for at most: refused at the door, before anything starts. Pure.

The planner chooses within what the job leaves open, so it is the most that a job could get that is held to the quota.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.jobfile import NO_ACCELERATOR, JobFileError
from sskai.events import v1 as events

MOST_PER_MACHINE = 8  # accelerators of the largest machines that can be rented (a test compares it)
USUAL_EPOCHS = 3.0  # what the planner and the trainer take where a job does not say


@dataclass(frozen=True, slots=True)
class Quotas:
    """`usd_per_hour` None: whatever the job says."""

    accelerators: int
    usd_per_hour: float | None
    epochs: float


def held(spec: events.JobSpec, quotas: Quotas) -> events.JobSpec:
    """The specification, with what it leaves open narrowed to the quotas. Raises JobFileError."""
    narrowed = events.JobSpec()
    narrowed.CopyFrom(spec)
    _hold_accelerators(narrowed, quotas.accelerators)
    _hold_price(narrowed, quotas.usd_per_hour)
    _hold_epochs(narrowed, quotas.epochs)
    return narrowed


def most_accelerators(text: str) -> int:
    """Of one machine, as a job file writes them: `L4:1`, `L4:2+, A100:1..4`, `none`; empty: the planner's choice."""
    if not text:
        return MOST_PER_MACHINE
    return max(_most(part.strip()) for part in text.split(","))


def _most(part: str) -> int:
    name, _, count = part.partition(":")
    if name.lower() in NO_ACCELERATOR:
        return 0
    low, dots, high = (count or "1").partition("..")
    if low.endswith("+") or (dots and not high):
        return MOST_PER_MACHINE
    return int(float(high or low))


def _hold_accelerators(spec: events.JobSpec, quota: int) -> None:
    each = most_accelerators(spec.resources.accelerators)
    low, _, high = (spec.resources.nodes or "1").partition("..")
    least, most = int(low.rstrip("+")), int(high or low.rstrip("+"))
    if each * least > quota:
        asked = f"leaves open up to {each}" if not spec.resources.accelerators else f"asks for up to {each * least}"
        raise JobFileError(
            "resources.accelerators",
            f"{asked} accelerators, and one job may have {quota}: write how many, such as "
            + (f"L4:{quota // least}" if quota >= least else "none"),
        )
    if each * most > quota:
        fitting = quota // each
        spec.resources.nodes = f"{least}..{fitting}" if fitting > least else str(least)


def _hold_price(spec: events.JobSpec, quota: float | None) -> None:
    if quota is None:
        return
    if spec.resources.HasField("max_price_usd_per_hour") and spec.resources.max_price_usd_per_hour > quota:
        asked = spec.resources.max_price_usd_per_hour
        raise JobFileError("max_price", f"is {asked:g} USD an hour, and one job may cost {quota:g}: write less")
    if not spec.resources.HasField("max_price_usd_per_hour"):
        spec.resources.max_price_usd_per_hour = quota


def _hold_epochs(spec: events.JobSpec, quota: float) -> None:
    wanted = spec.hyperparameters.n_epochs if spec.hyperparameters.HasField("n_epochs") else USUAL_EPOCHS
    if spec.hyperparameters.HasField("n_epochs") and wanted > quota:
        raise JobFileError("hyperparameters.n_epochs", f"is {wanted:g}, and one job may have {quota:g}: write less")
    if wanted > quota:
        spec.hyperparameters.n_epochs = quota
