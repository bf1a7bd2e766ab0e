"""What the cluster's lists mean over time: who is missing, how long a silence counts, when to delete again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.scheduler.domain import Attempt, EndReason

# The trainer's own last word travels through the broker; the cluster's, or the cloud's, must not overtake it.
LAST_WORD_SECONDS = 3.0
# A cluster's list may lag behind a launch, and behind itself: an attempt is gone when two lists in a row lack it, this
# far apart, and its launch is not that young.
MISSING_SECONDS = 1.0
LISTED_WITHIN_SECONDS = 30.0
# Between two lists that are further apart the cluster was away: what happened meanwhile is nobody's silence.
GAP_SECONDS = 120.0
FIRST_RETRY_SECONDS = 1.0
MOST_RETRY_SECONDS = 5.0  # ten tries in vain still fit into a minute
MAX_DELETES_PER_TURN = 20
MAX_TRIES_FOR_GONE = 3  # a machine that is no more: deleted for the members of its gang that may be left


@dataclass(frozen=True, slots=True)
class Deletion:
    tries: int
    again_at: datetime


@dataclass
class Watch:
    """What one process remembers of the lists it got. Everything here is bounded by what the cluster lists."""

    since: datetime | None = None  # lists have come without a gap since then
    newest: datetime | None = None
    missing: dict[str, datetime] = field(default_factory=dict)  # machine -> when a list lacked it first
    deletions: dict[str, Deletion] = field(default_factory=dict)
    noticed: dict[str, datetime] = field(default_factory=dict)  # machine -> the notice that was acted on
    hinted: set[str] = field(default_factory=set)  # machines whose hint was told
    ended: dict[str, datetime] = field(default_factory=dict)  # machine -> when a list said first that its pod is dead

    def listed(self, machine_ids: Iterable[str], now: datetime) -> None:
        """A list came."""
        if self.since is None or self.newest is None or (now - self.newest).total_seconds() > GAP_SECONDS:
            self.since = now
            self.missing.clear()
        self.newest = now
        seen = set(machine_ids)
        self.missing = {one: at for one, at in self.missing.items() if one not in seen}
        self.deletions = {one: deletion for one, deletion in self.deletions.items() if one in seen}
        self.noticed = {one: at for one, at in self.noticed.items() if one in seen}
        self.hinted &= seen
        self.ended = {one: at for one, at in self.ended.items() if one in seen}

    def gone(self, launched_at: Mapping[str, datetime], seen: Iterable[str], now: datetime) -> list[str]:
        """The machines of live attempts that two lists in a row lacked."""
        unseen = set(launched_at) - set(seen)
        self.missing = {one: at for one, at in self.missing.items() if one in unseen}
        gone = []
        for machine_id in sorted(unseen):
            if (now - launched_at[machine_id]).total_seconds() < LISTED_WITHIN_SECONDS:
                continue
            first = self.missing.setdefault(machine_id, now)
            if (now - first).total_seconds() >= MISSING_SECONDS:
                gone.append(machine_id)
        return gone

    def ended_at(self, machine_id: str, told: datetime | None, now: datetime) -> datetime:
        """When a dead pod ended: as the cluster told, or when it was first seen dead.

        Not every cluster knows the moment, and "now" would come anew with every list: the wait would never be over.
        """
        seen = self.ended.setdefault(machine_id, now)
        return seen if told is None else min(told, seen)

    def may_delete(self, machine_id: str, *, tries: int | None, now: datetime) -> bool:
        """Whether it is time for the next try to delete this machine. `tries`: at most so many; None: any number."""
        last = self.deletions.get(machine_id)
        return last is None or (last.again_at <= now and (tries is None or last.tries < tries))

    def deleting(self, machine_id: str, now: datetime) -> None:
        """A try begins; the next one waits twice as long."""
        tries = self.deletions[machine_id].tries + 1 if machine_id in self.deletions else 1
        wait = min(MOST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(tries - 1, 16))
        self.deletions[machine_id] = Deletion(tries, now + timedelta(seconds=wait))

    def silence_seconds(self, attempt: Attempt, now: datetime) -> float:
        """How long the attempt has told nothing while the cluster answered; 0 while the cluster is away.

        Unreachable is not dead, and a scheduler that was down itself has heard nobody: only time with lists counts.
        """
        if self.since is None or self.newest is None or (now - self.newest).total_seconds() > GAP_SECONDS:
            return 0.0
        last = attempt.heard_at or attempt.launched_at or attempt.started_at
        return max(0.0, (now - max(last, self.since)).total_seconds())


def reason_for_silence(
    attempt: Attempt, silent_seconds: float, *, start_seconds: float, hang_seconds: float
) -> EndReason | None:
    """Why a silent attempt should stop; None: it is not silent for long enough."""
    if attempt.heard_at is None:
        return EndReason.NEVER_STARTED if silent_seconds > start_seconds else None
    return EndReason.HUNG if silent_seconds > hang_seconds else None
