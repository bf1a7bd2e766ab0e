"""Text-to-image pipelines: which files are one, by tables; the upload through the API, and what may be asked of it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway import pipelines
from services.gateway.weights import RefusedError
from sskai.client import Client
from sskai.client.documents import Model
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests import tiny_diffusion
from tests.gateway.conftest import House

Files = dict[str, bytes]
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_diffusion.build(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture
def files(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_diffusers_saves_is_a_pipeline(files: Files) -> None:
    pipelines.check_names(files)
    config = json.loads(pipelines.read_config(lambda name: dict(json.loads(files[name]))))
    assert config["_class_name"] == "StableDiffusionPipeline"
    assert config["unet"]["sample_size"] == tiny_diffusion.SIDE // 2
    assert config["tokenizer"] == {"model_max_length": 16}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unet/diffusion_pytorch_model.bin", "not a file of a pipeline"),
        ("unet/diffusion_pytorch_model.fp16.safetensors", "not a file of a pipeline"),
        ("unet/unet.py", "not a file of a pipeline"),
        ("unet/more/config.json", "no part"),
        ("unet/../config.json", "no part"),
        ("../unet/config.json", "no part"),
        ("safety_checker/model.safetensors", "no part"),
        ("scheduler/model.safetensors", "not a file of a pipeline"),
        ("pipeline.py", "no part"),
    ],
)
def test_a_file_that_is_of_no_pipeline_is_named(files: Files, name: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason) as caught:
        pipelines.check_names([*files, name])
    assert caught.value.file == name


@pytest.mark.parametrize(
    "name",
    [
        UNET,
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/tokenizer.json",
    ],
)
def test_a_file_that_is_missing_is_named(files: Files, name: str) -> None:
    with pytest.raises(RefusedError, match="missing") as caught:
        pipelines.check_names(files.keys() - {name})
    assert caught.value.file == name


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "only a StableDiffusionPipeline"),
        ("model_index.json", {"_class_name": ["evil", "Pipeline"]}, "only a StableDiffusionPipeline"),
        ("model_index.json", {"unet": ["evil", "UNet2DConditionModel"]}, "unet is .*evil"),
        ("model_index.json", {"scheduler": ["evil", "Scheduler"]}, "scheduler is .*evil"),
        ("model_index.json", {"text_encoder": ["transformers", "T5EncoderModel"]}, "CLIPTextModel"),
        ("model_index.json", {"vae": None}, "vae is null"),
        ("unet/config.json", {"sample_size": [64, 96]}, "sample_size"),
        ("unet/config.json", {"sample_size": True}, "sample_size"),
        ("unet/config.json", {"sample_size": 10**6}, "sample_size"),
        ("unet/config.json", {"in_channels": 9}, "inpainting"),
        ("unet/config.json", {"cross_attention_dim": 1024}, "hidden_size is 16"),
        ("unet/config.json", {"filler": "x" * 70_000}, "at most"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**30}, "model_max_length"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "epsilon or v_prediction"),
    ],
)
def test_parts_have_to_fit(files: Files, name: str, changes: dict[str, Any], reason: str) -> None:
    files[name] = json.dumps({**json.loads(files[name]), **changes}).encode()
    with pytest.raises(RefusedError, match=reason):
        pipelines.read_config(lambda name: dict(json.loads(files[name])))


def form(files: Files) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", item) for item in files.items()]


async def upload(client: httpx2.AsyncClient, files: Files, name: str = "painter") -> httpx2.Response:
    return await client.post("/v1/models", data={"name": name}, files=form(files))


async def upload_data(client: httpx2.AsyncClient, name: str, content: bytes) -> None:
    answer = await client.post(
        "/v1/datasets", params={"name": name}, content=content, headers={"Content-Type": "application/zip"}
    )
    assert answer.status_code == 201, answer.text


def in_classes() -> bytes:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(tiny_diffusion.dataset(4))) as drawn,
        zipfile.ZipFile(out, "w") as archive,
    ):
        for number in range(4):
            archive.writestr(f"class-{number % 2}/{number}.png", drawn.read(f"pictures/{number}.png"))
    return out.getvalue()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_pipeline_is_kept_listed_and_can_be_trained(house: House, files: Files) -> None:
    import safetensors

    answer = await upload(house.ann, files)
    assert answer.status_code == 201, answer.text
    model = answer.json()
    weights = [safetensors.deserialize(content) for name, content in files.items() if name.endswith(".safetensors")]
    elements = sum(len(tensor["data"]) // 4 for part in weights for _, tensor in part)  # all are float32
    assert (model["id"], model["task"], model["parameters"]) == ("painter@1", "text-to-image", elements)
    assert model["context_tokens"] is None
    assert model["bytes"] == sum(map(len, files.values()))
    assert model in (await house.ann.get("/v1/models")).json()["data"]
    prefix = f"models/{model['model_id']}/"
    kept = {info.key.removeprefix(prefix) for info in house.world.objects.list(prefix)}
    assert kept == files.keys()

    await upload_data(house.ann, "stripes", tiny_diffusion.dataset())
    await house.job(house.ann, name="striped", model={"base": "painter@1"}, dataset={"uri": "dataset://stripes/1"})
    (submitted,) = await house.told(events.JobSubmitted)
    assert submitted.spec.dataset.format == "text-to-image"
    assert json.loads(submitted.spec.model.config_json)["_class_name"] == "StableDiffusionPipeline"
    assert submitted.spec.model.alpha == submitted.spec.model.rank, "what diffusers takes for it"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_job_that_does_not_fit_names_its_field(house: House, files: Files) -> None:
    assert (await upload(house.ann, files)).status_code == 201
    await upload_data(house.ann, "stripes", tiny_diffusion.dataset())
    await upload_data(house.ann, "sorted", in_classes())
    await house.dataset(house.ann, "talk")
    pipeline, pictures = {"base": "painter@1"}, {"uri": "dataset://stripes/1"}
    for changes, field in (
        ({"dataset": {"uri": "dataset://sorted/1"}}, "dataset.uri"),
        ({"dataset": {"uri": "dataset://talk/1"}}, "dataset.uri"),
        ({"model": {"base": "tiny-llama"}}, "model.base"),
        ({"model": {**pipeline, "method": "full"}}, "model.method"),
        ({"model": {**pipeline, "method": "qlora"}}, "model.method"),
        ({"export": ["gguf"]}, "export"),
        ({"hyperparameters": {"packing": True}}, "hyperparameters.packing"),
    ):
        asked = {"name": "striped", "model": pipeline, "dataset": pictures, **changes}
        for path in ("/v1/jobs", "/v1/plans"):
            answer = await house.ann.post(path, json=asked)
            assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


@pytest.mark.asyncio(loop_scope="session")
async def test_a_pipeline_and_a_version_of_it_are_served_without_replicas(house: House, files: Files) -> None:
    painter = (await upload(house.ann, files)).json()
    tenant_id = (await house.ann.get("/v1/keys")).json()["data"][0]["tenant_id"]
    version = events.ModelVersionReady(
        model_id=f"model_of_{tenant_id}",
        tenant_id=tenant_id,
        version=1,
        name="striped",
        base_model_id=painter["model_id"],
        base_uri=house.world.objects.uri(f"models/{painter['model_id']}"),
        method="lora",
        artifact_uri="s3://bucket/striped/1",
        ready_at=timestamp(datetime(2026, 11, 24, 12, tzinfo=UTC)),
    )
    await house.bus.publish(version)
    await house.bus.settle()
    for asked in (
        {"name": "drawing", "model": "painter@1"},
        {"name": "stripes", "model": "striped@1", "kind": "serverless"},
        {"name": "trying", "model": "painter@1", "canary": "striped@1"},
    ):
        made = await house.ann.post("/v1/endpoints", json=asked)
        assert made.status_code == 202, made.text
    drawing, stripes, trying = await house.told(events.EndpointRequested)
    assert (drawing.kind, drawing.version, drawing.artifact_uri) == ("adapter", 0, "")
    assert (stripes.kind, stripes.version, stripes.artifact_uri) == ("serverless", 1, "s3://bucket/striped/1")
    assert trying.base_uri == drawing.base_uri
    assert stripes.base_uri == version.base_uri
    (canary,) = await house.told(events.EndpointTrafficRequested)
    assert canary.artifact_uri == "s3://bucket/striped/1"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_pipeline_has_no_replicas(house: House, files: Files) -> None:
    assert (await upload(house.ann, files)).status_code == 201
    endpoint = {"name": "drawing", "model": "painter@1", "kind": "spot"}
    traffic = {"requests_per_day": 10, "input_tokens_per_request": 10, "output_tokens_per_request": 10}
    plan = {"kind": "endpoint", "name": "drawing", "model": {"base": "painter@1"}, "traffic": traffic}
    for path, asked in (("/v1/endpoints", endpoint), ("/v1/plans", plan)):
        answer = await house.ann.post(path, json=asked)
        assert answer.status_code == 422, answer.text
        assert "served without replicas, as kind adapter or serverless" in answer.text


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("name", [UNET, "tokenizer/tokenizer.json", "model_index.json"])
async def test_a_pickle_in_any_part_is_never_kept(house: House, files: Files, name: str) -> None:
    answer = await upload(house.ann, {**files, name: pickle.dumps({"weights": [1]})})
    assert (answer.status_code, answer.json()["file"]) == (422, name)
    assert "pickle" in answer.json()["reason"]
    assert "painter" not in (await house.ann.get("/v1/models")).text


@pytest.mark.asyncio(loop_scope="session")
async def test_the_client_sends_the_parts_alone(house: House, folder: Path, files: Files, tmp_path: Path) -> None:
    import asyncio
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "safety_checker").mkdir()
    (copy / "safety_checker" / "model.safetensors").write_bytes(b"large")
    (copy / "README.md").write_text("A model.")
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")

    def send() -> Model:
        with Client(house.url, key) as client:
            return client.models.upload(copy, name="painter")

    model = await asyncio.to_thread(send)
    assert (model["task"], model["bytes"]) == ("text-to-image", sum(map(len, files.values())))
