"""What happened, in order: hashed as it happens, and kept as text where somebody wants to read it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation.globals import SOURCES
from simulation.loop import ACTOR


@dataclass(frozen=True, slots=True)
class Entry:
    seconds: float
    actor: str
    kind: str
    text: str


@dataclass
class Trace:
    """`keep`: entries are kept, not only hashed; `show` is given each as it comes."""

    keep: bool = False
    show: Callable[[Entry], None] = lambda _entry: None
    entries: list[Entry] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._hash = hashlib.sha256()

    def say(self, kind: str, text: str = "") -> None:
        loop, actor = SOURCES.loop, ACTOR.get()
        seconds = loop.time() if loop is not None else 0.0
        name = actor.name if actor is not None else ""
        self.counts[kind] += 1
        self._hash.update(f"{seconds!r} {name} {kind} {text}\n".encode())
        if self.keep and kind not in QUIET:
            self.entries.append(Entry(seconds, name, kind, text))
            self.show(self.entries[-1])

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


# Hashed and counted, and too many to read.
QUIET = {"statement", "delivered", "object"}
