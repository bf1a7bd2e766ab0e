"""A job's life as marks in time, and the marks put together as lanes, waits, events and prices. Pure.

A mark is what one event said, under a key of its own: told twice it is one mark. Events of one topic come in their
order, those of different topics in any. What `assemble` returns is described in docs/guides/timeline.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from google.protobuf.message import Message

from services.gateway.domain import JobView
from services.gateway.plain import finite, iso, plain
from sskai.contract import moment
from sskai.events import v1 as events

MAX_PRICE_POINTS = 200  # of one offer, in one answer
MAX_OFFERS = 20  # the newest ones that a job used
Document: TypeAlias = dict[str, Any]

ATTEMPT, PHASE, RESUME = "attempt", "phase", "resume"
ENDS = FINISHED, DRAINED, LOST = "finished", "drained", "lost"
# What is shown as an event beside the lanes; the other kinds make the lanes.
EVENTS = CHECKPOINT, HOLD, REQUEUE, PLAN, BUDGET, DENIAL, CANCEL = (
    "checkpoint",
    "hold",
    "requeue",
    "plan",
    "budget",
    "denial",
    "cancel",
)
NOTICE = "notice"
LANES = (ATTEMPT, RESUME, *ENDS)


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that happened. `key` is unique within the job."""

    key: str
    kind: str
    at: datetime
    body: Document


@dataclass(frozen=True, slots=True)
class Notice:
    """What a cloud said of a machine; `terminates_at` is absent from a mere recommendation."""

    machine_id: str
    at: datetime
    action: str
    terminates_at: datetime | None


@dataclass(frozen=True, slots=True)
class PricePoint:
    offer: str
    at: datetime
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Job:
    """What is known of the job beside its marks."""

    job_id: str
    name: str
    state: str
    submitted_at: datetime
    ended_at: datetime | None
    deadline: datetime | None
    budget_usd: float | None
    spent_usd: float
    on_demand_usd: float
    steps: Mapping[int, int]  # the newest step that each attempt told


def mark_of(view: JobView, event: Message) -> Mark | None:
    """The event as a mark, or None when it says nothing new to whoever knows the view, which is from before it."""
    maker = _MARKS.get(type(event))
    return None if maker is None else maker(view, event)


def _attempt_started(_view: JobView, event: events.AttemptStarted) -> Mark:
    body = {
        "attempt": event.attempt,
        "machine_id": event.machine_id,
        "member_ids": list(event.member_ids),
        "placement": plain(event.placement),
    }
    return Mark(f"{ATTEMPT}/{event.attempt}", ATTEMPT, moment(event.started_at), body)


def _phase_begun(view: JobView, event: events.AttemptProgressed) -> Mark | None:
    known = view.attempts.get(event.attempt)
    if known is not None and known.progress is not None and known.progress.phase == event.phase:
        return None
    at = moment(event.at)
    return Mark(f"{PHASE}/{event.attempt}/{iso(at)}", PHASE, at, {"attempt": event.attempt, "phase": event.phase})


def _resumed(_view: JobView, event: events.AttemptResumed) -> Mark:
    body = {
        "attempt": event.attempt,
        "from_attempt": event.from_attempt,
        "from_step": event.from_step,
        "lost_steps": event.lost_steps,
        "gap_seconds": finite(event.gap_seconds),
    }
    return Mark(f"{RESUME}/{event.attempt}", RESUME, moment(event.at), body)


def _finished(_view: JobView, event: events.AttemptFinished) -> Mark:
    reason = "succeeded" if event.succeeded else event.reason
    return _end(event.attempt, FINISHED, moment(event.at), reason, event.steps)


def _drained(_view: JobView, event: events.AttemptDrained) -> Mark:
    return _end(event.attempt, DRAINED, moment(event.at), "", event.step)


def _lost(_view: JobView, event: events.AttemptLost) -> Mark:
    return _end(event.attempt, LOST, moment(event.at), event.reason, event.last_known_step)


def _end(attempt: int, kind: str, at: datetime, reason: str, step: int) -> Mark:
    return Mark(f"{kind}/{attempt}", kind, at, {"attempt": attempt, "reason": reason, "step": step})


