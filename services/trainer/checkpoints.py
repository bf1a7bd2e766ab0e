"""A job's checkpoints in the object store: fences, manifests written last, verified reading, retention. No torch here.

jobs/JOB_ID/fences/00002.json                                       attempt 2 began, and where from
jobs/JOB_ID/fences/00001.over                                       attempt 1 is told so, by the one that took over
jobs/JOB_ID/ends/00002.json                                         attempt 2 ended in order: its very last object
jobs/JOB_ID/checkpoints/attempt-00002/checkpoint-40/MANIFEST.json   names every other file there
jobs/JOB_ID/artifact/attempt-00002/MANIFEST.json                    the same for the result
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import structlog

from services.trainer import domain, manifests
from services.trainer.domain import Awaited, End, Fence, FencedError, Outcome, Point
from services.trainer.manifests import MANIFEST, FileEntry, Manifest, ManifestError
from sskai.objects import Access, AlreadyExistsError, NotFoundError, ObjectInfo, ObjectsUnavailableError

log = structlog.get_logger()

_MANIFEST_KEY = re.compile(r"attempt-(\d+)/checkpoint-(\d+)/MANIFEST\.json$")
_FENCE_KEY = re.compile(r"(\d+)\.json$")
_OVER_KEY = re.compile(r"(\d+)\.over$")
CHUNK_BYTES = 1024 * 1024
FILES_AT_ONCE = 4  # each of them in parallel parts if it is large


class Bucket(Protocol):
    """What is needed of `sskai.objects.Objects`."""

    @property
    def access(self) -> Access: ...
    def uri(self, key: str) -> str: ...
    def key(self, uri: str) -> str: ...
    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> str: ...
    def put_file(self, key: str, path: Path) -> None: ...
    def get_bytes(self, key: str) -> bytes: ...
    def download(self, key: str, path: Path) -> None: ...
    def fetch(self, key: str, size_bytes: int) -> Iterator[bytes]: ...
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
        nonce: str = "",
    ) -> None:
        self._bucket = bucket
        self.prefix = prefix  # jobs/JOB_ID
        self.job_id = job_id
        self.attempt = attempt
        self._awaited = awaited  # until we took over
        self._gang = gang  # a secret of the attempt's machines; "": it is one process
        # Of who took over. Who is told one acts for them.
        self._holds_fence = bool(nonce)
        self._nonce = nonce or secrets.token_hex(8)
        self.line: list[Point] = []  # usable checkpoints of our lineage, newest first
        self.resumed_step = 0  # known once `take_over` has chosen

    def take_over(self, folder: Path) -> Restored | None:
        """Choose and fetch the newest checkpoint that verifies, then raise our fence. None: begin at step 0.

        A group of workers that formed again takes over from the one before it, of the same attempt and gang. Raises
        FencedError if a newer attempt has begun (or this very one, elsewhere).
        """
        self.check_fence()
        # What the group before us saved is the newest there is.
        again = bool(self._gang) and (self._own_fence() or {}).get("gang") == self._gang
        self.line = domain.resume_candidates(self.attempt + again, self._fences(), self._saved())
        restored, torn = None, []
        while self.line and restored is None:
            restored = self._fetch(self.line[0], folder)
            if restored is None:
                torn.append(self.line.pop(0))
        self._raise_fence(restored.point if restored else None)
        for point in torn:
            if point.attempt == self.attempt:  # we come to this step again, perhaps with other bits
                self._bucket.delete(self._checkpoint_prefix(point) + MANIFEST)
        self._awaited = None
        self._tell_the_fenced()
        self.resumed_step = restored.point.step if restored else 0
        return restored

    def check_fence(self) -> None:
        """Raises FencedError if a newer attempt has begun, or another group of this attempt's workers: the authority,
        a listing of all fences."""
        raised = {int(match[1]) for match in self._keys(_FENCE_KEY)}
        self._refuse_below(max(raised, default=0))
        if self._holds_fence and self.attempt not in raised:
            self._write_fence_again()
            raise ObjectsUnavailableError(f"{self._fence_key} was stored, but no list has it: nobody would be stopped")
        if self._gang and self._holds_fence and (self._own_fence() or {}).get("nonce") != self._nonce:
            raise FencedError(f"another group of workers goes on with attempt {self.attempt} of {self.job_id}")

    def identity(self) -> dict[str, Any]:
        """Who this is, for another process that writes on its behalf: arguments of this class."""
        about = {"prefix": self.prefix, "job_id": self.job_id, "attempt": self.attempt}
        return about | {"gang": self._gang, "nonce": self._nonce if self._holds_fence else ""}

    def check_told(self) -> None:
        """Raises FencedError once the attempt that took over has told us: one read of one small key, made often."""
        try:
            newest = json.loads(self._bucket.get_bytes(self._over_key(self.attempt)))["attempt"]
        except NotFoundError:
            return
        self._refuse_below(newest)

    def tell_end(self, outcome: Outcome) -> None:
        """Say that this attempt writes nothing more: whoever stands by for it may take over."""
        awaited = self._awaited
        end = {
            "attempt": self.attempt,
            "outcome": outcome,
            "awaited": {"attempt": awaited.attempt, "until": awaited.until.isoformat()} if awaited else None,
            "at": datetime.now(UTC).isoformat(),
        }
        self._bucket.put_bytes(self._end_key(self.attempt), json.dumps(end).encode())

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
        files: Mapping[str, Path],
        versions: Mapping[str, str],
        others: Callable[[], Mapping[str, FileEntry]] = dict,
    ) -> Stored:
        """Upload a checkpoint's files by name, then its manifest. It exists only after the last byte of the manifest,
        and counts once a list has it, by which the next attempt finds it.

        `others` waits for the files that other workers upload. Raises FencedError; ObjectsUnavailableError leaves files
        without a manifest, which nobody reads.
        """
        point = Point(self.attempt, step)
        prefix = self._checkpoint_prefix(point)
        stored = self._write("checkpoint", step, prefix, files=files, versions=versions, others=others)
        # A store whose disk was full has been seen to acknowledge what it then lists nowhere (SeaweedFS 4.48).
        if point not in self._saved():
            raise ObjectsUnavailableError(f"{prefix}{MANIFEST} was stored, but no list has it: nobody would find it")
        self.line = [point, *(known for known in self.line if known != point)]
        return stored

    def upload(self, step: int, files: Mapping[str, Path]) -> dict[str, FileEntry]:
        """This worker's files of a checkpoint whose manifest the first one writes. Raises as `commit`."""
        self.check_fence()
        return self._upload(self._checkpoint_prefix(Point(self.attempt, step)), files)

    def follow(self, point: Point, folder: Path) -> Restored:
        """Fetch what the first worker took over from. Raises ManifestError, NotFoundError."""
        target = folder / f"attempt-{point.attempt}-step-{point.step}"
        self._download(point, target)
        self.resumed_step = point.step
        return Restored(point, target)

    def publish(self, step: int, folder: Path, versions: Mapping[str, str]) -> Stored:
        """The same for the result: all files of the folder. Tried again, it uploads them again."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        prefix = f"{self.prefix}/artifact/attempt-{self.attempt:05d}/"
        stored = self._write("artifact", step, prefix, files=files, versions=versions)
        # As in `commit`; here the files that a next try uploads are what such a store needs.
        listed = {info.key.removeprefix(prefix) for info in self._bucket.list(prefix)}
        if lacking := sorted({*files, MANIFEST} - listed):
            raise ObjectsUnavailableError(f"{', '.join(lacking)} of {prefix} was stored, but no list has it")
        return stored

    def prune(self, keep: int) -> None:
        """Delete what retention no longer keeps of our lineage; manifests first, so that none is left half deleted."""
        self.check_fence()
        for point in domain.outdated(self.line, keep):
            prefix = self._checkpoint_prefix(point)
            self._bucket.delete(prefix + MANIFEST)
            self._bucket.delete(prefix)
            self.line.remove(point)

    def _upload(self, prefix: str, files: Mapping[str, Path]) -> dict[str, FileEntry]:
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            uploads = [pool.submit(self._bucket.put_file, prefix + name, path) for name, path in files.items()]
            # Hashed here while they go up.
            digests = {name: digest_file(path) for name, path in files.items()}
            for upload in uploads:
                upload.result()
        return digests

    def _write(
        self,
        kind: str,
        step: int,
        prefix: str,
        *,
        files: Mapping[str, Path],
        versions: Mapping[str, str],
        others: Callable[[], Mapping[str, FileEntry]] = dict,
    ) -> Stored:
        self.check_fence()
        digests = self._upload(prefix, files) | dict(others())
        created_at = datetime.now(UTC).isoformat()
        manifest = Manifest(kind, self.job_id, self.attempt, step, created_at, digests, versions)
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
        if (manifest.job_id, manifest.attempt, manifest.step) != (self.job_id, point.attempt, point.step):
            raise ManifestError(f"it is the manifest of {manifest.job_id} step {manifest.step}")
        target.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            found = pool.map(
                lambda one: (one[0], self._download_file(prefix + one[0], one[1], target / one[0])),
                manifest.files.items(),
            )
            for name, entry in found:
                manifests.check_file(name, entry, manifest)

    def _download_file(self, key: str, named: FileEntry, path: Path) -> FileEntry:
        """Hashed while it comes in, so that verifying takes no second read."""
        with path.open("wb") as file:
            return manifests.digest(_written(self._bucket.fetch(key, named.bytes), file))

    def _raise_fence(self, origin: Point | None) -> None:
        fence = {
            "attempt": self.attempt,
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
                    raise FencedError(f"attempt {self.attempt} of {self.job_id} began once before") from error
                # The attempt still goes on from where it did: what its groups saved since is its own.
                again = fence | {"resumed_from": standing["resumed_from"]}
                self._bucket.put_bytes(self._fence_key, json.dumps(again).encode())
        self._holds_fence = True

    def _write_fence_again(self) -> None:
        """A store whose disk was full lists what it kept once something is written there (seen with SeaweedFS 4.48)."""
        standing = self._own_fence() or {}
        if standing.get("nonce") == self._nonce:
            self._bucket.put_bytes(self._fence_key, json.dumps(standing).encode())

    def _own_fence(self) -> dict[str, Any] | None:
        try:
            fence: dict[str, Any] = json.loads(self._bucket.get_bytes(self._fence_key))
        except NotFoundError:
            return None
        return fence

    @property
    def _fence_key(self) -> str:
        return f"{self.prefix}/fences/{self.attempt:05d}.json"

    def _tell_the_fenced(self) -> None:
        """Every earlier attempt that stands in the list once our fence does. One that is not there yet will list ours.

        Raises FencedError if a newer one stands there.
        """
        self.check_fence()
        told = {int(match[1]) for match in self._keys(_OVER_KEY)}
        for number in sorted(int(match[1]) for match in self._keys(_FENCE_KEY)):
            if number < self.attempt and number not in told:
                self._bucket.put_bytes(self._over_key(number), json.dumps({"attempt": self.attempt}).encode())

    def _refuse_below(self, newest: int) -> None:
        if newest > self.attempt:
            raise FencedError(f"attempt {newest} of {self.job_id} has begun; this is attempt {self.attempt}")

    def _fences(self) -> list[Fence]:
        found = []
        for match in self._keys(_FENCE_KEY):
            document = json.loads(self._bucket.get_bytes(match.string))
            origin = document["resumed_from"]
            found.append(Fence(int(match[1]), Point(origin["attempt"], origin["step"]) if origin else None))
        return found

    def _keys(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        infos = self._bucket.list(f"{self.prefix}/fences/")
        return [match for info in infos if (match := pattern.search(info.key))]

    def _saved(self) -> list[Point]:
        infos = self._bucket.list(f"{self.prefix}/checkpoints/")
        matches = (_MANIFEST_KEY.search(info.key) for info in infos)
        return [Point(int(match[1]), int(match[2])) for match in matches if match]

    def _over_key(self, attempt: int) -> str:
        return f"{self.prefix}/fences/{attempt:05d}.over"

    def _end_key(self, attempt: int) -> str:
        return f"{self.prefix}/ends/{attempt:05d}.json"

    def _checkpoint_prefix(self, point: Point) -> str:
        return f"{self.prefix}/checkpoints/attempt-{point.attempt:05d}/checkpoint-{point.step}/"


def _written(chunks: Iterator[bytes], file: BinaryIO) -> Iterator[bytes]:
    for chunk in chunks:
        file.write(chunk)
        yield chunk


def digest_file(path: Path) -> FileEntry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return manifests.digest(iter(lambda: file.read(CHUNK_BYTES), b""))
