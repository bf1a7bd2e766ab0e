"""One input through its target, within its limits of time and memory; and many of them."""

from __future__ import annotations

import logging
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from tests.fuzz import corpus
from tests.fuzz.mutating import mutated
from tests.fuzz.targets import TARGETS


class TooMuchError(Exception):
    """An input that takes more time or memory than its target allows."""


class _TooSlow(BaseException):
    """Raised in the middle of it: no `except Exception` of the code keeps it."""


def once(target: str, data: bytes) -> None:
    """Raises what is a finding."""
    limits = TARGETS[target]
    before = _most_bytes()
    try:
        with _limited(limits.cpu_seconds):
            limits.run(data)
    except _TooSlow:
        raise TooMuchError(f"over {limits.cpu_seconds} s of the processor") from None
    if (grown := _most_bytes() - before) > limits.bytes:
        raise TooMuchError(f"{grown} bytes of memory more than before; the limit is {limits.bytes}")


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _limited(cpu_seconds: float) -> Iterator[None]:
    """Time of this process alone, so that a busy machine makes nothing slow."""

    def too_slow(_number: int, _frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGVTALRM, too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass(frozen=True, slots=True)
class Finding:
    data: bytes
    error: BaseException


def search(target: str, seconds: float, seed: int) -> tuple[int, Finding | None]:
    """Mutate the corpus until the time is over or something is found; how many were tried. The draws are the seed's."""
    logging.disable(logging.CRITICAL)  # a bug in a request is logged as well as answered
    dice, seeds = random.Random(f"{target} {seed}"), corpus.seeds(target)
    until, tried = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = mutated(dice.choice(seeds), seeds, dice)
        tried += 1
        try:
            once(target, data)
        except Exception as error:
            return tried, Finding(data, error)
    return tried, None
