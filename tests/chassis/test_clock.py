"""Replicas whose machines' clocks are minutes apart decide by one clock, the database's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sskai import clock as clock_module
from sskai.clock import DatabaseClock
from sskai.database import Database

SKEWS = [timedelta(minutes=5), -timedelta(minutes=5)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Sets this machine's clock that far ahead, as the module under test sees it."""

    def skew(by: timedelta) -> None:
        class Skewed(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz) + by

        monkeypatch.setattr(clock_module, "datetime", Skewed)

    return skew


@pytest.mark.parametrize("by", SKEWS)
async def test_it_goes_by_the_database(
    database_of: Callable[[str], AbstractAsyncContextManager[Database]],
    machine: Callable[[timedelta], None],
    by: timedelta,
) -> None:
    machine(by)
    async with database_of("scheduler") as database:
        assert not database.clock.is_set
        assert abs(database.clock.now() - datetime.now(UTC) - by) < timedelta(seconds=10)
        await database.read_clock()
        assert abs(database.clock.now() - datetime.now(UTC)) < timedelta(seconds=10)
        assert database.clock.ahead_seconds() == pytest.approx(by.total_seconds(), abs=10)


@pytest.mark.parametrize("by", SKEWS)
def test_it_does_not_jump_when_the_machine_is_set(machine: Callable[[timedelta], None], by: timedelta) -> None:
    clock = DatabaseClock()
    clock.set(datetime(2026, 1, 1, tzinfo=UTC), clock_module.time.monotonic())
    before = clock.now()
    machine(by)
    after = clock.now()
    assert timedelta(0) <= after - before < timedelta(seconds=10)


def test_an_answer_is_of_the_middle_of_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monotonic = iter([14.0, 20.0])
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: next(monotonic))
    clock, said = DatabaseClock(), datetime(2026, 1, 1, tzinfo=UTC)
    clock.set(said, 10.0)  # answered at 14: said at 12
    assert clock.now() == said + timedelta(seconds=8)
