"""Weights from the object store: verified, cached, refused by content."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from services.inference.artifacts import Artifacts, LoadError
from services.inference.domain import FailureReason
from services.inference.manifests import Kind
from sskai.contract import new_id
from sskai.objects import Objects
from tests.inference.artefacts import Published, publish, upload


@pytest.fixture
def artifacts(objects: Objects, models_dir: Path, tmp_path: Path) -> Artifacts:
    return Artifacts(objects, models_dir, tmp_path / "cache", 100_000_000)


def published_again(objects: Objects, folder: Path) -> tuple[Published, str]:
    """A copy of its own, to be damaged; with its key prefix."""
    prefix = f"jobs/{new_id('job')}/artifact"
    return publish(objects, folder, prefix), prefix


def test_an_adapter_is_fetched_once_and_verified(
    artifacts: Artifacts, objects: Objects, adapters: dict[str, Path]
) -> None:
    artefact, prefix = published_again(objects, adapters["cats"])
    folder = artifacts.result(artefact.uri, artefact.manifest_sha256)[0]
    weights = "adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (adapters["cats"] / weights).read_bytes()
    objects.delete(f"{prefix}/{weights}")
    assert artifacts.result(artefact.uri, artefact.manifest_sha256)[0] == folder


def test_a_damaged_cache_is_fetched_again(artifacts: Artifacts, published: dict[str, Published]) -> None:
    artefact = published["cats"]
    weights = artifacts.result(artefact.uri, None)[0] / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert artifacts.result(artefact.uri, None)[0].joinpath(weights.name).read_bytes() == whole


def refusal(artifacts: Artifacts, uri: str, manifest_sha256: str | None = None) -> LoadError:
    with pytest.raises(LoadError) as caught:
        artifacts.result(uri, manifest_sha256)
    return caught.value


def test_a_file_that_is_not_what_its_manifest_says(
    artifacts: Artifacts, objects: Objects, adapters: dict[str, Path]
) -> None:
    artefact, prefix = published_again(objects, adapters["cats"])
    objects.put_bytes(f"{prefix}/adapter_model.safetensors", b"x" * 100)
    error = refusal(artifacts, artefact.uri)
    assert error.reason == FailureReason.UNUSABLE_WEIGHTS
    assert "adapter_model.safetensors has 100 bytes" in error.detail


def test_another_manifest_than_the_published_one(artifacts: Artifacts, published: dict[str, Published]) -> None:
    error = refusal(artifacts, published["cats"].uri, published["dogs"].manifest_sha256)
    assert error.reason == FailureReason.UNUSABLE_WEIGHTS


def test_a_pickle_that_calls_itself_safetensors_is_refused(
    artifacts: Artifacts, objects: Objects, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(adapters["cats"], tmp_path / "evil")
    (folder / "adapter_model.safetensors").write_bytes(pickle.dumps({"weights": [1.0] * 100}))
    artefact, _ = published_again(objects, folder)
    assert refusal(artifacts, artefact.uri).reason == FailureReason.UNUSABLE_WEIGHTS


@pytest.mark.parametrize("uri", ["s3://sskai/nowhere", "s3://other/prefix", "s3://sskai/../x", "file:///etc"])
def test_what_is_not_there(artifacts: Artifacts, uri: str) -> None:
    assert refusal(artifacts, uri).reason == FailureReason.NOT_FOUND


@pytest.mark.parametrize("name", ["absent", "../models", "tiny/..", "", "a/b"])
def test_a_built_in_model_is_a_plain_name(artifacts: Artifacts, name: str) -> None:
    with pytest.raises(LoadError) as caught:
        artifacts.base(f"builtin://{name}")
    assert caught.value.reason == FailureReason.NOT_FOUND


def test_an_uploaded_base_without_a_manifest(artifacts: Artifacts, objects: Objects, tiny: Path) -> None:
    prefix = f"models/{new_id('model')}"
    for path in tiny.iterdir():
        objects.put_file(f"{prefix}/{path.name}", path)
    folder = artifacts.base(objects.uri(prefix))
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny.iterdir()}
    objects.put_bytes(f"{prefix}/modeling.py", b"print('never')")
    with pytest.raises(LoadError, match=r"modeling.py is refused"):
        artifacts.base(objects.uri(prefix))


def test_the_cache_forgets_what_was_not_used_for_longest(
    objects: Objects, models_dir: Path, tmp_path: Path, published: dict[str, Published], adapters: dict[str, Path]
) -> None:
    size = sum(path.stat().st_size for path in adapters["cats"].iterdir())
    artifacts = Artifacts(objects, models_dir, tmp_path / "cache", int(1.5 * size))
    first = artifacts.result(published["cats"].uri, None)[0]
    second = artifacts.result(published["dogs"].uri, None)[0]
    assert not first.exists()
    assert second.exists()
    too_small = Artifacts(objects, models_dir, tmp_path / "small", size // 2)
    assert "more than the cache" in refusal(too_small, published["cats"].uri).detail


def test_a_pipeline_is_fetched_with_its_folders_and_counted_in_the_cache(
    objects: Objects, models_dir: Path, uploaded: str, pipeline: Path, published: dict[str, Published], tmp_path: Path
) -> None:
    size = sum(path.stat().st_size for path in pipeline.rglob("*") if path.is_file())
    artifacts = Artifacts(objects, models_dir, tmp_path / "cache", size + 10_000)
    folder = artifacts.base(uploaded)
    for path in pipeline.rglob("*"):
        if path.is_file():
            assert (folder / path.relative_to(pipeline)).read_bytes() == path.read_bytes()
    artifacts.result(published["cats"].uri, None)
    assert not folder.exists(), "there is no room for both"


def test_a_pickle_in_a_part_of_a_pipeline_is_refused(
    artifacts: Artifacts, objects: Objects, pipeline: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(pipeline, tmp_path / "copy"))
    (copy / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(pickle.dumps({"weights": list(range(99))}))
    with pytest.raises(LoadError) as caught:
        artifacts.base(upload(objects, copy, f"models/{new_id('model')}"))
    assert caught.value.reason == FailureReason.UNUSABLE_WEIGHTS


def test_what_was_learnt_of_a_pipeline_is_fetched(
    artifacts: Artifacts, published_pictures: dict[str, Published]
) -> None:
    artefact = published_pictures["dots"]
    folder, kind = artifacts.result(artefact.uri, artefact.manifest_sha256)
    assert kind == Kind.PIPELINE_ADAPTER
    assert (folder / "pytorch_lora_weights.safetensors").is_file()
