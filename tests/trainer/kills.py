"""kill -9 at random moments inside saves (saving_loop.py), again and again on one job."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from sskai.objects import Objects
from tests.trainer import saving_loop

SAVE_SECONDS = 0.25  # about what a save takes here: kills come anywhere in it, or just after


@dataclass
class Killed:
    """What a number of kills showed."""

    kills: int = 0
    inside_a_save: int = 0  # begun, and not told as saved
    partial: int = 0  # a checkpoint was loaded that is not one step's
    most_lost: int = 0  # saves that had been begun and were not there any more


def inside_saves(objects: Objects, job_id: str, count: int, *, megabytes: float = 4.0, seed: int = 0) -> Killed:
    """Each attempt goes on from what the one before it left; it and its writer are killed at once, or it alone."""
    dice, found, begun = random.Random(seed), Killed(), 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.trainer.saving_loop"])  # torch is imported once
    for attempt in range(1, count + 2):
        told, theirs = context.Pipe(duplex=False)
        process = context.Process(target=saving_loop.main, args=(theirs, objects.access, job_id, attempt, megabytes))
        process.start()
        theirs.close()
        try:
            _, resumed = told.recv()
        except EOFError:
            found.partial += 1
            process.join()
            continue
        found.most_lost = max(found.most_lost, begun - resumed)
        if attempt <= count:
            # Some saves beforehand, so that retention is at work too; then anywhere in a save's time.
            for _ in range(dice.randrange(3)):
                _until(told, "saved")
            begun = _until(told, "began")
            time.sleep(dice.random() * SAVE_SECONDS)
        _kill(process, group=dice.random() < 0.5)
        rest = list(_rest(told))
        if attempt <= count:
            begun = max([begun, *(step for what, step in rest if what == "began")])
            found.inside_a_save += not rest or rest[-1][0] == "began"
            found.kills += 1
    return found


def _kill(process: ForkServerProcess, *, group: bool) -> None:
    assert process.pid is not None
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    process.join()


def _until(told: Connection, what: str) -> int:
    """The step of the next message of the kind. Raises EOFError if the process ended by itself."""
    while True:
        found, step = told.recv()
        if found == what:
            return int(step)


def _rest(told: Connection) -> Iterator[tuple[str, int]]:
    try:
        while True:
            yield told.recv()
    except EOFError:
        return
