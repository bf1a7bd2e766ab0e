"""What is a model, by tables; and the upload through the API."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from services.gateway.weights import RefusedError, check_file, check_names, read_config
from sskai.events import v1 as events
from tests.gateway.conftest import House

CONFIG = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64}).encode()
WEIGHTS = save({"a": np.zeros((2, 3), np.float32), "b": np.ones(5, np.float16)}, {"format": "pt"})


def raw(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return buffer.getvalue()


REFUSED = [
    ("model.safetensors", pickle.dumps({"weights": [1]}), "pickle"),
    ("model.safetensors", pickle.dumps({"weights": [1]}, protocol=2), "pickle"),
    ("model.safetensors", zipped(), "pickle"),
    ("tokenizer.json", pickle.dumps({}), "pickle"),
    ("merges.txt", zipped(), "pickle"),
    ("model.safetensors", b"", "no length"),
    ("model.safetensors", b"\x01\x02", "no length"),
    ("model.safetensors", raw({}, length=10**15), "no length"),
    ("model.safetensors", raw({}, length=500), "no length"),
    ("model.safetensors", raw(b"not json"), "not JSON"),
    ("model.safetensors", raw([]), "not a JSON object"),
    ("model.safetensors", raw({}), "no tensors"),
    ("model.safetensors", raw({"a": entry()}, b"123"), "4 bytes of tensors, the file has 3"),
    ("model.safetensors", raw({"a": entry()}, b"12345"), "4 bytes of tensors, the file has 5"),
    ("model.safetensors", raw({"a": entry(offsets=(4, 8))}, b"12345678"), "gaps"),
    ("model.safetensors", raw({"a": entry(), "b": entry()}, b"1234"), "overlap"),
    ("model.safetensors", raw({"a": entry(shape=(2,))}, b"1234"), "do not fit"),
    ("model.safetensors", raw({"a": entry(shape=(-1,))}, b"1234"), "do not fit"),
    ("model.safetensors", raw({"a": entry(shape=(1.0,))}, b"1234"), "do not fit"),
    ("model.safetensors", raw({"a": entry(shape=[1] * 100)}, b"1234"), "do not fit"),
    ("model.safetensors", raw({"a": entry(dtype="PICKLE")}, b"1234"), "do not fit"),
    ("model.safetensors", raw({"a": entry(offsets=(0,))}, b"1234"), "do not fit"),
    ("model.safetensors", raw({"a": entry(offsets=(4, 0))}, b"1234"), "do not fit"),
    ("model.safetensors", raw({"a": None}, b"1234"), "do not fit"),
    ("config.json", b"[]", "not a JSON object"),
    ("config.json", b"\xff", "not UTF-8"),
    ("tokenizer.json", b"{" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("name", "content", "reason"), REFUSED)
def test_what_is_no_model_is_refused_by_its_content(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        check_file(name, io.BytesIO(content), len(content))


@pytest.mark.parametrize(("name", "content"), [("model.safetensors", WEIGHTS), ("config.json", CONFIG)])
def test_what_the_libraries_write_is_accepted(name: str, content: bytes) -> None:
    check_file(name, io.BytesIO(content), len(content))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "not a file of a model"),
        (["config.json", "tokenizer.json", "../model.safetensors"], "not a file of a model"),
        (["config.json", "tokenizer.json", "modeling_llama.py"], "not a file of a model"),
        (["config.json", "config.json", "tokenizer.json", "model.safetensors"], "twice"),
        (["tokenizer.json", "model.safetensors"], r"config\.json: missing"),
        (["config.json", "model.safetensors"], r"tokenizer\.json: missing, and so is preprocessor_config\.json"),
        (["config.json", "tokenizer.json"], r"model\.safetensors: missing"),
    ],
)
def test_the_set_of_files_has_to_be_a_model(names: list[str], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        check_names(names)


def test_a_classifier_of_pictures_has_no_tokenizer() -> None:
    check_names(["config.json", "preprocessor_config.json", "model.safetensors"])
    asks = json.dumps({"auto_map": {"AutoImageProcessor": "evil.Processor"}}).encode()
    with pytest.raises(RefusedError, match="never run"):
        check_file("preprocessor_config.json", io.BytesIO(asks), len(asks))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "x", "architectures": [], "auto_map": {"AutoModel": "evil.Model"}}, "never run"),
        ({"architectures": ["X"]}, "model_type"),
        ({"model_type": "x", "architectures": ["X"], "filler": "x" * 70_000}, "the limit"),
    ],
)
def test_a_configuration_asks_for_no_code(config: dict[str, Any], reason: str) -> None:
    content = json.dumps(config).encode()
    with pytest.raises(RefusedError, match=reason):
        read_config(io.BytesIO(content), len(content))


def form(**contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    files = {"config.json": CONFIG, "tokenizer.json": b"{}", "model.safetensors": WEIGHTS, **contents}
    return [("files", item) for item in files.items()]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_model_of_ones_own_is_kept_and_can_be_trained(house: House) -> None:
    answer = await house.ann.post("/v1/models", data={"name": "mine"}, files=form())
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert (model["id"], model["origin"], model["available"]) == ("mine@1", "uploaded", True)
    assert house.world.objects.get_bytes(f"models/{model['model_id']}/model.safetensors") == WEIGHTS
    job = await house.job(house.ann, model={"artifact": "model://mine/1"})
    (submitted,) = await house.told(events.JobSubmitted)
    assert submitted.spec.model.uri == f"s3://{house.world.objects.bucket}/models/{model['model_id']}"
    assert job["model"] == model["model_id"]
    assert (await house.bob.get("/v1/models/mine")).status_code == 404


@pytest.mark.asyncio(loop_scope="session")
async def test_a_pickle_is_never_kept(house: House) -> None:
    disguised = form(**{"model.safetensors": pickle.dumps({"weights": [1]})})
    answer = await house.ann.post("/v1/models", data={"name": "evil"}, files=disguised)
    assert answer.status_code == 422
    assert answer.json()["file"] == "model.safetensors"
    assert "evil" not in (await house.ann.get("/v1/models")).text
    taken = await house.ann.post("/v1/models", data={"name": "qwen3-8b"}, files=form())
    assert taken.status_code == 409


@pytest.mark.asyncio(loop_scope="session")
async def test_a_model_sent_twice_under_one_key_is_kept_once(house: House) -> None:
    headers = {"Idempotency-Key": "model"}
    first, second = [
        await house.ann.post("/v1/models", data={"name": "mine"}, files=form(), headers=headers) for _ in range(2)
    ]
    assert first.json() == second.json()
    assert len(house.world.objects.list(f"models/{first.json()['model_id']}/")) == 3
