"""What a manifest is, and what it refuses."""

from __future__ import annotations

import json
import struct

import pytest

from services.trainer import manifests
from services.trainer.manifests import FileEntry, Manifest, ManifestError

FILES = {
    "adapter_config.json": FileEntry(2, "aa"),
    "adapter_model.safetensors": FileEntry(8, "bb"),
    "README.md": FileEntry(3, "cc"),
}


def manifest(**changes: object) -> Manifest:
    values = {
        "kind": "artifact",
        "job_id": "job_1",
        "attempt": 2,
        "step": 30,
        "created_at": "2026-11-24T03:00:00+00:00",
        "files": FILES,
        "versions": {"torch": "2.13"},
    }
    return Manifest(**(values | changes))


def test_a_manifest_survives_json() -> None:
    assert Manifest.from_json(manifest().to_json()) == manifest()
    assert manifest().total_bytes == 13
    nested = manifest(
        files={**FILES, "merged/model.safetensors": FileEntry(4, "dd"), "gguf/bot.gguf": FileEntry(4, "e")}
    )
    assert Manifest.from_json(nested.to_json()) == nested


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"{}", "not a manifest"),
        (manifest().to_json().replace(b"sskai.manifest/1", b"sskai.manifest/9"), "format"),
        (manifest(files={"../x.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={"/a.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={"a//b.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={"a/../../b.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={"a\\..\\b.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={"C:b.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={"a/b/c/d.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={"a.json": FileEntry(1, "a"), "a.json/b": FileEntry(1, "a")}).to_json(), "is a file"),
        (manifest(files={"MANIFEST.json": FileEntry(1, "a")}).to_json(), "plain file name"),
        (manifest(files={f"{n}.json": FileEntry(1, "a") for n in range(1001)}).to_json(), "over 1000"),
        (manifest().to_json()[:-20], "not a manifest"),
    ],
)
def test_broken_manifests_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    ("changes", "present", "why"),
    [
        ({"kind": "checkpoint"}, FILES, "not the artifact"),
        ({"job_id": "job_2"}, FILES, "not the artifact"),
        ({"files": {**FILES, "evil.pkl": FileEntry(1, "dd")}}, [*FILES, "evil.pkl"], "evil.pkl is refused"),
        ({"files": {**FILES, "model.bin": FileEntry(1, "dd")}}, [*FILES, "model.bin"], "model.bin is refused"),
        ({}, [*FILES, "setup.py"], "setup.py is not named"),
    ],
)
def test_unsafe_or_foreign_artefacts_are_refused(changes: dict[str, object], present: list[str], why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        manifests.check_artifact(manifest(**changes), present, job_id="job_1")


def test_a_good_artefact_passes() -> None:
    manifests.check_artifact(manifest(), [*FILES, "MANIFEST.json"], job_id="job_1")


@pytest.mark.parametrize(("found", "why"), [(FileEntry(3, "aa"), "3 bytes"), (FileEntry(2, "ab"), "SHA-256")])
def test_a_changed_file_is_seen(found: FileEntry, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        manifests.check_file("adapter_config.json", found, manifest())


def safetensors(tensors: object, data_bytes: int) -> tuple[bytes, int]:
    header = json.dumps(tensors).encode()
    whole = struct.pack("<Q", len(header)) + header
    return whole, len(whole) + data_bytes


def test_safetensors_are_read_without_torch() -> None:
    header, size = safetensors({"a": {"data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}, 8)
    manifests.check_safetensors("a.safetensors", header, size)


@pytest.mark.parametrize(
    ("header", "size", "why"),
    [
        (b"", 0, "too short"),
        (b"\x80\x04pickle!!", 10, "header of"),
        (*safetensors({"a": {"data_offsets": [0, 8]}}, 9), "end elsewhere"),
        (*safetensors(["a"], 0), "not safetensors"),
        (*safetensors({"a": {}}, 0), "not safetensors"),
    ],
)
def test_what_is_no_safetensors_is_refused(header: bytes, size: int, why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        manifests.check_safetensors("a.safetensors", header, size)


@pytest.mark.parametrize(
    "config",
    [b"", b"[]", b"{}", b'{"r": 0, "base_model_name_or_path": "x"}', b'{"r": 8, "base_model_name_or_path": ""}'],
)
def test_an_adapter_names_its_rank_and_base(config: bytes) -> None:
    with pytest.raises(ManifestError, match=r"adapter_config\.json"):
        manifests.check_adapter_config(config)
