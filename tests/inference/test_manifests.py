"""Which artefacts are let in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.inference import manifests
from services.inference.manifests import Kind, ManifestError

ADAPTER = {
    "adapter_config.json": {"bytes": 2, "sha256": "aa"},
    "adapter_model.safetensors": {"bytes": 3, "sha256": "bb"},
}


def manifest(files: Any, **changes: Any) -> bytes:
    return json.dumps({"format": "sskai.manifest/1", "files": files, **changes}).encode()


def test_a_manifest_names_size_and_hash_of_each_file() -> None:
    files = manifests.parse(manifest(ADAPTER, job_id="job_1"))
    manifests.check_result(files)
    assert files["adapter_model.safetensors"] == manifests.FileEntry(3, "bb")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not json", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"{}", "not a manifest"),
        (manifest(ADAPTER, format="other/1"), "format"),
        (manifest({"a.json": {"bytes": 1}}), "not a manifest"),
        (manifest({"../a.safetensors": ADAPTER["adapter_config.json"]}), "plain file name"),
        (manifest({"a/b.safetensors": ADAPTER["adapter_config.json"]}), "plain file name"),
        (manifest({**ADAPTER, "pytorch_model.bin": ADAPTER["adapter_config.json"]}), "refused"),
        (manifest({**ADAPTER, "modeling.py": ADAPTER["adapter_config.json"]}), "refused"),
        (manifest({"config.json": ADAPTER["adapter_config.json"]}), "no .safetensors"),
        (manifest({f"{at}.safetensors": ADAPTER["adapter_config.json"] for at in range(1001)}), "over 1000"),
    ],
)
def test_what_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(ManifestError, match=says):
        manifests.parse(data)


PIPELINE = ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt")


def test_the_parts_of_a_pipeline_lie_in_folders() -> None:
    manifests.check_names(PIPELINE)


@pytest.mark.parametrize(
    "name",
    [
        "safety_checker/model.safetensors",
        "unet/deep/config.json",
        "unet/../config.json",
        "../unet/config.json",
        "/unet/config.json",
        "unet/",
        "unet/unet.py",
        "vae/model.bin",
        "pipeline.py",
    ],
)
def test_a_file_of_no_part_of_a_pipeline_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match=r"plain file name|refused"):
        manifests.check_names([*PIPELINE, name])


def test_an_adapter_needs_both_files() -> None:
    with pytest.raises(ManifestError, match=r"adapter_config.json is missing"):
        manifests.check_result({"adapter_model.safetensors": manifests.FileEntry(3, "bb")})


def test_a_whole_model_is_a_result_and_weights_alone_are_none() -> None:
    weights = {"model.safetensors": manifests.FileEntry(3, "bb")}
    manifests.check_result({"config.json": manifests.FileEntry(3, "a"), **weights})
    with pytest.raises(ManifestError, match="neither an adapter"):
        manifests.check_result(weights)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"adapter_config.json": b'{"task_type": "CAUSAL_LM"}'}, Kind.ADAPTER),
        (
            {"adapter_config.json": b'{"task_type": "SEQ_CLS"}', "sskai.json": b'{"kind": "adapter"}'},
            "classifier-adapter",
        ),
        ({"config.json": b"{}", "sskai.json": b'{"kind": "transformers"}'}, Kind.WHOLE),
        ({"config.json": b"{}"}, Kind.WHOLE),
        (
            {"adapter_config.json": b"{}", "sskai.json": b'{"kind": "adapter", "format": "image-classification"}'},
            "classifier-adapter",
        ),
        (dict.fromkeys(manifests.OWN_MODEL_FILES, b'{"kind": "own-model"}'), "own-model"),
        ({"pytorch_lora_weights.safetensors": b""}, Kind.PIPELINE_ADAPTER),
        (
            {"pytorch_lora_weights.safetensors": b"", "sskai.json": b'{"kind": "diffusers-lora"}'},
            Kind.PIPELINE_ADAPTER,
        ),
    ],
)
def test_how_a_result_is_served(files: dict[str, bytes], kind: str) -> None:
    assert manifests.kind_of(files.__getitem__, files) == kind


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("onnx", "'onnx' is not served"),
        ("diffusers-lora", "pytorch_lora_weights.safetensors is missing"),
        ("own-model", "data.py, model.py, "),
    ],
)
def test_a_result_that_is_not_what_it_says_is_refused_by_name(kind: str, says: str) -> None:
    files = {"config.json": b"{}", "sskai.json": json.dumps({"kind": kind}).encode()}
    with pytest.raises(ManifestError, match=says):
        manifests.kind_of(files.__getitem__, files)


def test_exports_beside_an_adapter_are_left_where_they_are() -> None:
    exports = dict.fromkeys(("merged/model.safetensors", "gguf/bot.gguf"), ADAPTER["adapter_config.json"])
    assert set(manifests.parse(manifest({**ADAPTER, **exports}))) == set(ADAPTER)
