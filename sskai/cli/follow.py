"""A job as it goes on: a bar on a terminal, plain lines elsewhere, events as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from sskai import waiting_words
from sskai.cli import common
from sskai.client import Client, Event
from sskai.money import NANO_PER_USD

ENDS = {"JobSucceeded": 0, "JobFailed": 1, "JobCancelled": 1}
TOLD_PARTS = 10  # where nobody sees a bar, so many lines from the first step to the last
INTERRUPTED = 130


@dataclass
class Training:
    """What is known of the job so far."""

    attempt: int = 0
    phase: str = "submitted"
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    eta_seconds: float | None = None
    spent_nano_usd: int = 0
    on_demand_nano_usd: int = 0
    ended: str = ""
    model: str = ""
    told: tuple[int, str, int] = field(default=(0, "", -1))

    def take(self, event: Event) -> None:
        data = event.data
        if event.type == "AttemptProgressed":
            self.attempt, self.phase = int(data.get("attempt", 0)), str(data.get("phase", ""))
            self.step, self.total_steps = int(data.get("step", 0)), int(data.get("total_steps", 0))
            self.loss, self.eta_seconds = data.get("loss"), data.get("eta_seconds")
        elif event.type == "SpendRecorded":
            self.spent_nano_usd += int(data.get("amount_nano_usd", 0))
            self.on_demand_nano_usd += int(data.get("on_demand_nano_usd", 0))
        elif event.type in ENDS:
            self.ended, self.model = event.type, str(data.get("model_name", ""))

    @property
    def figures(self) -> str:
        """Loss, time left and money, as far as they are known."""
        parts = [] if self.loss is None else [f"loss {self.loss:.3f}"]
        if self.eta_seconds and not self.ended:
            parts.append(f"{_time(self.eta_seconds)} left")
        parts.append(f"{self.spent_nano_usd / NANO_PER_USD:.4f} $")
        return ", ".join(parts)

    def news(self) -> str:
        """A line where there is no bar: of a new attempt or phase, and ten times on the way; else empty."""
        if not self.attempt:
            return ""
        part = TOLD_PARTS * self.step // self.total_steps if self.total_steps else 0
        now = (self.attempt, self.phase, part)
        if now == self.told:
            return ""
        self.told = now
        steps = f" {self.step}/{self.total_steps}" if self.total_steps else ""
        return f"attempt {self.attempt}: {self.phase}{steps}, {self.figures}"


def words(event: Event, now: datetime) -> str:
    """What is worth a line of its own; empty for the rest."""
    data = event.data
    match event.type:
        case "JobHeld":
            return waiting_words.in_words(data, now)
        case "AttemptStarted":
            place = data.get("placement") or {}
            kind = "spot" if "SPOT" in str(place.get("capacity_type", "")) else "on demand"
            price = float(place.get("price_usd_per_hour", 0))
            where = f"{place.get('instance_type', '')} in {place.get('zone') or place.get('region', '')}"
            return f"attempt {data.get('attempt')} on {where}, {price:.4f} $/h {kind}"
        case "AttemptResumed":
            lost, gap = data.get("lost_steps", 0), float(data.get("gap_seconds", 0))
            return (
                f"attempt {data.get('attempt')} goes on after step {data.get('from_step', 0)}: {lost} steps lost, "
                f"{gap:.0f} s gap"
            )
        case "AttemptLost":
            return f"attempt {data.get('attempt')} was lost: {data.get('reason', '')}"
        case "JobRequeued":
            return f"looks for another machine ({data.get('reason', '')}), {data.get('steps_done', 0)} steps are safe"
        case "JobSucceeded":
            before, after = data.get("eval_loss_before"), data.get("eval_loss_after")
            loss = f"; held-out loss {before:.3f} -> {after:.3f}" if before and after else ""
            return f"succeeded after {data.get('steps', 0)} steps{loss}"
        case "JobFailed":
            return f"failed: {data.get('reason', '')}. {data.get('advice', '')}".rstrip()
        case "JobCancelled":
            return "cancelled"
    return ""


def follow(client: Client, job_id: str, *, as_json: bool) -> int:
    """Until the job ends; the exit code. Interrupted, it only stops looking."""
    events = client.jobs.follow(job_id)
    try:
        if as_json:
            return _as_json(events)
        training = _on_a_terminal(events) if common.out.is_terminal else _in_lines(events)
    except KeyboardInterrupt:
        common.err.print(
            f"\nThe job goes on: sskai jobs follow {job_id} looks again, sskai jobs cancel {job_id} ends it."
        )
        return INTERRUPTED
    if training.ended == "JobSucceeded":
        spent, on_demand = training.spent_nano_usd / NANO_PER_USD, training.on_demand_nano_usd / NANO_PER_USD
        print(f"{spent:.4f} $ (the same on demand: {on_demand:.4f} $)")
        if training.model:
            print(f"Serve it: sskai endpoints create {training.model} --model {training.model}")
    return ENDS.get(training.ended, 1)


def _as_json(events: Iterable[Event]) -> int:
    code = 1
    for event in events:
        print(json.dumps({"position": event.position, **event.cloudevent}), flush=True)
        code = ENDS.get(event.type, 1)
    return code


def _in_lines(events: Iterable[Event]) -> Training:
    training = Training()
    for event in events:
        training.take(event)
        line = words(event, datetime.now(UTC)) or (training.news() if event.type == "AttemptProgressed" else "")
        if line:
            print(line, flush=True)
    return training


def _on_a_terminal(events: Iterable[Event]) -> Training:
    training = Training()
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )  # fmt: skip
    with Progress(*columns, console=common.out, transient=True) as bar:
        task = bar.add_task("waiting", total=None, figures="")
        for event in events:
            training.take(event)
            if line := words(event, datetime.now(UTC)):
                bar.console.print(f"[dim]{_clock(event)}[/dim] {escape(line)}", highlight=False)
            what = f"attempt {training.attempt} {training.phase}" if training.attempt else "waiting"
            total = training.total_steps or None
            bar.update(task, description=what, completed=training.step, total=total, figures=training.figures)
    return training


def _clock(event: Event) -> str:
    at: Any = event.cloudevent.get("time")
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S") if at else ""


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
