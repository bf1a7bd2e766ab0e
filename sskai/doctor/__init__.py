"""`sskai doctor`: looks at an installation from outside and says of each part whether it is sound, and what to mend.

Each part has a file with `look`, which asks and judges. Nothing is changed, but for a small object that is written and
deleted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`says`: what was found, or why nobody could look. `mend`: what to do, in a sentence; empty of what is sound."""

    part: str
    check: str
    state: State
    says: str
    mend: str = ""


class Findings:
    """Of one part, in the order in which it was looked at."""

    def __init__(self, part: str) -> None:
        self._part = part
        self.found: list[Finding] = []

    def ok(self, check: str, says: str) -> None:
        self.found.append(Finding(self._part, check, "ok", says))

    def warn(self, check: str, says: str, mend: str) -> None:
        self.found.append(Finding(self._part, check, "warn", says, mend))

    def fail(self, check: str, says: str, mend: str) -> None:
        self.found.append(Finding(self._part, check, "fail", says, mend))

    def skip(self, check: str, why: str) -> None:
        self.found.append(Finding(self._part, check, "skipped", why))
