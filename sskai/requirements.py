"""The requirements.txt of a model as code: a package a line, by its name or pinned. Nothing else of pip's language."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_REQUIREMENTS = 200
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
_REQUIREMENT = re.compile(rf"({_NAME})(?:==([A-Za-z0-9.+!_-]{{1,60}}))?")


class RequirementError(ValueError):
    """A line that is not taken; the text names it, and says what to write."""


@dataclass(frozen=True, slots=True)
class Requirement:
    line: int  # 1, 2, ...
    name: str
    version: str  # empty: any

    def __str__(self) -> str:
        return f"{self.name}=={self.version}" if self.version else self.name


def parse(text: str) -> tuple[Requirement, ...]:
    """Raises RequirementError."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        wanted = line.partition("#")[0].strip()
        if not wanted:
            continue
        match = _REQUIREMENT.fullmatch(wanted)
        if match is None:
            raise RequirementError(
                f"line {number}, {wanted[:80]!r}: write NAME or NAME==VERSION; no addresses, options or markers"
            )
        found.append(Requirement(number, match[1], match[2] or ""))
    if len(found) > MAX_REQUIREMENTS:
        raise RequirementError(f"{len(found)} packages; the limit is {MAX_REQUIREMENTS}")
    return tuple(found)
