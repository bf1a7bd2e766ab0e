"""What must hold at every step, and what must be true once the faults are over.

I1 to I10 of the reliability plan; I0 is that nothing raises what nobody foresaw, and that no event is set aside.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from simulation import work
from simulation.broker import Broker
from simulation.cluster import Cloud
from simulation.postgres import SERVICES as SCHEMAS
from simulation.postgres import Server
from simulation.trace import Trace
from simulation.users import Users
from sskai import contract
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

ENDS = {events.JobSucceeded: "succeeded", events.JobFailed: "failed", events.JobCancelled: "cancelled"}
ENDED = set(ENDS.values())
# Metering ticks and a drain may pass before a budget's stop is carried out; beyond that nothing is spent.
OVERSHOOT = 0.01


class ViolationError(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
        self.text = text


@dataclass
class Seen:
    """A job as the checks know it."""

    tenant_id: str = ""
    budget_nano_usd: int | None = None
    end: str = ""
    rows: dict[int, events.SpendRecorded] = field(default_factory=dict)
    receipts: set[str] = field(default_factory=set)
    state: str = ""
    steps_saved: int = 0
    spent: int = 0
    attempts: int = 0
    committed: int = 0  # by a pod, before anybody took over from it
    holder: int = 0  # the attempt that took over last
    results: dict[int, str] = field(default_factory=dict)
    steps: int = 0  # of which it succeeded


@dataclass
class Invariants:
    trace: Trace
    server: Server
    broker: Broker
    cloud: Cloud
    users: Users
    tick_seconds: float
    jobs: dict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    ids: set[str] = field(default_factory=set)
    unforeseen: list[str] = field(default_factory=list)
    violations: list[ViolationError] = field(default_factory=list)
    budget_stopped: int = 0

    def broke(self, invariant: str, text: str) -> None:
        """Noted once; the run ends at its next step."""
        self.trace.say("violation", f"{invariant}: {text}")
        self.violations.append(ViolationError(invariant, text))

    # At every step

    def told(self, value: bytes | None, headers: Any) -> None:
        """An event reached the broker."""
        envelope = contract.decode(value, headers)
        if envelope.id in self.ids:
            return
        self.ids.add(envelope.id)
        message: Any = envelope.message
        job_id = getattr(message, "job_id", "")
        if not job_id or "tenant_id" not in message.DESCRIPTOR.fields_by_name:
            return
        job = self.jobs[job_id]
        job.tenant_id = job.tenant_id or message.tenant_id
        if message.tenant_id != job.tenant_id:
            self.broke("I9", f"{message.DESCRIPTOR.name} of {job_id} names {message.tenant_id}, not {job.tenant_id}")
        self._of_job(job_id, job, message)

    def _of_job(self, job_id: str, job: Seen, message: Message) -> None:
        if isinstance(message, events.JobSubmitted) and message.spec.HasField("budget_usd"):
            job.budget_nano_usd = round(message.spec.budget_usd * NANO_PER_USD)
        end = ENDS.get(type(message))
        if end is not None:
            if job.end:
                self.broke("I8", f"{job_id} has {job.end}, and then {end}")
            job.end = end
            job.steps = message.steps if isinstance(message, events.JobSucceeded) else 0
        elif job.end and isinstance(message, events.AttemptStarted | events.JobRequeued | events.JobAdmitted):
            self.broke("I8", f"{job_id} has {job.end}, and then {message.DESCRIPTOR.name}")
        if isinstance(message, events.SpendRecorded) and not message.kind:
            if message.interval in job.rows:
                self.broke("I3", f"{job_id}: interval {message.interval} is told twice")
            job.rows[message.interval] = message
        if isinstance(message, events.ReceiptIssued):
            job.receipts.add(message.SerializeToString(deterministic=True).hex())
            if len(job.receipts) > 1:
                self.broke("I3", f"{job_id} has two receipts")

    def committed(self) -> None:
        """A transaction of the scheduler is in the database."""
        for row in self.server.ask(
            "SELECT job_id, tenant_id, state, attempts, steps_saved, spent_nano_usd, limit_nano_usd FROM scheduler.jobs"
        ):
            job_id, tenant_id, state, attempts, steps_saved, spent, _limit = row
            job = self.jobs[job_id]
            if job.state in ENDED and state != job.state:
                self.broke("I8", f"{job_id} was {job.state} and is {state}")
            if steps_saved < job.steps_saved:
                self.broke("I4", f"{job_id}: {job.steps_saved} steps were saved, and {steps_saved} are")
            if spent < job.spent or attempts < job.attempts:
                self.broke("I5", f"{job_id}: spend or attempts went back")
            if job.tenant_id and tenant_id != job.tenant_id:
                self.broke("I9", f"{job_id} is {tenant_id}'s in the scheduler")
            if job.budget_nano_usd is not None and spent > job.budget_nano_usd * (1 + OVERSHOOT):
                self.broke("I5", f"{job_id} has spent {spent / 1e9:.6f} USD of {job.budget_nano_usd / 1e9:.6f}")
            job.state, job.steps_saved, job.spent, job.attempts = state, steps_saved, spent, attempts
        live: dict[str, int] = defaultdict(int)
        for job_id, state in self.server.ask(
            "SELECT j.job_id, j.state FROM scheduler.attempts a JOIN scheduler.jobs j USING (job_id) "
            "WHERE a.ended_at IS NULL"
        ):
            live[job_id] += 1
            if live[job_id] > 2 or (live[job_id] == 2 and state != "draining"):
                self.broke("I2", f"{job_id} is {state} and has {live[job_id]} live attempts")

    # Pods

    def took_over(self, job_id: str, attempt: int, step: int) -> None:
        job = self.jobs[job_id]
        if attempt <= job.holder:
            self.broke("I2", f"{job_id}: attempt {attempt} took over after attempt {job.holder}")
        if step < job.committed:
            self.broke("I4", f"{job_id}: attempt {attempt} goes on from {step}, and {job.committed} was committed")
        job.holder = attempt

    def saved(self, job_id: str, attempt: int, step: int) -> None:
        job = self.jobs[job_id]
        if attempt == job.holder:
            job.committed = max(job.committed, step)

    def finished(self, job_id: str, attempt: int, state: str) -> None:
        self.jobs[job_id].results[attempt] = state

    # At the end

    def at_rest(self) -> list[str]:
        """What still moves; empty: the run may end."""
        moving = [f"{job_id} is {self.jobs[job_id].state or 'unknown'}" for job_id in self.users.acknowledged]
        moving = [text for text in moving if text.rsplit(" ", 1)[-1] not in ENDED]
        for schema in SCHEMAS:
            ((waiting,),) = self.server.ask(f"SELECT count(*) FROM {schema}.outbox")  # noqa: S608 (a constant)
            if waiting:
                moving.append(f"{schema} has {waiting} events to tell")
        moving += [f"{group} has {lag} records to handle" for group, lag in self.broker.lag().items() if lag]
        moving += [f"{one.machine_id} stands ({one.pod.name})" for one in self.cloud.machines.values() if one.costs]
        without = [job_id for job_id in self.users.acknowledged if not self.jobs[job_id].receipts]
        moving += [f"{job_id} has no receipt" for job_id in without]
        return moving

    def settled(self) -> None:
        """Everything has come to rest: do all services agree?"""
        self._money()
        self._states()
        for topic in {where.topic for where in self.broker.logs if where.topic.endswith(contract.DEAD_LETTER_SUFFIX)}:
            records = [one for where, log in self.broker.logs.items() if where.topic == topic for one in log]
            reasons = {dict(one.headers).get("dlq_detail", b"").decode()[:300] for one in records}
            self.broke("I0", f"{len(records)} records in {topic}: {reasons}")

    def _money(self) -> None:
        for job_id in self.users.acknowledged:
            job = self.jobs[job_id]
            told = sum(row.amount_nano_usd for row in job.rows.values())
            if sorted(job.rows) != list(range(1, len(job.rows) + 1)) or told != job.spent:
                self.broke("I3", f"{job_id}: {told} nano-USD were told in {sorted(job.rows)}, {job.spent} were spent")
            receipt = events.ReceiptIssued.FromString(bytes.fromhex(next(iter(job.receipts))))
            if receipt.paid_nano_usd != job.spent:
                self.broke("I3", f"{job_id}: the receipt says {receipt.paid_nano_usd}, {job.spent} were spent")
            self._machine_time(job_id, job)

    def _machine_time(self, job_id: str, job: Seen) -> None:
        """What the cloud would bill, against what was metered."""
        by_attempt: dict[int, list[events.SpendRecorded]] = defaultdict(list)
        for row in job.rows.values():
            by_attempt[row.attempt].append(row)
        for attempt, rows in by_attempt.items():
            rows.sort(key=lambda row: row.interval)
            for earlier, later in itertools.pairwise(rows):
                if earlier.ended_at != later.started_at:
                    self.broke("I3", f"{job_id}: attempt {attempt} is paid for twice, or not at all, for a while")

    def _states(self) -> None:
        gateway = dict(self.server.ask("SELECT job_id, state FROM gateway.jobs"))
        monitor = dict(self.server.ask("SELECT job_id, outcome FROM monitor.jobs"))
        published = {
            job_id for (job_id,) in self.server.ask("SELECT job_id FROM trainer.results WHERE state = 'published'")
        }
        for job_id in self.users.acknowledged:
            job = self.jobs[job_id]
            if job.end != job.state:
                self.broke(
                    "I8", f"{job_id} has {job.end or 'no end'} by what was told and {job.state} in the scheduler"
                )
            for name, state in (("gateway", gateway.get(job_id)), ("monitor", monitor.get(job_id))):
                if state != job.state:
                    self.broke("I6", f"{job_id} has {job.state}, and is {state} in the {name}")
            if job.state == "succeeded":
                if job_id not in published:
                    self.broke("I1", f"{job_id} succeeded, and its version was not published")
                if work.chain(job.steps) not in job.results.values():
                    self.broke("I4", f"{job_id}: no attempt ended with what {job.steps} steps in a row come to")
