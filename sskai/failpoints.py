"""Failpoints: names for each place where a process touches what is outside of it, where a test makes things go wrong.

An adapter's class says `@boundary("cluster", error)`. Each public method of it that does something is then a point,
`cluster.launch`; a context manager's method is two, `database.transaction.begin` and `.commit`. The class stays as it
was written, and costs nothing, until `sskai.faults` arms the points: in a test, or in a process that was started with
`SSKAI_FAILPOINTS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

LIFECYCLE = {"start", "stop", "close", "connect"}  # of an adapter: nothing is asked for or changed by them

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


class Action(StrEnum):
    """What goes wrong. `kill` ends the process without a word, as SIGKILL does."""

    KILL = "kill"  # before
    KILL_AFTER = "kill-after"  # it was done, and nobody knows
    RAISE = "raise"  # it was not done, and says so
    RAISE_AFTER = "raise-after"  # it was done, and says that it was not
    SKIP = "skip"  # it was not done, and says that it was
    HANG = "hang"  # it does not answer
    DELAY = "delay"  # it answers late


@dataclass(frozen=True, slots=True)
class Boundary:
    """What one adapter's class crosses, and how it says that it could not."""

    name: str
    adapter: type
    error: Callable[[str], BaseException]
    methods: Mapping[str, Callable[..., Any]]
    is_void: frozenset[str]  # methods that answer nothing, and so can say that they were done


BOUNDARIES: list[Boundary] = []


def boundary(name: str, error: Callable[[str], BaseException], *, of: type | None = None) -> Callable[[C], C]:
    """The class is an adapter: its public methods leave the process, and raise what `error` makes when that fails.

    `of`: only those that this protocol has."""

    def register(adapter: C) -> C:
        methods = {
            method: function
            for method, function in vars(adapter).items()
            if not method.startswith("_") and _leaves(function) and (of is None or hasattr(of, method))
        }
        void = frozenset(each for each, function in methods.items() if _is_void(function))
        BOUNDARIES.append(Boundary(name, adapter, error, methods, void))
        return adapter

    return register


def stays(function: F) -> F:
    """For a method of an adapter that only computes: it is no point."""
    function.stays_inside = True  # type: ignore[attr-defined]
    return function


def points() -> dict[str, frozenset[Action]]:
    """Every point of the boundaries that were imported, and the faults that it can have."""
    found: dict[str, frozenset[Action]] = {}
    everything = frozenset(Action)
    for one in BOUNDARIES:
        for method, function in one.methods.items():
            if is_context(function):
                found[f"{one.name}.{method}.begin"] = everything - {Action.SKIP}
                found[f"{one.name}.{method}.commit"] = everything - {Action.SKIP}
            else:
                found[f"{one.name}.{method}"] = everything if method in one.is_void else everything - {Action.SKIP}
    return found


def _leaves(function: Any) -> bool:
    if not inspect.isfunction(function) or hasattr(function, "stays_inside"):
        return False
    return function.__name__ not in LIFECYCLE


def is_context(function: Any) -> bool:
    return inspect.isasyncgenfunction(inspect.unwrap(function)) and hasattr(function, "__wrapped__")


def _is_void(function: Any) -> bool:
    return inspect.signature(function).return_annotation in (None, "None")