def _checkpoint(_view: JobView, event: events.CheckpointCommitted) -> Mark:
    body = {
        "attempt": event.attempt,
        "step": event.step,
        "bytes": event.bytes,
        "cause": event.cause,
        "save_seconds": finite(event.save_seconds),
    }
    return Mark(f"{CHECKPOINT}/{event.attempt}/{event.step}", CHECKPOINT, moment(event.at), body)


def _held(view: JobView, event: events.JobHeld) -> Mark | None:
    newest, hold, at = view.newest_attempt, view.hold, moment(event.held_at)
    # A rule that holds on is told again and again; it is news once, or after something ran in between.
    if hold is not None and hold.rule == event.rule and hold.at <= at:
        ran_since = newest is not None and newest.started_at is not None and newest.started_at > hold.at
        if not ran_since:
            return None
    return Mark(f"{HOLD}/{iso(at)}", HOLD, at, {"rule": event.rule, "detail": event.detail})


def _requeued(_view: JobView, event: events.JobRequeued) -> Mark:
    body = {"attempt": event.attempt, "reason": event.reason, "steps_done": event.steps_done}
    return Mark(f"{REQUEUE}/{event.attempt}", REQUEUE, moment(event.requeued_at), body)


def _planned(_view: JobView, event: events.PlanProposed) -> Mark | None:
    if event.preview or not event.candidates:
        return None
    point = iso(moment(event.point_of_no_return)) if event.HasField("point_of_no_return") else None
    placement = plain(event.candidates[0].placement)
    body = {
        "plan_id": event.plan_id,
        "cause": event.cause,
        "offer": offer_of(placement),
        "price_usd_per_hour": placement["price_usd_per_hour"],
        "point_of_no_return": point,
    }
    return Mark(f"{PLAN}/{event.plan_id}", PLAN, moment(event.proposed_at), body)


def _budget(_view: JobView, event: events.BudgetThresholdReached) -> Mark:
    body = {"fraction": event.fraction, "spent_usd": event.spent_usd}
    return Mark(f"{BUDGET}/{event.fraction:g}", BUDGET, moment(event.at), body)


def _denied(_view: JobView, event: events.CapacityDenied) -> Mark:
    at = moment(event.denied_at)
    return Mark(f"{DENIAL}/{iso(at)}", DENIAL, at, {"offer": event.offer, "detail": event.detail})


def _cancel(_view: JobView, event: events.JobCancelRequested) -> Mark:
    return Mark(CANCEL, CANCEL, moment(event.requested_at), {})


_MARKS: dict[type[Message], Callable[[JobView, Any], Mark | None]] = {
    events.AttemptStarted: _attempt_started,
    events.AttemptProgressed: _phase_begun,
    events.AttemptResumed: _resumed,
    events.AttemptFinished: _finished,
    events.AttemptDrained: _drained,
    events.AttemptLost: _lost,
    events.CheckpointCommitted: _checkpoint,
    events.JobHeld: _held,
    events.JobRequeued: _requeued,
    events.PlanProposed: _planned,
    events.BudgetThresholdReached: _budget,
    events.CapacityDenied: _denied,
    events.JobCancelRequested: _cancel,
}


def offer_of(placement: Mapping[str, Any]) -> str:
    """As PriceObserved and CapacityDenied name it."""
    names = ("cloud", "region", "zone", "instance_type", "capacity_type")
    return "/".join(str(placement[name]) for name in names)


def offers(marks: Iterable[Mark]) -> list[str]:
    """What the job's attempts ran on, the newest first."""
    started = [mark for mark in sorted(marks, key=_when, reverse=True) if mark.kind == ATTEMPT]
    return list(dict.fromkeys(offer_of(mark.body["placement"]) for mark in started))[:MAX_OFFERS]


def machines(marks: Iterable[Mark]) -> list[str]:
    """All that the job's attempts ran on, as a cloud's notice names them."""
    return list(_attempt_on(marks))


def _attempt_on(marks: Iterable[Mark]) -> dict[str, int]:
    """By machine, a gang's members too, the attempt that ran there."""
    started = [mark.body for mark in marks if mark.kind == ATTEMPT]
    return {
        machine_id: body["attempt"]
        for body in started
        for machine_id in (body["machine_id"], *body.get("member_ids", ()))
        if machine_id
    }


