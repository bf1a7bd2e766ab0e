"""Which of the waiting jobs may launch now, in which order, and which rule holds each of the others. Pure.

Order: the higher priority class first (a job rises one class per `seconds_per_class` of waiting, so that it stands at
most twice as long behind later jobs of a higher class); within a class the tenant with the lowest weighted dominant
share of what runs (Dominant Resource Fairness, Ghodsi et al., NSDI 2011), filled job by job; within a tenant who came
first. In that order each job takes its machines if they are free for it, all or none. One that does not fit gets them
reserved for the earliest moment at which they will be (conservative backfilling): a later one goes ahead of it only if
it leaves all reservations as they are. Whoever is held by a limit of its own tenant stands in nobody else's way.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from services.scheduler.places import UNKNOWN, Places, Span, reserve_together


class Priority(IntEnum):
    LOW = 0
    NORMAL = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class Size:
    """What a job takes at once."""

    machines: int = 1
    accelerators: int = 0
    vcpus: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that would launch now if it may."""

    job_id: str
    tenant_id: str
    priority: Priority
    submitted_at: datetime
    size: Size = Size()
    seconds: Span = UNKNOWN  # how long it will keep its machines
    cost_usd: float = 0.0  # expected, to completion, of the cheapest way that its plan knows
    budget_left_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """A job that has its place: it runs, starts, stops, or goes on in a moment."""

    job_id: str
    tenant_id: str
    size: Size = Size()
    seconds_left: Span = UNKNOWN
    reserved_usd: float = 0.0  # what it is still expected to spend


