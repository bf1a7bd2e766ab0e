"""Programs in Go as children of a test. What cannot be built here skips the test, with what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sskai.local.processes import Child, Program
from tools import goparts


def built(module: str, name: str) -> Path:
    """The program; skips."""
    try:
        return goparts.program(module, name)
    except goparts.GoPartError as missing:
        pytest.skip(f"{name} is not built here: {missing}")


@contextmanager
def serving(
    command: Sequence[str], folder: Path, ready: Callable[[], bool], environment: dict[str, str] | None = None
) -> Iterator[Child]:
    """The program, from when it answers; its log lies in the folder. Raises StartError."""
    name = Path(command[0]).name
    program = Program(name, command, folder / f"{name}.log", ready, environment or {}, folder, stop_limit_seconds=15)
    child = Child.spawn(program)
    try:
        child.wait_ready()
        yield child
    finally:
        child.stop()
