"""Weights on this machine's disk: built-in models as they lie, artefacts of the object store verified and cached.

The cache is a folder per URI, named after its hash; a folder appears only when it is whole. Synchronous: call it in a
thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from services.inference import manifests
from services.inference.domain import FailureReason
from services.inference.manifests import MANIFEST, WEIGHTS, FileEntry, Kind, ManifestError
from sskai.objects import NotFoundError, Objects

BUILTIN = "builtin://"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class LoadError(Exception):
    """An endpoint cannot be loaded: why, and the detail for the user."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Artifacts:
    """Raises LoadError; ObjectsUnavailableError when the object store does not answer."""

    def __init__(self, objects: Objects, models_dir: Path, cache_dir: Path, cache_bytes: int) -> None:
        self._objects = objects
        self._models_dir = models_dir
        self._cache_dir = cache_dir
        self._cache_bytes = cache_bytes

    def base(self, uri: str) -> Path:
        """The folder of a foundation model: `builtin://NAME` or `s3://BUCKET/PREFIX`."""
        if uri.startswith(BUILTIN):
            return self._builtin(uri.removeprefix(BUILTIN))
        return self._fetched(uri, None, result=False)

    def result(self, uri: str, manifest_sha256: str | None) -> tuple[Path, Kind]:
        """The folder of what a training made; `manifest_sha256`: what its manifest must hash to, if that is known."""
        folder = self._fetched(uri, manifest_sha256, result=True)
        try:
            return folder, manifests.kind_of(lambda name: (folder / name).read_bytes(), set(os.listdir(folder)))
        except ManifestError as error:
            raise LoadError(FailureReason.UNUSABLE_WEIGHTS, f"{uri}: {error}") from error

    def _builtin(self, name: str) -> Path:
        folder = self._models_dir / name
        if not _NAME.fullmatch(name) or not folder.is_dir():
            raise LoadError(FailureReason.NOT_FOUND, f"no built-in model {name!r} is installed here")
        return folder

    def _fetched(self, uri: str, manifest_sha256: str | None, *, result: bool) -> Path:
        try:
            prefix = self._objects.key(uri).rstrip("/") + "/"
            files = self._files(prefix, manifest_sha256, result=result)
            folder = self._cache_dir / hashlib.sha256(uri.encode()).hexdigest()[:32]
            if not _verifies(folder, files):
                shutil.rmtree(folder, ignore_errors=True)
                self._download(prefix, files, folder)
        except (ManifestError, SafetensorError) as error:
            raise LoadError(FailureReason.UNUSABLE_WEIGHTS, f"{uri}: {error}") from error
        except NotFoundError as error:
            raise LoadError(FailureReason.NOT_FOUND, f"{uri}: there is no object {error}") from error
        except ValueError as error:  # a URI of another bucket
            raise LoadError(FailureReason.NOT_FOUND, str(error)) from error
        os.utime(folder)
        self._forget_least_used(folder)
        return folder

    def _files(self, prefix: str, manifest_sha256: str | None, *, result: bool) -> dict[str, FileEntry]:
        """What the folder must hold. An uploaded base may lack a manifest: then what lies there, unhashed."""
        try:
            data = self._objects.get_bytes(prefix + MANIFEST)
        except NotFoundError:
            if result:
                raise
            found = {info.key.removeprefix(prefix): FileEntry(info.bytes, "") for info in self._objects.list(prefix)}
            manifests.check_names(found)
            manifests.check_no_code(found)
            return found
        if manifest_sha256 and hashlib.sha256(data).hexdigest() != manifest_sha256:
            raise ManifestError("the manifest is not the one of the published version")
        files = manifests.parse(data)
        if result:
            manifests.check_result(files)
        else:
            manifests.check_no_code(files)
        return files

    def _download(self, prefix: str, files: dict[str, FileEntry], folder: Path) -> None:
        size = sum(entry.bytes for entry in files.values())
        if size > self._cache_bytes:
            raise ManifestError(f"{size} bytes are more than the cache's {self._cache_bytes}")
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="part-", dir=self._cache_dir) as part:
            whole = Path(part) / "whole"
            for name in files:
                self._objects.download(prefix + name, whole / name)
            for name, entry in files.items():
                _check_file(whole / name, entry)
            try:
                whole.rename(folder)
            except OSError:  # another process was quicker
                if not _verifies(folder, files):
                    raise

    def _forget_least_used(self, newest: Path) -> None:
        folders = sorted(self._cache_dir.iterdir(), key=lambda folder: folder.stat().st_mtime)
        sizes = {folder: sum(file.stat().st_size for file in folder.rglob("*")) for folder in folders}
        total = sum(sizes.values())
        for folder in folders:
            if total <= self._cache_bytes:
                return
            if folder != newest:
                shutil.rmtree(folder, ignore_errors=True)
                total -= sizes[folder]


def _verifies(folder: Path, files: dict[str, FileEntry]) -> bool:
    try:
        for name, entry in files.items():
            _check_file(folder / name, entry)
    except (OSError, ManifestError, SafetensorError):
        return False
    return True


def _check_file(path: Path, entry: FileEntry) -> None:
    """Size, SHA-256 (where the manifest tells it) and, of weights, the format by content."""
    size = path.stat().st_size
    if size != entry.bytes:
        raise ManifestError(f"{path.name} has {size} bytes instead of {entry.bytes}")
    if entry.sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.sha256:
            raise ManifestError(f"{path.name} has SHA-256 {found}, its manifest says {entry.sha256}")
    if path.suffix == WEIGHTS:
        with safe_open(path, framework="numpy") as tensors:  # reads the header only; refuses what is no safetensors
            tensors.keys()
