"""What must never happen, whatever is killed: judged from the events that were told and from the pods' own logs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from google.protobuf.message import Message

from sskai.events import v1 as events

ENDS = (events.JobSucceeded, events.JobFailed, events.JobCancelled)
SAME_MOMENT_SECONDS = 0.001


@dataclass
class Record:
    """All that was told, each event once."""

    submitted: dict[str, int] = field(default_factory=dict)  # job -> its steps
    ids: set[str] = field(default_factory=set)
    told: list[Message] = field(default_factory=list)
    standing: list[str] = field(default_factory=list)  # machines that nobody took back in time
    set_aside: list[str] = field(default_factory=list)  # what handlers gave up on

    def of(self, kind: type[Message], job_id: str) -> list[Message]:
        return [one for one in self.told if isinstance(one, kind) and one.job_id == job_id]  # type: ignore[attr-defined]

    def attempts(self, job_id: str) -> list[int]:
        return [one.attempt for one in self.of(events.AttemptStarted, job_id)]  # type: ignore[attr-defined]

    def ends(self, job_id: str) -> list[Message]:
        return [one for kind in ENDS for one in self.of(kind, job_id)]

    def unended(self) -> set[str]:
        ended = {one.job_id for one in self.told if isinstance(one, ENDS)}
        return self.submitted.keys() - ended


def violations(record: Record, logs: Path) -> list[str]:
    """A sentence for each thing that should not be; none is the goal."""
    found = [f"a machine stands without a live attempt: {one}" for one in record.standing]
    found += [f"an event was set aside: {one}" for one in record.set_aside]
    for job_id in record.submitted:
        found += [f"{job_id}: {what}" for what in (*_life(record, job_id), *_money(record, job_id))]
    return found + overlaps(record, logs)


def overlaps(record: Record, logs: Path) -> list[str]:
    """Of the violations those in which two attempts of one job wrote, or might have."""
    return [f"{job_id}: {what}" for job_id in record.submitted for what in _writers(_log(logs, job_id))]


def false_recoveries(record: Record, logs: Path) -> list[str]:
    """Attempts that began although an earlier one had done all the work and said so: no harm, but money."""
    found = []
    for job_id in record.submitted:
        words = [line.split()[:2] for line in _log(logs, job_id)]
        done = next((index for index, (_, word) in enumerate(words) if word == "done"), len(words))
        found += [f"{job_id}: attempt {attempt}" for attempt, word in words[done:] if word == "began"]
    return found


def _log(logs: Path, job_id: str) -> list[str]:
    log = logs / job_id / "log"
    return log.read_text().splitlines() if log.exists() else []


def _life(record: Record, job_id: str) -> list[str]:
    found = []
    ends = [type(one).__name__ for one in record.ends(job_id)]
    if ends != ["JobSucceeded"]:
        found.append(f"its ends are {ends}, not one success")
    attempts = record.attempts(job_id)
    if sorted(set(attempts)) != attempts:
        found.append(f"attempts began in the order {attempts}")
    return found


def _writers(lines: list[str]) -> list[str]:
    """From a job's log in the order of its writes: once an attempt has begun, no earlier one writes."""
    found = []
    current = 0
    for line in lines:
        number, word, step, _at = line.split()
        attempt = int(number)
        if word == "twice":
            found.append(f"attempt {attempt} was launched twice")
        elif word == "fenced":
            found.append(f"attempt {attempt} was alive at step {step} after attempt {current} had begun")
        elif word == "began":
            if attempt <= current:
                found.append(f"attempt {attempt} began after attempt {current}")
            current = max(current, attempt)
        elif attempt != current:
            found.append(f"attempt {attempt} wrote {word} {step} after attempt {current} had begun")
    return found


def _money(record: Record, job_id: str) -> list[str]:
    """Each interval once, without a gap or an overlap within an attempt, and as many as the end says."""
    found = []
    rows: list[events.SpendRecorded] = sorted(
        record.of(events.SpendRecorded, job_id),  # type: ignore[arg-type]
        key=lambda row: row.interval,  # type: ignore[attr-defined]
    )
    numbers = [row.interval for row in rows]
    if numbers != list(range(1, len(rows) + 1)):
        found.append(f"its intervals are numbered {numbers}")
    by_attempt: dict[int, list[events.SpendRecorded]] = defaultdict(list)
    for row in rows:
        by_attempt[row.attempt].append(row)
    for attempt, intervals in by_attempt.items():
        for before, after in pairwise(intervals):
            gap = (after.started_at.ToDatetime() - before.ended_at.ToDatetime()).total_seconds()
            if abs(gap) > SAME_MOMENT_SECONDS:
                found.append(f"attempt {attempt}: {gap:.3f} s between intervals {before.interval} and {after.interval}")
    for end in record.ends(job_id):
        metered = end.metered_intervals  # type: ignore[attr-defined]
        if metered != len(rows):
            found.append(f"its end counts {metered} intervals, {len(rows)} were told")
    return found
