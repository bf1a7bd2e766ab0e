"""What an attempt reads: the base model's folder, the dataset's file, and the version it is measured against."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from services.trainer import manifests
from services.trainer.checkpoints import CHUNK_BYTES
from services.trainer.domain import TrainingFailedError
from services.trainer.manifests import MANIFEST, Manifest, ManifestError
from services.trainer.patience import Source
from sskai.events import v1 as events
from sskai.objects import NotFoundError

BUILTIN = "builtin://"
PIPELINE = "model_index.json"  # of diffusers
DATASET = "dataset.jsonl"
# Weights are safetensors; the rest of a transformers folder is text. Pickles and Python files are left where they are.
MODEL_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".md"})


def model_folder(reference: events.ModelRef, models_dir: Path, bucket: Source, cache: Path) -> Path:
    """The base model on this machine's disk. Raises TrainingFailedError("user-error")."""
    if reference.uri.startswith(BUILTIN):
        name = reference.uri.removeprefix(BUILTIN)
        folder = models_dir / name
        if name != PurePosixPath(name).name or not _is_model(folder):
            raise TrainingFailedError("user-error", f"model.uri: {reference.uri} is not installed on this machine")
        return folder
    prefix = _key(reference.uri, bucket, "model.uri").rstrip("/") + "/"
    folder = cache / "model"
    infos = [info for info in bucket.list(prefix) if PurePosixPath(info.key).suffix in MODEL_SUFFIXES]
    names = {info.key.removeprefix(prefix): info.key for info in infos}
    # A pipeline has a folder for each of its parts. Beside other models, folders hold what nobody needs (ONNX, say).
    depth = 2 if PIPELINE in names else 1
    for name, key in names.items():
        if manifests.is_plain(name) and len(PurePosixPath(name).parts) <= depth:
            bucket.download(key, folder / name)
    if not _is_model(folder):
        raise TrainingFailedError("user-error", f"model.uri: there is no config.json under {reference.uri}")
    return folder


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / PIPELINE).is_file()


def dataset_file(reference: events.DatasetRef, bucket: Source, cache: Path) -> Path:
    """The dataset on this machine's disk, the very bytes that were validated. Raises TrainingFailedError("dataset")."""
    path = cache / DATASET
    try:
        bucket.download(_key(reference.uri, bucket, "dataset.uri"), path)
    except NotFoundError as error:
        raise TrainingFailedError("dataset", f"dataset.uri: there is nothing at {reference.uri}") from error
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
    if reference.sha256 and sha256.hexdigest() != reference.sha256:
        raise TrainingFailedError(
            "dataset", f"dataset.uri: {reference.uri} is not what was validated (SHA-256 {sha256.hexdigest()})"
        )
    return path


def champion_folder(champion: events.Champion, bucket: Source, cache: Path) -> Path:
    """A published version on this machine's disk, each file as its manifest says; what can run is left where it is, and
    so are exports. Raises ValueError, NotFoundError."""
    prefix = bucket.key(champion.artifact_uri).rstrip("/") + "/"
    manifest = Manifest.from_json(bucket.get_bytes(prefix + MANIFEST))
    if (manifest.kind, manifest.job_id) != ("artifact", champion.job_id):
        raise ManifestError(f"this is the {manifest.kind} of {manifest.job_id}, not the artifact of {champion.job_id}")
    folder = cache / "champion"
    for name in manifest.files:
        if PurePosixPath(name).suffix in MODEL_SUFFIXES and "/" not in name:
            bucket.download(prefix + name, folder / name)
            with (folder / name).open("rb") as file:
                found = manifests.digest(iter(lambda: file.read(CHUNK_BYTES), b""))
            manifests.check_file(name, found, manifest)
    return folder


def _key(uri: str, bucket: Source, field: str) -> str:
    try:
        return bucket.key(uri)
    except ValueError as error:
        raise TrainingFailedError("user-error", f"{field}: {error}") from error
