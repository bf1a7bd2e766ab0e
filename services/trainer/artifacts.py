"""Verifying a published artefact in the object store, byte by byte, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from services.trainer import manifests
from services.trainer.manifests import MANIFEST, Manifest, ManifestError
from sskai.objects import NotFoundError, Objects

# Tensors' names and shapes; a LoRA adapter's header has some 100 KB.
MAX_HEADER_BYTES = 4 * 1024 * 1024


def verify(objects: Objects, artifact_uri: str, job_id: str) -> str:
    """Returns the manifest's SHA-256. Raises ManifestError if the artefact is not whole, not safe, or another job's;
    ObjectsUnavailableError."""
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
        if manifests.is_own_model(manifest):
            manifests.check_own_model(manifest, objects.get_bytes(prefix + manifests.OWN_MODEL))
        else:
            manifests.check_adapter_config(objects.get_bytes(prefix + "adapter_config.json"))
    except NotFoundError as error:
        raise ManifestError(f"{error} is missing") from error
    return hashlib.sha256(data).hexdigest()


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
