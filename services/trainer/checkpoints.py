"""A job's checkpoints in the object store: fences, manifests written last, verified reading, retention. No torch here.

jobs/JOB_ID/fences/00002.json                                       attempt 2 began, and where from
jobs/JOB_ID/ends/00002.json                                         attempt 2 ended in order: its very last object
jobs/JOB_ID/checkpoints/attempt-00002/checkpoint-40/MANIFEST.json   names every other file there
jobs/JOB_ID/artifact/attempt-00002/MANIFEST.json                    the same for the result
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

from services.trainer import domain, manifests
from services.trainer.domain import Awaited, End, Fence, FencedError, Outcome, Point
from services.trainer.manifests import MANIFEST, FileEntry, Manifest, ManifestError
from sskai.objects import AlreadyExistsError, NotFoundError, ObjectInfo

log = structlog.get_logger()

_MANIFEST_KEY = re.compile(r"attempt-(\d+)/checkpoint-(\d+)/MANIFEST\.json$")
_FENCE_KEY = re.compile(r"(\d+)\.json$")
CHUNK_BYTES = 1024 * 1024


class Bucket(Protocol):
    """What is needed of `sskai.objects.Objects`."""

    def uri(self, key: str) -> str: ...
    def key(self, uri: str) -> str: ...
    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> str: ...
    def put_file(self, key: str, path: Path) -> None: ...
    def get_bytes(self, key: str) -> bytes: ...
    def download(self, key: str, path: Path) -> None: ...
    def list(self, prefix: str) -> list[ObjectInfo]: ...
    def delete(self, prefix: str) -> int: ...


@dataclass(frozen=True, slots=True)
class Restored:
    """A verified checkpoint on this machine's disk."""

    point: Point
    folder: Path


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: its URI, and the size of its files."""

    uri: str
    bytes: int


class Checkpoints:
    """Those of one job, as one attempt sees and writes them."""

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        job_id: str,
        attempt: int,
        *,
        awaited: Awaited | None = None,
        gang: str = "",
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix  # jobs/JOB_ID
        self._job_id = job_id
        self._attempt = attempt
        self._awaited = awaited  # until we took over
        self._gang = gang  # a secret of the attempt's machines; "": it is one process
        self._nonce = secrets.token_hex(8)  # this process's
        self._holds_fence = False
        self._line: list[Point] = []  # usable checkpoints of our lineage, newest first
        self.resumed_step = 0  # known once `take_over` has chosen

    def take_over(self, folder: Path) -> Restored | None:
        """Choose and fetch the newest checkpoint that verifies, then raise our fence. None: begin at step 0.

        A group of workers that formed again takes over from the one before it, of the same attempt and gang. Raises
        FencedError if a newer attempt has begun (or this very one, elsewhere).
        """
        self.check_fence()
        # What the group before us saved is the newest there is.
        again = bool(self._gang) and (self._own_fence() or {}).get("gang") == self._gang
        self._line = domain.resume_candidates(self._attempt + again, self._fences(), self._saved())
        restored, torn = None, []
        while self._line and restored is None:
            restored = self._fetch(self._line[0], folder)
            if restored is None:
                torn.append(self._line.pop(0))
        self._raise_fence(restored.point if restored else None)
        for point in torn:
            if point.attempt == self._attempt:  # we come to this step again, perhaps with other bits
                self._bucket.delete(self._checkpoint_prefix(point) + MANIFEST)
        self._awaited = None
        self.check_fence()
        self.resumed_step = restored.point.step if restored else 0
        return restored

    def check_fence(self) -> None:
        """Raises FencedError if a newer attempt has begun, or another group of this attempt's workers."""
        newest = max((int(match[1]) for match in self._fence_keys()), default=0)
        if newest > self._attempt:
            raise FencedError(f"attempt {newest} of {self._job_id} has begun; this is attempt {self._attempt}")
        if self._gang and self._holds_fence and (self._own_fence() or {}).get("nonce") != self._nonce:
            raise FencedError(f"another group of workers goes on with attempt {self._attempt} of {self._job_id}")

    def tell_end(self, outcome: Outcome) -> None:
        """Say that this attempt writes nothing more: whoever stands by for it may take over."""
        awaited = self._awaited
        end = {
            "attempt": self._attempt,
            "outcome": outcome,
            "awaited": {"attempt": awaited.attempt, "until": awaited.until.isoformat()} if awaited else None,
            "at": datetime.now(UTC).isoformat(),
        }
        self._bucket.put_bytes(self._end_key(self._attempt), json.dumps(end).encode())

    def end_of(self, attempt: int) -> End | None:
        """How an earlier attempt ended; None: it has not said."""
        try:
            end = json.loads(self._bucket.get_bytes(self._end_key(attempt)))
        except NotFoundError:
            return None
        awaited = end["awaited"]
        return End(
            Outcome(end["outcome"]),
            Awaited(awaited["attempt"], datetime.fromisoformat(awaited["until"])) if awaited else None,
        )

    def commit(
        self,
        step: int,
        folder: Path,
        versions: Mapping[str, str],
        others: Callable[[], Mapping[str, FileEntry]] = dict,
    ) -> Stored:
        """Upload a checkpoint's files, then its manifest. It exists only after the last byte of the manifest.

        `others` waits for the files that other workers upload. Raises FencedError; ObjectsUnavailableError leaves files
        without a manifest, which nobody reads.
        """
        point = Point(self._attempt, step)
        prefix = self._checkpoint_prefix(point)
        stored = self._write("checkpoint", step, prefix, folder=folder, versions=versions, others=others)
        self._line = [point, *(known for known in self._line if known != point)]
        return stored

    def upload(self, step: int, folder: Path) -> dict[str, FileEntry]:
        """This worker's files of a checkpoint whose manifest the first one writes. Raises as `commit`."""
        self.check_fence()
        return self._upload(self._checkpoint_prefix(Point(self._attempt, step)), folder)

    def publish(self, step: int, folder: Path, versions: Mapping[str, str]) -> Stored:
        """The same for the result."""
        prefix = f"{self._prefix}/artifact/attempt-{self._attempt:05d}/"
        return self._write("artifact", step, prefix, folder=folder, versions=versions)

    def follow(self, point: Point, folder: Path) -> Restored:
        """Fetch what the first worker took over from. Raises ManifestError, NotFoundError."""
        target = folder / f"attempt-{point.attempt}-step-{point.step}"
        self._download(point, target)
        self.resumed_step = point.step
        return Restored(point, target)

    def prune(self, keep: int) -> None:
        """Delete what retention no longer keeps of our lineage; manifests first, so that none is left half deleted."""
        self.check_fence()
        for point in domain.outdated(self._line, keep):
            prefix = self._checkpoint_prefix(point)
            self._bucket.delete(prefix + MANIFEST)
            self._bucket.delete(prefix)
            self._line.remove(point)

    def _upload(self, prefix: str, folder: Path) -> dict[str, FileEntry]:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        files = {path.name: digest_file(path) for path in paths}
        for path in paths:
            self._bucket.put_file(prefix + path.name, path)
        return files

    def _write(
        self,
        kind: str,
        step: int,
        prefix: str,
        *,
        folder: Path,
        versions: Mapping[str, str],
        others: Callable[[], Mapping[str, FileEntry]] = dict,
    ) -> Stored:
        self.check_fence()
        files = self._upload(prefix, folder) | dict(others())
        created_at = datetime.now(UTC).isoformat()
        manifest = Manifest(kind, self._job_id, self._attempt, step, created_at, files, versions)
        self.check_fence()
        try:
            self._bucket.put_bytes(prefix + MANIFEST, manifest.to_json(), if_absent=True)
        except AlreadyExistsError:
            # A try before this one wrote it and did not hear so. Only this attempt writes here, and equal steps are
            # equal bytes but for their time, so what stands is as good.
            standing = Manifest.from_json(self._bucket.get_bytes(prefix + MANIFEST))
            if standing.files != manifest.files:
                raise
        return Stored(self._bucket.uri(prefix.rstrip("/")), manifest.total_bytes)

    def _fetch(self, point: Point, folder: Path) -> Restored | None:
        """None if the checkpoint is torn: the one before it is tried then."""
        target = folder / f"attempt-{point.attempt}-step-{point.step}"
        try:
            self._download(point, target)
        except (ManifestError, NotFoundError) as error:
            log.warning("checkpoint does not verify", attempt=point.attempt, step=point.step, error=str(error))
            return None
        return Restored(point, target)

    def _download(self, point: Point, target: Path) -> None:
        prefix = self._checkpoint_prefix(point)
        manifest = Manifest.from_json(self._bucket.get_bytes(prefix + MANIFEST))
        if (manifest.job_id, manifest.attempt, manifest.step) != (self._job_id, point.attempt, point.step):
            raise ManifestError(f"it is the manifest of {manifest.job_id} step {manifest.step}")
        for name in manifest.files:
            self._bucket.download(prefix + name, target / name)
            manifests.check_file(name, digest_file(target / name), manifest)

    def _raise_fence(self, origin: Point | None) -> None:
        fence = {
            "attempt": self._attempt,
            "resumed_from": asdict(origin) if origin else None,
            "nonce": self._nonce,
            "gang": self._gang,
            "at": datetime.now(UTC).isoformat(),
        }
        try:
            self._bucket.put_bytes(self._fence_key, json.dumps(fence).encode(), if_absent=True)
        except AlreadyExistsError as error:
            standing = self._own_fence() or {}
            # The client's own retry after a lost answer finds our own words there.
            if standing.get("nonce") != self._nonce:
                if not self._gang or standing.get("gang") != self._gang:
                    raise FencedError(f"attempt {self._attempt} of {self._job_id} began once before") from error
                # The attempt still goes on from where it did: what its groups saved since is its own.
                again = fence | {"resumed_from": standing["resumed_from"]}
                self._bucket.put_bytes(self._fence_key, json.dumps(again).encode())
        self._holds_fence = True

    def _own_fence(self) -> dict[str, Any] | None:
        try:
            fence: dict[str, Any] = json.loads(self._bucket.get_bytes(self._fence_key))
        except NotFoundError:
            return None
        return fence

    @property
    def _fence_key(self) -> str:
        return f"{self._prefix}/fences/{self._attempt:05d}.json"

    def _fences(self) -> list[Fence]:
        found = []
        for match in self._fence_keys():
            document = json.loads(self._bucket.get_bytes(match.string))
            origin = document["resumed_from"]
            found.append(Fence(int(match[1]), Point(origin["attempt"], origin["step"]) if origin else None))
        return found

    def _fence_keys(self) -> list[re.Match[str]]:
        infos = self._bucket.list(f"{self._prefix}/fences/")
        return [match for info in infos if (match := _FENCE_KEY.search(info.key))]

    def _saved(self) -> list[Point]:
        infos = self._bucket.list(f"{self._prefix}/checkpoints/")
        matches = (_MANIFEST_KEY.search(info.key) for info in infos)
        return [Point(int(match[1]), int(match[2])) for match in matches if match]

    def _end_key(self, attempt: int) -> str:
        return f"{self._prefix}/ends/{attempt:05d}.json"

    def _checkpoint_prefix(self, point: Point) -> str:
        return f"{self._prefix}/checkpoints/attempt-{point.attempt:05d}/checkpoint-{point.step}/"


def digest_file(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return manifests.digest(iter(lambda: file.read(CHUNK_BYTES), b""))