@dataclass(frozen=True, slots=True)
class Limits:
    jobs_per_tenant: int
    machines_per_tenant: int | None = None
    machines: int | None = None
    seconds_per_class: float = 7200.0
    usd_per_month_and_tenant: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)  # tenant -> weight; 1 where it is not named


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rule` empty: it may launch. `queue` names what it waits for, with `position` 1 for the next; see Decision."""

    rule: str
    detail: str = ""
    queue: str = ""
    position: int = 0


LAUNCH = Verdict("")


@dataclass(frozen=True, slots=True)
class Line:
    """What one job stands in line for: `limit` places, who has them, who stands ahead, and how many it needs itself."""

    limit: int
    taken: tuple[tuple[int, Span], ...]
    ahead: tuple[tuple[int, Span], ...]
    need: int


@dataclass(frozen=True, slots=True)
class Decision:
    """`launch`: in order. `queues`: who waits for the same places, in order, by the name of the queue."""

    launch: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    queues: Mapping[str, Sequence[Waiting]]
    pools: Mapping[str, Places]

    def line(self, job_id: str) -> Line | None:
        """The line that a held job stands in; None: it waits for no place."""
        verdict = self.verdicts[job_id]
        if not verdict.position:
            return None
        pool, queue = self.pools[verdict.queue], self.queues[verdict.queue]
        ahead = tuple((_need(verdict.queue, one), one.seconds) for one in queue[: verdict.position - 1])
        return Line(pool.limit, tuple(pool.taken), ahead, _need(verdict.queue, queue[verdict.position - 1]))


def effective_priority(job: Waiting, now: datetime, seconds_per_class: float) -> Priority:
    """Its class, raised by how long it has waited."""
    waited = max(0.0, (now - job.submitted_at).total_seconds())
    return Priority(min(Priority.HIGH, job.priority + int(waited // seconds_per_class)))


def decide(
    waiting: Iterable[Waiting],
    holders: Iterable[Holder],
    limits: Limits,
    now: datetime,
    spent_usd: Mapping[str, float] | None = None,
) -> Decision:
    """Who may launch, and what holds the others. `spent_usd`: of each tenant, this month."""
    jobs, placed = list(waiting), list(holders)
    round_ = _Round(jobs, placed, limits, spent_usd or {})
    classes: dict[Priority, list[Waiting]] = defaultdict(list)
    for job in jobs:
        classes[effective_priority(job, now, limits.seconds_per_class)].append(job)
    for level in sorted(classes, reverse=True):
        round_.take_class(level, classes[level])
    return Decision(tuple(round_.launch), round_.verdicts, round_.queues, round_.pools)


ALL_MACHINES = "machines"


def jobs_queue(tenant_id: str) -> str:
    return f"jobs of {tenant_id}"


def machines_queue(tenant_id: str) -> str:
    return f"machines of {tenant_id}"


def _need(queue: str, job: Waiting) -> int:
    return 1 if queue == jobs_queue(job.tenant_id) else job.size.machines


class _Latest:
    """The latest submissions among those that went ahead, of two different tenants: whether somebody was passed."""

    def __init__(self) -> None:
        self._by_tenant: list[tuple[datetime, str]] = []

    def saw(self, job: Waiting) -> None:
        known = {tenant_id: at for at, tenant_id in self._by_tenant}
        known[job.tenant_id] = max(job.submitted_at, known.get(job.tenant_id, job.submitted_at))
        self._by_tenant = sorted(((at, tenant_id) for tenant_id, at in known.items()), reverse=True)[:2]

    def passed(self, job: Waiting) -> bool:
        """Whether another tenant's job that came later went ahead of it."""
        return any(tenant_id != job.tenant_id and at > job.submitted_at for at, tenant_id in self._by_tenant)


class _Round:
    """One decision under way: what is free, who has how much, and what was said so far."""

    def __init__(
        self, jobs: list[Waiting], holders: list[Holder], limits: Limits, spent_usd: Mapping[str, float]
    ) -> None:
        self.limits = limits
        self.spent_usd = spent_usd
        self.launch: list[str] = []
        self.verdicts: dict[str, Verdict] = {}
        self.queues: dict[str, list[Waiting]] = defaultdict(list)
        self.pools: dict[str, Places] = {}
        self.holders_of: dict[str, list[Holder]] = defaultdict(list)
        self.used: dict[str, Counter[str]] = defaultdict(Counter)
        self.reserved_usd: dict[str, float] = defaultdict(float)
        self.totals: Counter[str] = Counter()
        # The highest class that waits or launches, by queue: whoever stands behind it is held by priority.
        self.highest: dict[str, Priority] = {}
        for holder in holders:
            self.holders_of[holder.tenant_id].append(holder)
            self.used[holder.tenant_id].update(_resources(holder.size))
            self.reserved_usd[holder.tenant_id] += holder.reserved_usd
        for size in [*(one.size for one in jobs), *(one.size for one in holders)]:
            self.totals.update(_resources(size))
        if limits.machines:
            self.totals["machines"] = limits.machines
            self.pools[ALL_MACHINES] = Places(limits.machines, _machines(holders))

    def take_class(self, level: Priority, jobs: list[Waiting]) -> None:
        """Fill by shares: each turn the tenant with the lowest share brings the job that came first."""
        lines: dict[str, list[Waiting]] = defaultdict(list)
        for job in jobs:
            lines[job.tenant_id].append(job)
        for line in lines.values():
            line.sort(key=lambda job: (job.submitted_at, job.job_id), reverse=True)
        turns = [self._turn(tenant_id, line) for tenant_id, line in lines.items()]
        heapq.heapify(turns)
        latest = _Latest()
        while turns:
            tenant_id = heapq.heappop(turns)[-1]
            job = lines[tenant_id].pop()
            verdict = self._too_large(job) or self._no_money(job) or self._no_places(job, level, latest) or LAUNCH
            self.verdicts[job.job_id] = verdict
            if not verdict.rule:
                self._launched(job, level)
            if not verdict.rule or verdict.queue == ALL_MACHINES:
                # Who only waits for limits of its own tenant takes nothing away from anybody: its share stays.
                self.used[tenant_id].update(_resources(job.size))
                latest.saw(job)
            if lines[tenant_id]:
                heapq.heappush(turns, self._turn(tenant_id, lines[tenant_id]))

    def _turn(self, tenant_id: str, line: list[Waiting]) -> tuple[float, datetime, str]:
        used, weight = self.used[tenant_id], self.limits.weights.get(tenant_id, 1.0)
        share = max((used[name] / total for name, total in self.totals.items() if total), default=0.0)
        return share / weight, line[-1].submitted_at, tenant_id

    def _launched(self, job: Waiting, level: Priority) -> None:
        self.launch.append(job.job_id)
        self.reserved_usd[job.tenant_id] += job.cost_usd
        for name, pool, need in self._pools_of(job):
            pool.take(need, job.seconds)
            self.highest.setdefault(name, level)

    def _too_large(self, job: Waiting) -> Verdict | None:
        for limit, whose in ((self.limits.machines_per_tenant, "a tenant"), (self.limits.machines, "all tenants")):
            if limit and job.size.machines > limit:
                needs = f"it needs {job.size.machines} machines at once, and the limit of {whose} is {limit}"
                return Verdict("quota", f"{needs}: ask for fewer (resources.nodes), or have the limit raised")
        return None

    def _no_money(self, job: Waiting) -> Verdict | None:
        if job.budget_left_usd is not None and job.cost_usd > job.budget_left_usd:
            detail = (
                f"to its end it costs {job.cost_usd:.2f} USD, and {job.budget_left_usd:.2f} USD of its budget are left"
            )
            return Verdict("budget", f"{detail}: raise budget.total_usd, or allow cheaper machines")
        limit = self.limits.usd_per_month_and_tenant
        if limit is None:
            return None
        spent, reserved = self.spent_usd.get(job.tenant_id, 0.0), self.reserved_usd[job.tenant_id]
        if spent + reserved + job.cost_usd <= limit:
            return None
        detail = (
            f"{spent:.2f} of the tenant's {limit:.2f} USD a month are spent, {reserved:.2f} USD are reserved for jobs "
            f"that run, and this one is expected to cost {job.cost_usd:.2f} USD"
        )
        return Verdict("tenant-budget", detail)

    def _no_places(self, job: Waiting, level: Priority, latest: _Latest) -> Verdict | None:
        """What the job stands in line for; its places are reserved for later. None: they are free."""
        needs = self._pools_of(job)
        lacking = next(((name, pool) for name, pool, need in needs if not pool.fits(need, job.seconds.high)), None)
        if lacking is None:
            return None
        name, pool = lacking
        reserving = [(one, need) for other, one, need in needs if name == ALL_MACHINES or other != ALL_MACHINES]
        reserve_together(reserving, job.seconds.high)
        self.queues[name].append(job)
        position = len(self.queues[name])
        taken = _taken(job, name, pool)
        if self.highest.setdefault(name, level) > level:
            return Verdict("priority", f"jobs of a higher class go first; {taken}", name, position)
        if name == ALL_MACHINES and latest.passed(job):
            return Verdict("fair-share", f"tenants with a smaller share go first; {taken}", name, position)
        return Verdict("quota", taken, name, position)

    def _pools_of(self, job: Waiting) -> list[tuple[str, Places, int]]:
        """(name, places, how many it needs), its tenant's own first."""
        tenant_id, limits = job.tenant_id, self.limits
        names = [jobs_queue(tenant_id)]
        if names[0] not in self.pools:
            taken = [(1, one.seconds_left) for one in self.holders_of[tenant_id]]
            self.pools[names[0]] = Places(limits.jobs_per_tenant, taken)
        if limits.machines_per_tenant:
            names.append(machines_queue(tenant_id))
            if names[1] not in self.pools:
                self.pools[names[1]] = Places(limits.machines_per_tenant, _machines(self.holders_of[tenant_id]))
        if limits.machines:
            names.append(ALL_MACHINES)
        return [(name, self.pools[name], _need(name, job)) for name in names]


def _machines(holders: Iterable[Holder]) -> list[tuple[int, Span]]:
    return [(one.size.machines, one.seconds_left) for one in holders]


def _resources(size: Size) -> dict[str, int]:
    return {"machines": size.machines, "accelerators": size.accelerators, "vcpus": size.vcpus}


def _taken(job: Waiting, queue: str, pool: Places) -> str:
    """In words: what is taken of what the job waits for."""
    own = "" if queue == ALL_MACHINES else " of this tenant"
    what = "jobs" if queue == jobs_queue(job.tenant_id) else "machines"
    text = f"{pool.limit - pool.free} of {pool.limit} {what}{own} run"
    return f"{text}, and it needs {job.size.machines} at once" if what == "machines" and job.size.machines > 1 else text