def assemble(
    job: Job, marks: Sequence[Mark], notices: Iterable[Notice], prices: Sequence[PricePoint], now: datetime
) -> Document:
    """The whole timeline. Moments are ISO 8601 in UTC, prices USD an hour; what is not over ends at `now`."""
    marks = sorted(marks, key=_when)
    until = job.ended_at or now
    attempt_on = _attempt_on(marks)
    notices = [notice for notice in notices if notice.machine_id in attempt_on]
    taken_at: dict[int, datetime] = {}
    for notice in notices:
        if notice.terminates_at is not None:
            number = attempt_on[notice.machine_id]
            taken_at[number] = min(notice.terminates_at, taken_at.get(number, notice.terminates_at))
    lanes = _lanes(job, marks, taken_at, until)
    plans = [mark.body for mark in marks if mark.kind == PLAN]
    happened = [_event(mark) for mark in marks if mark.kind in EVENTS] + _notice_events(attempt_on, notices)
    return {
        "id": job.job_id,
        "object": "job.timeline",
        "name": job.name,
        "state": job.state,
        "from": iso(job.submitted_at),
        "until": iso(until),
        "deadline": iso(job.deadline) if job.deadline else None,
        "point_of_no_return": plans[-1]["point_of_no_return"] if plans else None,
        "spent_usd": job.spent_usd,
        "on_demand_usd": job.on_demand_usd,
        "budget_usd": job.budget_usd,
        "attempts": lanes,
        "waits": _waits(job, lanes, marks, until),
        "events": sorted(happened, key=lambda event: (event["at"], event["kind"])),
        "prices": [_series(offer, lanes, prices, job.submitted_at, until) for offer in offers(marks)],
    }


def _lanes(job: Job, marks: Sequence[Mark], taken_at: Mapping[int, datetime], until: datetime) -> list[Document]:
    started = sorted((mark for mark in marks if mark.kind == ATTEMPT), key=lambda mark: int(mark.body["attempt"]))
    by_attempt: dict[int, list[Mark]] = {}
    for mark in marks:
        by_attempt.setdefault(mark.body.get("attempt", 0), []).append(mark)
    resumes = {mark.body["from_attempt"]: mark.body for mark in marks if mark.kind == RESUME}
    lanes = []
    for place, begun in enumerate(started):
        number = begun.body["attempt"]
        own = by_attempt[number]
        end = next((mark for mark in own if mark.kind in ENDS), None)
        later = started[place + 1].at if place + 1 < len(started) else None
        ended_at = end.at if end is not None else _ended_by_others(own, later, marks, taken_at.get(number), until)
        ended_at = ended_at or job.ended_at
        resume = next((mark.body for mark in own if mark.kind == RESUME), None)
        told = [job.steps.get(number, 0), *(mark.body["step"] for mark in own if mark.kind in (*ENDS, CHECKPOINT))]
        lanes.append(
            {
                "number": number,
                "machine_id": begun.body["machine_id"],
                "offer": offer_of(begun.body["placement"]),
                "placement": begun.body["placement"],
                "started_at": iso(begun.at),
                "ended_at": iso(ended_at) if ended_at else None,
                "outcome": end.kind if end else "ended" if ended_at else "running",
                "reason": _reason(end, own),
                "from_step": resume["from_step"] if resume else 0,
                "to_step": max(told),
                "lost_steps": resumes[number]["lost_steps"] if number in resumes else 0,
                "gap_seconds": resume["gap_seconds"] if resume else None,
                "phases": _phases(own, begun.at, ended_at or until),
            }
        )
    return lanes


def _ended_by_others(
    own: Sequence[Mark], later: datetime | None, marks: Sequence[Mark], taken_at: datetime | None, until: datetime
) -> datetime | None:
    """When an attempt that did not tell its end was over; None: nobody says that it is. `later`: the next one's start.

    One that lived may drain while the next one loads: it is over when the scheduler says so, the next one goes on from
    it, or its machine is taken. One that never told anything (its offer was denied late) is over when the next starts.
    """
    attempt = own[0].body["attempt"]
    requeued = next((mark.at for mark in own if mark.kind == REQUEUE), None)
    resumed = next((mark.at for mark in marks if mark.kind == RESUME and mark.body["from_attempt"] == attempt), None)
    if requeued or resumed:
        return requeued or resumed
    if taken_at is not None:
        return taken_at if taken_at <= until else None
    return None if any(mark.kind == PHASE for mark in own) else later


