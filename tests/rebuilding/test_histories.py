"""What every release recorded makes the same state today, however often and in whatever order it comes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from sskai import contract
from sskai.bus import Incoming
from sskai.database import SERVICES, Database
from sskai.events import v1 as events
from sskai.rebuilding.states import contains
from tools.histories import FOLDER, History, projection_of, replayed

DatabaseOf = Callable[[str], AbstractAsyncContextManager[Database]]
RECORDED = sorted(path.parent for path in FOLDER.glob("*/*/events.jsonl.gz"))
# What `make test` has time for; the others are heavy.
QUICK = {path for path in RECORDED if path.name == "examples"}
# The contract's examples say all at once, which no order of events could: only one of a job's ends is true.
SHAKEN = [path for path in RECORDED if path not in QUICK]
MAX_BYTES = 1_000_000
# Requests store these things with the event that tells of them, in one transaction: nothing about them comes before.
BEGINNINGS = (events.JobSubmitted, events.EndpointRequested)
LATE_SHARE = 0.05


def histories() -> list[Any]:
    return [
        pytest.param(path, id=f"{path.parent.name}-{path.name}", marks=[] if path in QUICK else pytest.mark.heavy)
        for path in RECORDED
    ]


def wrong(state: dict[str, dict[str, Any]], recorded: dict[str, dict[str, Any]]) -> list[str]:
    """Rows that are not as they were. The one rule of what may differ: there may be more columns, and more fields."""
    found = []
    for table, rows in recorded.items():
        found += [f"{table} {key} is new" for key in state[table].keys() - rows.keys()]
        for key, row in rows.items():
            today = state[table].get(key)
            if today is None:
                found.append(f"{table} {key} is missing")
            elif not contains(today, row):
                columns = [name for name, value in row.items() if not contains(today.get(name), value)]
                found.append(f"{table} {key} differs: {columns}")
    return found


def test_the_current_release_is_recorded_and_histories_stay_small() -> None:
    assert any(path.parent.name == version("sskai") for path in RECORDED)
    assert sum(file.stat().st_size for file in FOLDER.rglob("*.gz")) < MAX_BYTES


def test_histories_hold_what_jobs_meet() -> None:
    """Interruptions, cancellations and money, or replaying them would show little; and each type of event once."""
    runs, examples = (
        types_told(path for path in paths if path.parent.name == version("sskai")) for paths in (SHAKEN, QUICK)
    )
    assert runs >= {
        *("JobSucceeded", "JobCancelled", "JobRequeued", "InterruptionNoticed", "AttemptDrained", "AttemptLost"),
        *("AttemptResumed", "CapacityDenied", "SpendReserved", "BudgetSet", "ReceiptIssued", "ModelVersionReady"),
    }
    deletions = {"EndpointDeletionRequested", "EndpointDeleted", "BudgetRemoved"}
    assert examples == {name.rpartition(".")[2] for name in contract.MESSAGES} - deletions


def types_told(folders: Iterable[Path]) -> set[str]:
    found = set()
    for folder in folders:
        for record in History.load(folder).records:
            found.add(dict(record.headers)["ce_type"].decode().rpartition(".")[2])
    return found


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("folder", histories())
async def test_a_recorded_history_makes_the_same_state(folder: Path, service: str, database_of: DatabaseOf) -> None:
    history, projection = History.load(folder), projection_of(service)
    recorded = history.states[service]
    async with database_of(service) as database:
        replay, state = await replayed(projection, database, history.read_by(projection), recorded.seeds)
    assert not replay.counts.problems
    assert not wrong(state.rows, recorded.rows)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.heavy) for seed in range(2, 12))])
async def test_repeated_shuffled_and_late_events_make_the_same_state(
    seed: int, service: str, database_of: DatabaseOf
) -> None:
    dice, projection = random.Random(seed), projection_of(service)
    history = History.load(SHAKEN[seed % len(SHAKEN)])
    recorded = history.states[service]
    shaken = shake(history.read_by(projection), dice)
    async with database_of(service) as database:
        replay, state = await replayed(projection, database, shaken, recorded.seeds)
    assert not replay.counts.problems
    assert replay.counts.records == len(shaken)
    assert not wrong(state.rows, recorded.rows)


def shake(records: list[Incoming], dice: random.Random) -> list[Incoming]:
    """Each record 1 to 5 times, records of different keys in any order, and some of them once more at the very end."""
    beginnings: list[Incoming] = []
    rest: dict[tuple[str, bytes | None], list[Incoming]] = defaultdict(list)
    for record in records:
        begins = isinstance(contract.decode(record.value, record.headers).message, BEGINNINGS)
        (beginnings if begins else rest[record.topic, record.key]).append(record)
    shaken = [record for record in dice.sample(beginnings, len(beginnings)) for _ in range(dice.randint(1, 5))]
    places = [place for place, of_key in rest.items() for _ in of_key]
    dice.shuffle(places)
    told: list[Incoming] = []
    for place in places:
        record = rest[place].pop(0)
        # Redelivered at once, or after others; an event that came before never comes first again.
        told += [record] * dice.randint(1, 2)
        told += dice.choices(told, k=dice.randint(0, 3))
    late = dice.sample(records, round(len(records) * LATE_SHARE))
    return [*shaken, *told, *late]
