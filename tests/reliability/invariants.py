"""What must hold whatever happened to `System`'s job: the end state of the run without a fault, and the invariants."""

from __future__ import annotations

import itertools
from typing import Any

from sqlalchemy import text

from sskai.events import v1 as events
from tests.reliability.system import STEPS, System

ENDS = (events.JobSucceeded, events.JobFailed, events.JobCancelled)


async def end_state(system: System) -> dict[str, Any]:
    """What a user can see, less ids, times, and what a delay makes dearer: the same after any fault as without one."""
    found = await _all(
        system,
        job="SELECT state, kind, name FROM gateway.jobs",
        events="SELECT type, count(*) FROM gateway.events WHERE type ~ '(JobSubmitted|JobSucceeded|JobFailed|"
        "JobCancelled|ReceiptIssued|ModelVersionReady)$' GROUP BY type ORDER BY type",
        scheduler="SELECT state FROM scheduler.jobs",
        result="SELECT state, version FROM trainer.results",
        ended="SELECT job_id FROM trainer.ended_jobs",
        receipts="SELECT job_id FROM monitor.receipts",
        left="SELECT (SELECT count(*) FROM gateway.outbox) + (SELECT count(*) FROM scheduler.outbox) + "
        "(SELECT count(*) FROM trainer.outbox) + (SELECT count(*) FROM monitor.outbox)",
    )
    return {
        **found,
        "machines": system.cluster.running(),
        "step": system.pods.newest,
        "ends": sorted({type(one).__name__ for one in system.told.values() if isinstance(one, ENDS)}),
        "dead letters": system.dead_letters,
    }


async def check_invariants(system: System) -> None:
    """I1 one end; I2 one writer; I3 one machine an attempt, none left; I4 steps never go back; the ledger adds up."""
    ends = {event_id for event_id, one in system.told.items() if isinstance(one, ENDS)}
    assert len(ends) == 1, f"I1: the job has one end, not {len(ends)}"
    attempts = [attempt for attempt, _step in system.pods.saved]
    assert attempts == sorted(attempts), f"I2: a fenced attempt wrote: {system.pods.saved}"
    steps = [step for _attempt, step in system.pods.saved]
    assert steps == sorted(steps), f"I4: a committed step went back: {system.pods.saved}"
    assert steps[-1] == STEPS
    assert not system.cluster.running(), "I3: a machine is left, and costs money"
    rows = await _rows(
        system,
        "SELECT attempt, interval, started_at, ended_at, amount_nano_usd FROM monitor.spend "
        "WHERE kind = 'compute' ORDER BY interval",
    )
    assert [row[1] for row in rows] == list(range(1, len(rows) + 1)), "the ledger has a gap"
    for attempt in {row[0] for row in rows}:
        for earlier, later in itertools.pairwise([row for row in rows if row[0] == attempt]):
            assert earlier[3] <= later[2], "I5: an attempt is paid for twice"
    (spent,) = (await _rows(system, "SELECT spent_nano_usd FROM scheduler.jobs"))[0]
    assert sum(row[4] for row in rows) == spent, "the receipt is not the sum of what the scheduler metered"


async def _all(system: System, **questions: str) -> dict[str, Any]:
    return {name: await _rows(system, question) for name, question in questions.items()}


async def _rows(system: System, question: str) -> list[tuple[Any, ...]]:
    async with system.processes["gateway"].database.transaction() as session:
        return [tuple(row) for row in (await session.execute(text(question))).all()]
