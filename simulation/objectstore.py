"""The object store in memory, with conditional writes, errors after success, and a disk that can be full."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from simulation import globals as simulated
from simulation.loop import ACTOR, pass_time
from simulation.trace import Trace
from sskai.objects import (
    Access,
    AlreadyExistsError,
    NotFoundError,
    ObjectInfo,
    Objects,
    ObjectsUnavailableError,
)
from sskai.settings import Settings

BUCKET = "simulated"


@dataclass
class Weather:
    """Drawn from the seed."""

    least_seconds: float = 0.002
    most_seconds: float = 0.05
    lost_answers: float = 0.0  # share of writes that are done and reported as failed
    full: bool = False
    away_from: set[str] = field(default_factory=set)  # names of services, "pods"; "": from everybody


@dataclass
class Store:
    """What all clients see."""

    trace: Trace
    weather: Weather
    kept: dict[str, bytes] = field(default_factory=dict)


STORE: Store | None = None


def store() -> Store:
    assert STORE is not None
    return STORE


class SimulatedObjects(Objects):
    """One client. Each call takes simulated time and may be cut off before it or after it."""

    def __init__(self, bucket: str = BUCKET) -> None:
        self.bucket = bucket
        self.access = Access("simulated", bucket, "", "")
        self.s3 = None  # nobody uploads in parts here
        self._store = store()

    @classmethod
    def from_settings(cls, _settings: Settings) -> SimulatedObjects:
        return cls()

    def _reach(self, key: str, *, writes: bool = False) -> None:
        there, actor = self._store, ACTOR.get()
        weather = there.weather
        pass_time(simulated.SOURCES.dice.uniform(weather.least_seconds, weather.most_seconds))
        name = actor.name.split("/")[0] if actor is not None else ""
        away = weather.away_from
        if (actor is not None and not actor.alive) or "" in away or name in away:
            raise ObjectsUnavailableError(f"{key}: the object store is away (simulated)")
        if writes and weather.full:
            raise ObjectsUnavailableError(f"{key}: 507 no space left on device (simulated)")
        there.trace.say("object", key)

    def _answer(self, key: str) -> None:
        """The way back of a write."""
        if simulated.SOURCES.dice.random() < self._store.weather.lost_answers:
            self._store.trace.say("fault", f"{key} was written, and the answer lost")
            raise ObjectsUnavailableError(f"{key}: answer lost (simulated)")

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, kind: str = "") -> str:  # noqa: ARG002
        self._reach(key, writes=True)
        if if_absent and key in self._store.kept:
            raise AlreadyExistsError(key)
        self._store.kept[key] = bytes(data)
        self._answer(key)
        return _etag(data)

    def put_file(self, key: str, path: Path) -> None:
        self.put_bytes(key, path.read_bytes())

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        data = b"".join(chunks)
        self.put_bytes(key, data)
        return len(data)

    def get_bytes(self, key: str) -> bytes:
        self._reach(key)
        if key not in self._store.kept:
            raise NotFoundError(key)
        return self._store.kept[key]

    def open(self, key: str, chunk_bytes: int = 1024 * 1024) -> Iterator[bytes]:
        data = self.get_bytes(key)
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]

    def fetch(self, key: str, size_bytes: int) -> Iterator[bytes]:
        yield self.get_bytes(key)[:size_bytes]

    def download(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.get_bytes(key))

    def list(self, prefix: str) -> list[ObjectInfo]:
        self._reach(prefix)
        return [
            ObjectInfo(key, len(data), _etag(data))
            for key, data in sorted(self._store.kept.items())
            if key.startswith(prefix)
        ]

    def delete(self, prefix: str) -> int:
        keys = [info.key for info in self.list(prefix)]
        for key in keys:
            self._reach(key)
            self._store.kept.pop(key, None)
        return len(keys)

    def size(self, key: str) -> int:
        return len(self.get_bytes(key))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        return self.get_bytes(key)[start:end]

    def presigned_get(self, key: str, seconds: int = 900) -> str:
        return f"simulated://{key}?seconds={seconds}"


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
