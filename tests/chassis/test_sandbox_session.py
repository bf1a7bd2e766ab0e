"""A program behind walls that is asked again and again: its answers, its ends, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sskai import sandbox
from sskai.sandbox import Limits, SandboxError, Walls
from sskai.sandbox_session import EndedError, Session
from sskai.testing import wait_for

SYSTEM_PYTHON = Path("/usr/bin/python3")
# Answers each line with one; `words` decide what becomes of it.
ANSWERING = """
import os, sys, time
print('!', end='', flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == 'sleep': time.sleep(600)
    if word == 'die': os._exit(3)
    if word == 'flood':
        while True: print('x' * 1000, file=sys.stderr)
    if word == 'some': print('x' * 600_000, file=sys.stderr)
    if word == 'hog':
        kept = []
        while True: kept.append(bytearray(b'x' * 2**24)); time.sleep(0.01)
    if word == 'close': os.close(1); time.sleep(600)
    if word == 'fork' and os.fork() == 0: time.sleep(600)
    print(word.upper(), flush=True)
"""
Start = Callable[..., Awaitable[Session]]


@pytest.fixture
def place() -> Iterator[Path]:
    """Readable for everybody, as the sandbox asks for."""
    with tempfile.TemporaryDirectory(prefix="sskai-test-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the sandboxes of this test make their folders: other tests have some of their own at the same time."""
    with tempfile.TemporaryDirectory(prefix="sskai-test-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture(params=["namespaces", "filters"])
def walls(request: pytest.FixtureRequest) -> Walls:
    kind: Walls = request.param
    return kind


@pytest.fixture
async def start(place: Path, works: Path, walls: Walls) -> AsyncIterator[Start]:
    """Start a program that says these lines; skips where these walls cannot be had."""
    sessions: list[Session] = []

    async def started(text: str = ANSWERING, **limits: Any) -> Session:
        program = place / "program.py"
        program.write_text(text)
        # As root the filters hide nothing of the way to the interpreter.
        python = SYSTEM_PYTHON if walls == "filters" and os.getuid() == 0 else None
        try:
            session = await Session.start(program, place, limits=Limits(**limits), walls=(walls,), python=python)
        except SandboxError as error:
            pytest.skip(f"the other kind of wall is used here, for: {error}")
        sessions.append(session)
        assert await session.read_exactly(1) == b"!"
        return session

    yield started
    for session in sessions:
        await session.end()
    assert _left(place) == []
    assert not list(works.glob(f"{sandbox.WORK_PREFIX}*/mine"))


def _left(place: Path) -> list[psutil.Process]:
    mine = str(place / "program.py")
    return [each for each in psutil.process_iter(["cmdline"]) if mine in " ".join(each.info["cmdline"] or ())]


async def ask(session: Session, word: str) -> bytes:
    await session.write(word.encode() + b"\n")
    return await session.read_exactly(len(word) + 1)


async def test_questions_and_answers(start: Start, walls: Walls) -> None:
    session = await start()
    assert [await ask(session, word) for word in ("one", "two")] == [b"ONE\n", b"TWO\n"]
    assert (session.alive, session.walls) == (True, walls)
    outcome = await session.end()
    assert (outcome.killed_for, session.alive) == ("", False)
    assert await session.end() == outcome
    with pytest.raises(EndedError):
        await ask(session, "three")


ENDS = {
    "die": ("", 3),
    "flood": ("output", -9),
    "hog": ("memory", -9),
}


@pytest.mark.parametrize(("word", "end"), ENDS.items(), ids=ENDS.keys())
async def test_how_it_ended_is_told(start: Start, word: str, end: tuple[str, int]) -> None:
    session = await start(memory_bytes=300 * 2**20)
    with pytest.raises(EndedError) as caught:
        await ask(session, word)
    assert (caught.value.outcome.killed_for, caught.value.outcome.exit_code) == end
    assert not session.alive


async def test_prints_are_counted_anew_with_each_question(start: Start) -> None:
    session = await start()
    for _ in range(5):
        assert await ask(session, "some") == b"SOME\n"
    outcome = await session.end()
    assert outcome.stderr_tail.endswith("xx\n")
    assert len(outcome.stderr_tail) <= sandbox.STDERR_TAIL_BYTES


async def test_one_that_answers_no_more_is_ended_with_all_that_it_started(start: Start, place: Path) -> None:
    session = await start()
    assert await ask(session, "fork") == b"FORK\n"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await ask(session, "sleep")
    await session.end()
    assert _left(place) == []


async def test_one_that_closes_its_output_is_ended_with_its_time(start: Start) -> None:
    session = await start(wall_seconds=3.0)
    with pytest.raises(EndedError):
        await ask(session, "close")


async def test_one_that_ends_before_it_says_a_word(start: Start) -> None:
    with pytest.raises(EndedError) as caught:
        await start("import sys; sys.exit('nothing to say')")
    assert (caught.value.outcome.exit_code, caught.value.outcome.killed_for) == (1, "")
    assert caught.value.outcome.stderr_tail == "nothing to say\n"


async def test_a_start_that_takes_too_long_is_ended(start: Start, place: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await start("import time; time.sleep(600)")
    await wait_for(lambda: _left(place) == [])


async def test_without_walls_nothing_is_started(place: Path) -> None:
    (place / "program.py").write_text(ANSWERING)
    with pytest.raises(SandboxError, match="its walls cannot be had"):
        await Session.start(place / "program.py", place, walls=())
    assert _left(place) == []
