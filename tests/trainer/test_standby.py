"""A successor stands by while its predecessor drains, and takes over when that one has ended or its time is up."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from services.trainer import standby
from services.trainer.checkpoints import Checkpoints
from services.trainer.domain import RESULT_GRACE, Awaited, End, Outcome, still_awaited
from services.trainer.interruption import Interruption, NoticeError
from sskai.contract import new_id
from sskai.objects import Objects
from sskai.testing import wait_for

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("end", "now", "expected"),
    [
        (None, NOW, Awaited(1, SOON)),
        (None, SOON, None),
        (End(Outcome.DRAINED), NOW, None),
        (End(Outcome.FAILED), NOW, None),
        # The job is over; only if nobody came to say so does the successor tell the result.
        (End(Outcome.DONE), NOW, Awaited(1, SOON)),
        (End(Outcome.DONE), SOON, Awaited(1, SOON)),
        (End(Outcome.DONE), SOON + RESULT_GRACE, None),
        (End(Outcome.DRAINED), SOON, None),
    ],
)
def test_a_successor_takes_over_after_an_end_or_when_the_time_is_up(
    end: End | None, now: datetime, expected: Awaited | None
) -> None:
    assert still_awaited(Awaited(1, SOON), end, now) == expected


def test_an_end_of_one_that_never_took_over_passes_on_whom_it_awaited() -> None:
    before = Awaited(1, NOW + timedelta(seconds=5))
    assert still_awaited(Awaited(2, SOON), End(Outcome.DRAINED, before), NOW) == before


class Standing:
    """Attempt 2 of a job, standing by in a thread as a pod does."""

    def __init__(self, objects: Objects, pool: ThreadPoolExecutor, *, seconds: float = 60) -> None:
        self.prefix = f"jobs/{new_id('job')}"
        self.objects = objects
        self.interruption = Interruption()
        self.given_up = threading.Event()
        self.until = datetime.now(UTC) + timedelta(seconds=seconds)
        self.checkpoints = self.attempt(2, Awaited(1, self.until))
        self.result: Future[None] = pool.submit(
            standby.wait_for_end, Awaited(1, self.until), self.checkpoints, self.interruption, self.given_up
        )

    def attempt(self, number: int, awaited: Awaited | None = None) -> Checkpoints:
        return Checkpoints(self.objects, self.prefix, "job", number, awaited=awaited)


@pytest.fixture
def pool():  # type: ignore[no-untyped-def]
    with ThreadPoolExecutor(2) as threads:
        yield threads


async def test_it_goes_on_as_soon_as_the_predecessor_has_ended(objects: Objects, pool: ThreadPoolExecutor) -> None:
    standing = Standing(objects, pool)
    first = standing.attempt(1)
    first.take_over(None)  # type: ignore[arg-type]  # nothing is fetched at step 0
    assert not standing.result.done()
    first.tell_end(Outcome.DRAINED)
    await wait_for(standing.result.done, limit_seconds=5)
    standing.result.result()
    first.check_fence()  # so far nothing was written that would have stopped the predecessor


async def test_without_a_word_it_goes_on_when_the_time_is_up(objects: Objects, pool: ThreadPoolExecutor) -> None:
    standing = Standing(objects, pool, seconds=0.5)
    await wait_for(standing.result.done, limit_seconds=5)
    standing.result.result()
    assert datetime.now(UTC) >= standing.until


async def test_a_notice_ends_the_waiting_and_the_next_one_awaits_the_first(
    objects: Objects, pool: ThreadPoolExecutor
) -> None:
    standing = Standing(objects, pool)
    standing.interruption._signalled(signal.SIGTERM, None)
    await wait_for(standing.result.done, limit_seconds=5)
    with pytest.raises(NoticeError):
        standing.result.result()
    standing.checkpoints.tell_end(Outcome.DRAINED)
    assert standing.attempt(3).end_of(2) == End(Outcome.DRAINED, Awaited(1, standing.until))


async def test_a_pod_that_cannot_load_does_not_wait(objects: Objects, pool: ThreadPoolExecutor) -> None:
    standing = Standing(objects, pool)
    standing.given_up.set()
    await wait_for(standing.result.done, limit_seconds=5)
    with pytest.raises(CancelledError):
        standing.result.result()


def test_who_took_over_awaits_nobody_any_more(objects: Objects, tmp_path) -> None:  # type: ignore[no-untyped-def]
    second = Checkpoints(objects, f"jobs/{new_id('job')}", "job", 2, awaited=Awaited(1, SOON))
    second.take_over(tmp_path)
    second.tell_end(Outcome.DONE)
    assert second.end_of(2) == End(Outcome.DONE)
    assert second.end_of(7) is None
