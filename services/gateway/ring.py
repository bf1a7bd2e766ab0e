"""A tenant's newest events as the bytes that streams send: rendered once, cut for any number of streams. Pure."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.sse import format_sse_event

PACKAGE = "sskai.events.v1."
MOST_EVENTS = 2_000
MOST_BYTES = 2 * 1024 * 1024
# Of one write. What a client that does not read costs is one of them, and what the transport holds.
SLICE_BYTES = 64 * 1024
MOST_CUTS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the log. `type` in full."""

    id: int
    type: str
    subject: str
    rendered: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a stream asks for. No types: all of them."""

    types: frozenset[str] = frozenset()
    subject: str | None = None

    def takes(self, entry: Entry) -> bool:
        return (not self.types or entry.type in self.types) and self.subject in (None, entry.subject)


@dataclass(frozen=True, slots=True)
class Cut:
    """The next bytes of a stream, and where it is once it has sent them."""

    rendered: bytes
    position: int


def entry(position: int, event_type: str, subject: str, event: dict[str, Any]) -> Entry:
    """An event as it goes over the wire: its position, its short type and its CloudEvent in JSON."""
    data = json.dumps(event, separators=(",", ":"))
    rendered = format_sse_event(id=str(position), event=event_type.removeprefix(PACKAGE), data_str=data)
    return Entry(position, event_type, subject, rendered)


def slice_of(entries: Sequence[Entry]) -> tuple[bytes, int]:
    """As many of the first as go into one write, at least one; and how many they are."""
    pieces: list[bytes] = []
    size = 0
    for one in entries:
        size += len(one.rendered)
        if size > SLICE_BYTES and pieces:
            break
        pieces.append(one.rendered)
    return b"".join(pieces), len(pieces)


class Ring:
    """Every event after `floor` and up to `newest`, as many as there is room for."""

    def __init__(self, newest: int, *, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self.floor = newest
        self.newest = newest
        self._most_events, self._most_bytes = most_events, most_bytes
        self._entries: list[Entry] = []
        self._ids: list[int] = []
        self._bytes = 0
        # Most streams ask for the same from the same position on.
        self._cuts: dict[tuple[int, Wanted], Cut] = {}

    def append(self, entries: Iterable[Entry]) -> None:
        """In the order of their ids, all of them newer than what is here. The oldest make room."""
        for one in entries:
            self._entries.append(one)
            self._ids.append(one.id)
            self._bytes += len(one.rendered)
            self.newest = one.id
        drop, kept = 0, self._bytes
        while len(self._entries) - drop > self._most_events or kept > self._most_bytes:
            kept -= len(self._entries[drop].rendered)
            drop += 1
        if drop:
            self.floor, self._bytes = self._ids[drop - 1], kept
            del self._entries[:drop], self._ids[:drop]
        self._cuts.clear()

    def cut(self, position: int, wanted: Wanted) -> Cut | None:
        """What a stream at `position` sends next; nothing of it if it has everything. None: it is behind the ring."""
        if position < self.floor:
            return None
        if position >= self.newest:
            return Cut(b"", position)
        if (known := self._cuts.get((position, wanted))) is not None:
            return known
        found = [one for one in self._entries[bisect_right(self._ids, position) :] if wanted.takes(one)]
        rendered, count = slice_of(found)
        cut = Cut(rendered, self.newest if count == len(found) else found[count - 1].id)
        if len(self._cuts) < MOST_CUTS_KEPT:
            self._cuts[position, wanted] = cut
        return cut
