"""What a replica is and may become, and what an endpoint's replicas need next. Pure: values in, a step out.

A replica that will go (a notice, an older version, a machine that is dearer than it need be) is replaced first and
drained when the others are enough without it, or when its time is nearly over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Self

from services.inference.scaling import Load
from sskai.cluster import offer_of
from sskai.events import v1 as events

Weights = tuple[str, str]  # base_uri, artifact_uri


class ReplicaState(StrEnum):
    REQUESTED = "requested"  # written down, and perhaps launched
    LAUNCHING = "launching"  # its machine is there, and loads
    READY = "ready"
    DRAINING = "draining"  # finishes its answers
    ENDED = "ended"


NEXT_STATES: dict[ReplicaState, frozenset[ReplicaState]] = {
    ReplicaState.REQUESTED: frozenset({ReplicaState.LAUNCHING, ReplicaState.READY, ReplicaState.ENDED}),
    ReplicaState.LAUNCHING: frozenset({ReplicaState.READY, ReplicaState.DRAINING, ReplicaState.ENDED}),
    ReplicaState.READY: frozenset({ReplicaState.DRAINING, ReplicaState.ENDED}),
    ReplicaState.DRAINING: frozenset({ReplicaState.ENDED}),
    ReplicaState.ENDED: frozenset(),
}


class Reason(StrEnum):
    """Why a replica goes. `is_failure`: another one might end the same way, so they are counted."""

    SCALED_DOWN = "scaled-down"
    DELETED = "deleted"
    NEW_VERSION = "new-version"
    CHEAPER = "cheaper-machine"
    BUDGET = "budget"  # what was reserved for it is nearly spent
    INTERRUPTED = "interrupted"
    MACHINE_LOST = "machine-lost"
    LEFT = "left"  # it said itself that it drains
    NO_CAPACITY = "no-capacity"
    REFUSED = "refused"  # the cluster will never launch it as it is
    NOT_LOADED = "not-loaded"  # it told why
    EXITED = "exited"
    NEVER_READY = "never-ready"
    SILENT = "silent"

    @property
    def is_failure(self) -> bool:
        return self in (Reason.REFUSED, Reason.NOT_LOADED, Reason.EXITED, Reason.NEVER_READY, Reason.SILENT)


@dataclass(frozen=True, slots=True)
class Replica:
    """One pod of an endpoint. `number` rises; (endpoint_id, number) names it: launched twice, it is one machine."""

    endpoint_id: str
    number: int
    placement: events.Placement
    weights: Weights
    requested_at: datetime
    state: ReplicaState = ReplicaState.REQUESTED
    reason: str = ""
    detail: str = ""
    machine_id: str = ""
    url: str = ""
    load_seconds: float = 0.0
    launched_at: datetime | None = None
    ready_at: datetime | None = None
    heard_at: datetime | None = None
    terminates_at: datetime | None = None  # by a notice
    draining_at: datetime | None = None
    ended_at: datetime | None = None
    metered_until: datetime | None = None
    active: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0

    @property
    def replica_id(self) -> str:
        return f"{self.endpoint_id}-{self.number}"

    @property
    def on_spot(self) -> bool:
        return is_spot(self.placement)

    @property
    def capacity(self) -> str:
        return "spot" if self.on_spot else "on-demand"

    @property
    def ready(self) -> bool:
        return self.state is ReplicaState.READY

    @property
    def live(self) -> bool:
        return self.state is not ReplicaState.ENDED

    @property
    def load(self) -> Load:
        return Load(self.active, self.waiting, self.tokens_per_second)

    def to(self, state: ReplicaState, reason: Reason, now: datetime) -> Self:
        """The replica in its next state. Raises ValueError: `replica end_1-2: ended -> ready`."""
        if state not in NEXT_STATES[self.state]:
            raise ValueError(f"replica {self.replica_id}: {self.state} -> {state}")
        return replace(
            self,
            state=state,
            reason=self.reason or reason or "",
            draining_at=now if state is ReplicaState.DRAINING else self.draining_at,
            ended_at=now if state is ReplicaState.ENDED else self.ended_at,
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """How many there should be (`wanted`, by the load), of them on demand, of which weights, and where they may run."""

    minimum: int
    wanted: int
    on_demand: int
    weights: Weights
    placements: tuple[events.Placement, ...]
    denied_until: Mapping[str, datetime] = field(default_factory=dict)  # by offer
    retry_at: datetime | None = None  # after failures: not before


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds. `lead`: so long before its machine is taken a replica drains, whether or not another one is ready."""

    start: float = 1800.0
    silence: float = 30.0
    drain: float = 110.0
    lead: float = 60.0
    most_launches: int = 8


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next."""

    launch: tuple[events.Placement, ...] = ()
    drain: tuple[tuple[Replica, Reason], ...] = ()
    end: tuple[tuple[Replica, Reason], ...] = ()


def is_spot(placement: events.Placement) -> bool:
    return placement.capacity_type == events.CAPACITY_TYPE_SPOT


def clear(replicas: Sequence[Replica], limits: Limits, now: datetime, reason: Reason = Reason.DELETED) -> Step:
    """Of an endpoint that nobody wants, or pays for, any more."""
    live = [one for one in replicas if one.live]
    young = [one for one in live if one.state in (ReplicaState.REQUESTED, ReplicaState.LAUNCHING)]
    return Step(
        drain=tuple((one, reason) for one in live if one.ready),
        end=(*((one, reason) for one in young), *_overdue(live, limits, now)),
    )


def decide(wish: Wish, replicas: Sequence[Replica], limits: Limits, now: datetime, listening_since: datetime) -> Step:
    """`listening_since`: since when replicas could be heard at all. A service that was down itself has heard nobody."""
    live = [one for one in replicas if one.live]
    ends = [*_broken(live, limits, now, listening_since), *_overdue(live, limits, now)]
    ending = {one.number for one, _ in ends}
    able = [one for one in live if one.number not in ending and one.state is not ReplicaState.DRAINING]
    leaving = [(one, reason) for one in able if (reason := _leaves(one, wish)) is not None]
    gone = {one.number for one, _ in leaving}
    staying = [one for one in able if one.number not in gone]
    ends += [(one, reason) for one, reason in leaving if not one.ready]
    drains = _drained(leaving, staying, wish, limits, now)
    surplus_drains, surplus_ends = _surplus(staying, wish)
    return Step(
        launch=_launches(staying, wish, limits, now),
        drain=(*drains, *surplus_drains),
        end=(*ends, *surplus_ends),
    )


def _broken(
    live: Sequence[Replica], limits: Limits, now: datetime, listening_since: datetime
) -> list[tuple[Replica, Reason]]:
    found = []
    for one in live:
        if one.ready and _since(max(one.heard_at or listening_since, listening_since), now) >= limits.silence:
            found.append((one, Reason.SILENT))
        elif one.state is ReplicaState.LAUNCHING and _since(one.launched_at or one.requested_at, now) >= limits.start:
            found.append((one, Reason.NEVER_READY))
    return found


def _overdue(live: Sequence[Replica], limits: Limits, now: datetime) -> list[tuple[Replica, Reason]]:
    """They were asked to stop, and have not."""
    return [
        (one, Reason(one.reason) if one.reason else Reason.LEFT)
        for one in live
        if one.state is ReplicaState.DRAINING and _since(one.draining_at or now, now) >= limits.drain
    ]


def _leaves(one: Replica, wish: Wish) -> Reason | None:
    if one.terminates_at is not None:
        return Reason.INTERRUPTED
    return Reason.NEW_VERSION if one.weights != wish.weights else None


def _drained(
    leaving: Sequence[tuple[Replica, Reason]], staying: Sequence[Replica], wish: Wish, limits: Limits, now: datetime
) -> list[tuple[Replica, Reason]]:
    """Those whose time is nearly over, and as many of the others as are not needed any more; the most urgent first."""
    answering = [(one, reason) for one, reason in leaving if one.ready]
    answering.sort(key=lambda each: (each[0].terminates_at is None, each[0].terminates_at or now, each[0].number))
    spare = sum(one.ready for one in staying) + len(answering) - wish.wanted
    drains: list[tuple[Replica, Reason]] = []
    for one, reason in answering:
        urgent = one.terminates_at is not None and _since(now, one.terminates_at) <= limits.lead
        if urgent or len(drains) < spare:
            drains.append((one, reason))
    return drains


def _surplus(
    staying: Sequence[Replica], wish: Wish
) -> tuple[list[tuple[Replica, Reason]], list[tuple[Replica, Reason]]]:
    """What is too much: what answers is drained, what does not yet is ended.

    On-demand machines beyond the floor go first. One that stands in for spot stays until what was ordered in its place
    answers.
    """
    excess = len(staying) - wish.wanted
    if excess <= 0:
        return [], []
    steady = sorted((one for one in staying if not one.on_spot), key=lambda one: one.number)
    stand_ins = steady[min(wish.on_demand, wish.wanted) :]
    spot = [one for one in staying if one.on_spot]
    spot.sort(key=lambda one: (one.ready, -one.placement.price_usd_per_hour, one.active, -one.number))
    ready = sum(one.ready for one in staying)
    drains: list[tuple[Replica, Reason]] = []
    ends: list[tuple[Replica, Reason]] = []
    for one in [*reversed(stand_ins), *spot][:excess]:
        reason = Reason.SCALED_DOWN if one.on_spot else Reason.CHEAPER
        if not one.ready:
            ends.append((one, reason))
        elif ready > wish.wanted:
            drains.append((one, reason))
            ready -= 1
    return drains, ends


def _launches(staying: Sequence[Replica], wish: Wish, limits: Limits, now: datetime) -> tuple[events.Placement, ...]:
    if wish.retry_at is not None and now < wish.retry_at:
        return ()
    on_demand = sum(not one.on_spot for one in staying)
    chosen: list[events.Placement] = []
    while len(staying) + len(chosen) < wish.wanted and len(chosen) < limits.most_launches:
        placement = choose(wish, len(staying) + len(chosen), on_demand, now)
        if placement is None:
            break
        chosen.append(placement)
        on_demand += not is_spot(placement)
    if chosen or len(staying) != wish.wanted or not all(one.ready for one in staying):
        return tuple(chosen)
    # What was denied may be had again: one at a time in place of what stands in for it.
    floor = min(wish.on_demand, wish.wanted)
    better = _cheapest(wish, now, spot=on_demand > floor) if on_demand != floor else None
    return (better,) if better is not None else ()


def choose(wish: Wish, count: int, on_demand: int, now: datetime) -> events.Placement | None:
    """Where the next one goes, of so many that there are; None: nowhere now."""
    spot, steady = _cheapest(wish, now, spot=True), _cheapest(wish, now, spot=False)
    if on_demand < wish.on_demand:
        return steady or spot
    if spot is not None:
        return spot
    # Dear, but the floor would break. What is wished for beyond it waits for spot.
    return steady if count < max(1, wish.minimum) or not any(map(is_spot, wish.placements)) else None


def _cheapest(wish: Wish, now: datetime, *, spot: bool) -> events.Placement | None:
    free = [one for one in wish.placements if is_spot(one) is spot and wish.denied_until.get(offer_of(one), now) <= now]
    return min(free, key=lambda one: one.price_usd_per_hour, default=None)


@dataclass(frozen=True, slots=True)
class History:
    """What the newest replicas teach: offers that denied a machine, and failures in a row."""

    denied_until: Mapping[str, datetime]
    failures: int
    retry_at: datetime | None
    last_failure: Replica | None


FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 2.0, 120.0
MAX_FAILURES = 6  # in a row, while none answers: about two minutes of backoff
STABLE_SECONDS = 60.0  # one that answered for so long shows that it was not the weights


def learn(replicas: Iterable[Replica], denial_seconds: float, now: datetime) -> History:
    """`replicas`: the newest ones, ended or not."""
    newest = sorted(replicas, key=lambda one: -one.number)
    denied_until = {
        offer_of(one.placement): until
        for one in reversed(newest)
        if one.reason == Reason.NO_CAPACITY
        and one.ended_at is not None
        and (until := one.ended_at + timedelta(seconds=denial_seconds)) > now
    }
    failed = [one for one in takewhile(lambda one: not _stable(one, now), newest) if _failed(one)]
    if not failed:
        return History(denied_until, 0, None, None)
    last = max(failed, key=lambda one: one.ended_at or one.requested_at)
    pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(len(failed) - 1, 16), LONGEST_RETRY_SECONDS)
    return History(denied_until, len(failed), (last.ended_at or now) + timedelta(seconds=pause), last)


def _stable(one: Replica, now: datetime) -> bool:
    return one.ready_at is not None and _since(one.ready_at, one.ended_at or now) >= STABLE_SECONDS


def _failed(one: Replica) -> bool:
    return not one.live and one.reason in set(Reason) and Reason(one.reason).is_failure


def _since(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()
