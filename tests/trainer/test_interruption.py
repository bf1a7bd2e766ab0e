"""A real signal in the middle of work, in this very process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from services.trainer.domain import FencedError
from services.trainer.interruption import FENCED_SIGNAL, Interruption, NoticeError


@pytest.fixture
def interruption() -> Iterator[Interruption]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, FENCED_SIGNAL)}
    one = Interruption()
    one.install()
    yield one
    for number, handler in before.items():
        signal.signal(number, handler)


def work_until_stopped(limit_seconds: float = 5.0) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    work(limit_seconds)


def work(limit_seconds: float = 5.0) -> None:
    until = time.monotonic() + limit_seconds
    while time.monotonic() < until:
        pass
    raise AssertionError("nothing ended it")


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


def test_a_fence_ends_stoppable_work_in_the_middle(interruption: Interruption) -> None:
    began = threading.Event()

    def check() -> None:
        if began.is_set():
            raise FencedError("attempt 2 has begun")

    def fenced_work() -> None:
        with interruption.stoppable():
            began.set()
            work()

    interruption.watch_fence(check, seconds=0.01)
    with pytest.raises(FencedError):
        fenced_work()
    assert not interruption.noticed
    with pytest.raises(FencedError):
        interruption.check()


def test_where_no_handler_is_installed_the_next_question_tells_of_the_fence() -> None:
    plain, asked = Interruption(), threading.Event()

    def check() -> None:
        asked.set()
        raise FencedError("attempt 2 has begun")

    def ask() -> None:
        for _ in range(1000):
            plain.check()
            time.sleep(0.005)

    plain.watch_fence(check, seconds=0.01)
    assert asked.wait(5)
    with pytest.raises(FencedError):
        ask()
