"""What is accepted as a result, by kind, and its card."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from services.trainer import artifacts, results
from services.trainer.checkpoints import Checkpoints
from services.trainer.manifests import ManifestError
from services.trainer.results import Declaration
from sskai.contract import new_id
from sskai.objects import Objects

HEADER = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
TENSORS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0" * 8
ADAPTER = {
    "adapter_config.json": json.dumps({"r": 4, "base_model_name_or_path": "tiny"}).encode(),
    "adapter_model.safetensors": TENSORS,
}
WHOLE = {"config.json": b'{"model_type": "llama"}', "model.safetensors": TENSORS, "tokenizer.json": b"{}"}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
SHARDED = {
    "config.json": WHOLE["config.json"],
    "tokenizer.json": b"{}",
    "model.safetensors.index.json": INDEX,
    "model-1.safetensors": TENSORS,
    "model-2.safetensors": TENSORS,
}
PICTURES = {"pytorch_lora_weights.safetensors": TENSORS}
GGUF = b"GGUF" + struct.pack("<I", 3) + b"\0" * 16


def declared(kind: str) -> dict[str, bytes]:
    return {"sskai.json": Declaration(kind, "lora", "tiny", "messages").to_json()}


def published(objects: Objects, folder: Path, files: dict[str, bytes]) -> tuple[str, str]:
    """(URI, job) of these files as an attempt's result."""
    job_id = new_id("job")
    for name, content in files.items():
        path = folder / job_id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Checkpoints(objects, f"jobs/{job_id}", job_id, 1).publish(8, folder / job_id, {}).uri, job_id


@pytest.mark.parametrize(
    "files",
    [
        ADAPTER,
        ADAPTER | declared("adapter"),
        ADAPTER | {f"merged/{name}": content for name, content in WHOLE.items()} | {"gguf/bot.gguf": GGUF},
        WHOLE,
        SHARDED | declared("transformers"),
        PICTURES | declared("diffusers-lora"),
    ],
)
def test_each_kind_of_result_is_accepted(objects: Objects, tmp_path: Path, files: dict[str, bytes]) -> None:
    uri, job_id = published(objects, tmp_path, files)
    sha256, artifact_bytes = artifacts.verify(objects, uri, job_id)
    assert len(sha256) == 64
    assert artifact_bytes > 0
    kept = {info.key.removeprefix(objects.key(uri) + "/") for info in objects.list(objects.key(uri) + "/")}
    assert kept == {*files, "MANIFEST.json"}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"README.md": b"# bot"}, "adapter_config.json is missing"),
        (ADAPTER | declared("transformers"), "config.json is missing"),
        (WHOLE | declared("adapter"), "adapter_config.json is missing"),
        (WHOLE | declared("script"), "kind 'script' is not one of"),
        (WHOLE | {"sskai.json": b"[]"}, "not a JSON object"),
        (WHOLE | {"sskai.json": b"{"}, "not JSON"),
        (WHOLE | {"config.json": b"{}"}, "model_type"),
        ({"config.json": WHOLE["config.json"], "tokenizer.json": b"{}"}, "model.safetensors is missing"),
        ({"config.json": WHOLE["config.json"], "model.safetensors": TENSORS}, "tokenizer.json"),
        ({name: it for name, it in SHARDED.items() if name != "model-2.safetensors"}, "model-2.safetensors is named"),
        (SHARDED | {"model.safetensors.index.json": b"{}"}, "weight_map"),
        (PICTURES | {"pytorch_lora_weights.safetensors": b"\x80\x04pickle!!"}, "header of"),
        (ADAPTER | {"gguf/bot.gguf": b"\x80\x04pickle!!"}, "not GGUF"),
        (ADAPTER | {"merged/modeling.py": b"boom"}, "merged/modeling.py is refused"),
        (ADAPTER | {"merged/model.safetensors": b"boom"}, "merged/model.safetensors is too short"),
    ],
)
def test_what_is_no_result_is_refused(objects: Objects, tmp_path: Path, files: dict[str, bytes], why: str) -> None:
    uri, job_id = published(objects, tmp_path, files)
    with pytest.raises(ManifestError, match=why):
        artifacts.verify(objects, uri, job_id)


def test_a_document_that_is_too_long_is_not_read(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_DOCUMENT_BYTES", 10)
    uri, job_id = published(objects, tmp_path, WHOLE)
    with pytest.raises(ManifestError, match="over 10 bytes"):
        artifacts.verify(objects, uri, job_id)