def _reason(end: Mark | None, own: Sequence[Mark]) -> str:
    """The end's own word, or the scheduler's when it queued the job again."""
    requeued = next((str(mark.body["reason"]) for mark in own if mark.kind == REQUEUE), "")
    return requeued or (str(end.body["reason"]) if end is not None else "")


def _phases(own: Sequence[Mark], started_at: datetime, ended_at: datetime) -> list[Document]:
    """What the attempt did after what; before its first word it was starting."""
    begun: list[tuple[datetime, str]] = [(started_at, "starting")]
    for mark in own:
        if mark.kind == PHASE and started_at <= mark.at <= ended_at and mark.body["phase"] != begun[-1][1]:
            begun.append((mark.at, mark.body["phase"]))
    ends = [at for at, _ in begun[1:]] + [ended_at]
    return [
        {"phase": phase, "started_at": iso(at), "ended_at": iso(end)}
        for (at, phase), end in zip(begun, ends, strict=True)
    ]


def _waits(job: Job, lanes: Sequence[Document], marks: Sequence[Mark], until: datetime) -> list[Document]:
    """The times in which nothing ran, each with the rule that held the job last in it."""
    waits, since = [], job.submitted_at
    spans = [(_moment(lane["started_at"]), _moment(lane["ended_at"]) if lane["ended_at"] else until) for lane in lanes]
    for start, end in [*sorted(spans), (until, until)]:
        if start > since:
            held = [mark.body for mark in marks if mark.kind == HOLD and since <= mark.at <= start]
            rule = held[-1] if held else {"rule": "", "detail": ""}
            waits.append({"from": iso(since), "until": iso(start), **rule})
        since = max(since, end)
    return waits


def _event(mark: Mark) -> Document:
    return {"at": iso(mark.at), "kind": mark.kind, **mark.body}


def _notice_events(attempt_on: Mapping[str, int], notices: Iterable[Notice]) -> list[Document]:
    return [
        {
            "at": iso(notice.at),
            "kind": NOTICE,
            "attempt": attempt_on[notice.machine_id],
            "machine_id": notice.machine_id,
            "action": notice.action,
            "terminates_at": iso(notice.terminates_at) if notice.terminates_at else None,
        }
        for notice in notices
    ]


def _series(
    offer: str, lanes: Sequence[Document], prices: Sequence[PricePoint], since: datetime, until: datetime
) -> Document:
    """What the offer cost while the job lived: observed prices, else what its attempts were launched at."""
    placements = [lane["placement"] for lane in lanes if lane["offer"] == offer]
    points = sorted(
        (max(point.at, since), point.usd_per_hour) for point in prices if point.offer == offer and point.at <= until
    )
    if not points:
        points = [
            (_moment(lane["started_at"]), lane["placement"]["price_usd_per_hour"])
            for lane in lanes
            if lane["offer"] == offer
        ]
    return {
        "offer": offer,
        "capacity_type": placements[-1]["capacity_type"],
        "on_demand_usd_per_hour": placements[-1]["on_demand_price_usd_per_hour"],
        "points": [{"at": iso(at), "usd_per_hour": usd} for at, usd in thinned(points)],
    }


def thinned(points: Sequence[tuple[datetime, float]], limit: int = MAX_PRICE_POINTS) -> list[tuple[datetime, float]]:
    """At most so many points: of each stretch of time the cheapest and the dearest, so that no peak is lost."""
    if len(points) <= limit:
        return list(points)
    first, last = points[0][0], points[-1][0]
    stretches: dict[int, list[tuple[datetime, float]]] = {}
    count = limit // 2
    for point in points:
        place = int((point[0] - first) / (last - first) * (count - 1)) if last > first else 0
        stretches.setdefault(place, []).append(point)
    kept = {choose(stretch, key=lambda point: point[1]) for stretch in stretches.values() for choose in (min, max)}
    return sorted(kept)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _when(mark: Mark) -> tuple[datetime, str]:
    return mark.at, mark.key
