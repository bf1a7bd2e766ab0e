"""Verifying a published artefact in the object store, byte by byte, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import structlog

from services.trainer import manifests, results
from services.trainer.comparison import EVALUATION, MAX_BYTES, Comparison
from services.trainer.manifests import MANIFEST, Manifest, ManifestError
from sskai.objects import NotFoundError, Objects

log = structlog.get_logger()

# Tensors' names and shapes; a LoRA adapter's header has some 100 KB.
MAX_HEADER_BYTES = 4 * 1024 * 1024


def verify(objects: Objects, artifact_uri: str, job_id: str) -> tuple[str, int]:
    """Returns the manifest's SHA-256, and the bytes of all its files.

    Raises ManifestError if the artefact is not whole, not safe, or another job's; ObjectsUnavailableError.
    """
    try:
        prefix = objects.key(artifact_uri).rstrip("/") + "/"
    except ValueError as error:
        raise ManifestError(str(error)) from error
    if not prefix.startswith(f"jobs/{job_id}/artifact/"):
        raise ManifestError(f"{artifact_uri} is not an artefact of {job_id}")
    try:
        data = objects.get_bytes(prefix + MANIFEST)
        manifest = Manifest.from_json(data)
        present = [info.key.removeprefix(prefix) for info in objects.list(prefix)]
        manifests.check_artifact(manifest, present, job_id=job_id)
        for name in manifest.files:
            _verify_file(objects, prefix, name, manifest)
        results.check(manifest.files, lambda name: _document(objects, prefix, name, manifest))
    except NotFoundError as error:
        raise ManifestError(f"{error} is missing") from error
    return hashlib.sha256(data).hexdigest(), sum(entry.bytes for entry in manifest.files.values())


def comparison_of(objects: Objects, artifact_uri: str) -> Comparison | None:
    """How a verified artefact's version does against the champion, as its pod measured it; None: it does not say."""
    key = objects.key(artifact_uri).rstrip("/") + "/" + EVALUATION
    if not any(info.key == key and info.bytes <= MAX_BYTES for info in objects.list(key)):
        return None
    try:
        return Comparison.from_json(objects.get_bytes(key))
    except ValueError as error:
        log.warning("the comparison cannot be read", artifact_uri=artifact_uri, error=str(error))
        return None


def _document(objects: Objects, prefix: str, name: str, manifest: Manifest) -> bytes:
    if manifest.files[name].bytes > results.MAX_DOCUMENT_BYTES:
        raise ManifestError(f"{name} has over {results.MAX_DOCUMENT_BYTES} bytes")
    return objects.get_bytes(prefix + name)


def _verify_file(objects: Objects, prefix: str, name: str, manifest: Manifest) -> None:
    header = bytearray()

    def chunks() -> Iterator[bytes]:
        for chunk in objects.open(prefix + name):
            header.extend(chunk[: max(0, MAX_HEADER_BYTES - len(header))])
            yield chunk

    found = manifests.digest(chunks())
    manifests.check_file(name, found, manifest)
    if name.endswith(".safetensors"):
        manifests.check_safetensors(name, bytes(header), found.bytes)
    elif name.endswith(".gguf"):
        manifests.check_gguf(name, bytes(header))
