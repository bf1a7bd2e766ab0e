"""A real signal in the middle of work, in this very process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from services.trainer.interruption import Interruption, NoticeError


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    one = Interruption()
    one.install()
    yield one
    for number, handler in before.items():
        signal.signal(number, handler)


def work_until_stopped(limit_seconds: float = 5.0) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    until = time.monotonic() + limit_seconds
    while time.monotonic() < until:
        pass
    raise AssertionError("the signal was not heard")


def test_a_notice_ends_stoppable_work_at_once(interruption: Interruption) -> None:
    with pytest.raises(NoticeError), interruption.stoppable():
        work_until_stopped()
    assert interruption.noticed


def test_elsewhere_it_waits_for_the_next_question(interruption: Interruption) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    finished = sum(range(1000))  # an optimizer step, say: it must end
    assert finished
    with pytest.raises(NoticeError):
        interruption.check()
    with pytest.raises(NoticeError), interruption.stoppable():
        raise AssertionError("no new work after a notice")
