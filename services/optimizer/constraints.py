"""What the user said about machines, in the vocabulary of SkyPilot and dstack: `4`, `4+`, `1..8`, `L4:1`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from services.optimizer.throughput import Machine

_NUMBER = r"(\d+(?:\.\d+)?)"
_RANGE = re.compile(rf"{_NUMBER}?\.\.{_NUMBER}?")
_LEAST = re.compile(rf"{_NUMBER}\+")
_EXACT = re.compile(_NUMBER)
NO_ACCELERATOR = {"none", "cpu", "0"}


class Resources(Protocol):
    """Whoever says something about machines: a job's request, or an endpoint's."""

    @property
    def accelerators(self) -> str: ...
    @property
    def cpus(self) -> str: ...
    @property
    def memory(self) -> str: ...
    @property
    def regions(self) -> tuple[str, ...]: ...
    @property
    def instance_types(self) -> tuple[str, ...]: ...


class ConstraintError(ValueError):
    """A size or an accelerator that cannot be understood; the text says what to write."""


@dataclass(frozen=True, slots=True)
class Size:
    """A closed range of amounts."""

    low: float
    high: float

    def __contains__(self, amount: float) -> bool:
        return self.low <= amount <= self.high


def parse_size(text: str, field: str) -> Size | None:
    """`N`, `N+`, `a..b`, `a..`, `..b`; empty: no constraint (None)."""
    words = text.strip().removesuffix("GB").removesuffix("GiB").strip()
    if not words:
        return None
    if match := _EXACT.fullmatch(words):
        return Size(float(match[1]), float(match[1]))
    if match := _LEAST.fullmatch(words):
        return Size(float(match[1]), float("inf"))
    if (match := _RANGE.fullmatch(words)) and (match[1] or match[2]):
        size = Size(float(match[1] or 0), float(match[2] or "inf"))
        if size.low <= size.high:
            return size
    raise ConstraintError(f"resources.{field} {text!r} is no size: write 4, 4+ or 2..8")


@dataclass(frozen=True, slots=True)
class Demand:
    """Parsed constraints on machines. `accelerators` None: any or none; empty: none wanted."""

    accelerators: tuple[tuple[str, Size], ...] | None
    cpus: Size | None
    memory_gib: Size | None
    instance_types: tuple[str, ...]
    regions: tuple[str, ...]
    nodes: Size | None

    def mismatch(self, machine: Machine) -> str:
        """What of this machine contradicts the demand; empty: nothing."""
        if self.instance_types and not matches(machine.instance_type, self.instance_types):
            return f"instance_types asks for {', '.join(self.instance_types)}"
        if self.accelerators is not None and not self._accelerators_match(machine):
            wanted = " or ".join(f"{name}" for name, _ in self.accelerators) or "none"
            return f"accelerators asks for {wanted}"
        if self.cpus is not None and machine.vcpus not in self.cpus:
            return f"{machine.vcpus} vCPUs are not what cpus asks for"
        if self.memory_gib is not None and machine.memory_gib not in self.memory_gib:
            return f"{machine.memory_gib:g} GiB are not what memory asks for"
        return ""

    def _accelerators_match(self, machine: Machine) -> bool:
        if not self.accelerators:
            return not machine.accelerator_name
        return any(
            name == machine.accelerator_name.upper() and machine.accelerator_count in count
            for name, count in self.accelerators
        )


def matches(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether any of the shell patterns (`c5.*`) matches."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def demand(request: Resources, machines: dict[str, Machine], nodes: str = "") -> Demand:
    """The request's constraints. Raises ConstraintError for what nobody could fulfil because it means nothing."""
    known = sorted({machine.accelerator_name for machine in machines.values() if machine.accelerator_name})
    return Demand(
        accelerators=_accelerators(request.accelerators, known),
        cpus=parse_size(request.cpus, "cpus"),
        memory_gib=parse_size(request.memory, "memory"),
        instance_types=request.instance_types,
        regions=request.regions,
        nodes=parse_size(nodes, "nodes"),
    )


def _accelerators(text: str, known: list[str]) -> tuple[tuple[str, Size], ...] | None:
    if not text.strip():
        return None
    if text.strip().lower() in NO_ACCELERATOR:
        return ()
    wanted = []
    for part in text.split(","):
        name, _, count = part.strip().partition(":")
        if name.upper() not in {each.upper() for each in known}:
            raise ConstraintError(f"accelerator {name!r} is not in the catalogue; known are {', '.join(known)}")
        wanted.append((name.upper(), parse_size(count, "accelerators") or Size(1, float("inf"))))
    return tuple(wanted)
