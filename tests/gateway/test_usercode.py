"""A model as code: what is refused at the door without running anything, how it is kept, and how a plan names it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from services.gateway import usercode
from services.gateway.jobfile import JobFile, JobFileError
from services.gateway.jobspec import to_spec
from services.gateway.values import Dataset, Model
from services.gateway.weights import RefusedError
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import House, job_file

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOOD: dict[str, bytes] = {
    "model.py": b"raise SystemExit('this is never run here')\n",
    "data.py": "# Daten für das Modell\n".encode(),
}


def zipped(**files: bytes | None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**GOOD, **files}.items():
            if content is not None:
                archive.writestr(name, content)
    return file.getvalue()


WEIGHTS = save({"a": np.ones(3, np.float32)})
REFUSED = [
    ({"model.py": None}, "model.py", "missing at the top of the zip"),
    ({"data.py": None, "mine/data.py": b""}, "data.py", "not the folder that holds them"),
    ({"model.py": b"\xff\xfe"}, "model.py", "not UTF-8 at byte 1"),
    ({"helper.py": b"x = 1\0"}, "helper.py", "NUL character"),
    ({"model.py": b"#" + bytes(range(65, 91)) * 50_000}, "model.py", "more than 1048576 bytes"),
    ({"weights.safetensors": b"PK"}, "weights.safetensors", "not safetensors"),
    ({"weights.safetensors": pickle.dumps({"a": [1]})}, "weights.safetensors", "pickle"),
    ({"weights.safetensors": WEIGHTS + b"more"}, "weights.safetensors", "the header speaks of 12 bytes"),
    ({"other.safetensors": WEIGHTS}, "other.safetensors", "from weights.safetensors at the top"),
    ({"model.bin": pickle.dumps({"a": [1]})}, "model.bin", "pickle"),
    ({"../model.py": b""}, "../model.py", "leads out"),
    ({"train.json": b"{"}, "train.json", "not JSON"),
    ({"train.json": b"[" * 100_000}, "train.json", "not JSON"),
    ({"train.json": b"[]"}, "train.json", "the document"),
    ({"train.json": b'{"loss": "focal"}'}, "train.json", "loss: Input should be 'cross_entropy'"),
    ({"train.json": b'{"optimiser": "adam"}'}, "train.json", "optimiser: Extra inputs"),
    *(
        ({"requirements.txt": line.encode()}, "requirements.txt", "write NAME or NAME==VERSION")
        for line in (
            "torch>=2",
            "git+https://example.com/x.git",
            "x @ https://example.com/x.zip",
            "--index-url https://example.com",
            "-e .",
            "-r more.txt",
            "./x.whl",
            "torch; python_version < '4'",
            "torch[extra]",
            "a==1 --hash=sha256:00",
        )
    ),
    ({"requirements.txt": b"a\n" * 201}, "requirements.txt", "201 packages"),
]


@pytest.mark.parametrize(("files", "name", "reason"), REFUSED)
def test_what_is_no_model_as_code_is_refused_by_its_file(files: dict[str, bytes], name: str, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason) as refused:
        usercode.check(io.BytesIO(zipped(**files)))
    assert refused.value.file == name


def test_a_model_as_code_is_known_by_its_content() -> None:
    files = {
        "requirements.txt": b"torch\nnumpy==2.4.6  # pinned\n\n# a remark\n",
        "weights.safetensors": WEIGHTS,
        "train.json": json.dumps({"loss": "mse", "optimizer": "sgd"}).encode(),
        "nested/values.csv": b"1,2\n",
    }
    content = zipped(**files)
    code = usercode.check(io.BytesIO(content))
    assert code.requirements == ("torch", "numpy==2.4.6")
    assert code.bytes == len(content)
    assert code == usercode.check(io.BytesIO(content))
    assert code.sha256 != usercode.check(io.BytesIO(zipped())).sha256


async def _upload(house: House, name: str, content: bytes, **options: Any) -> Any:
    return await house.ann.post("/v1/models", data={"name": name}, files={"code": ("code.zip", content)}, **options)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_model_as_code_is_kept_and_planned(house: House) -> None:
    content = zipped()
    answer = await _upload(house, "mine", content)
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert (model["id"], model["origin"], model["requirements"]) == ("mine@1", "code", [])
    again = await _upload(house, "mine", content)
    assert (again.status_code, again.json()["model_id"]) == (200, model["model_id"])
    other = await _upload(house, "mine", zipped(**{"train.json": b"{}"}))
    assert (other.status_code, other.json()["version"]) == (201, 2)

    house.world.settings.plan_wait_seconds = 0
    for reference in ({"artifact": "model://mine/1"}, {"base": "mine@1"}, {"base": model["model_id"]}):
        job = {"kind": "train", "name": "bot", "model": {**reference, "method": "scratch"}}
        planned = await house.ann.post("/v1/plans", json=job)
        assert planned.status_code == 202, planned.text
    told = await house.told(events.PlanRequested)
    assert len(told) == 3
    spec = told[-1].spec
    assert (spec.kind, spec.model.method, spec.model.config_json, spec.model.uri) == ("train", "scratch", "", "")
    assert not spec.HasField("dataset")
    key = house.world.objects.key(spec.model.code_uri)
    assert key.endswith(f"/code/{usercode.check(io.BytesIO(content)).sha256}.zip")
    assert house.world.objects.get_bytes(key) == content
    assert (await house.bob.get("/v1/models/mine")).status_code == 404


@pytest.mark.asyncio(loop_scope="session")
async def test_it_is_trained_again_from_a_trained_version_and_that_one_is_served(house: House) -> None:
    code = (await _upload(house, "mine", zipped())).json()
    job = {"kind": "train", "name": "bot", "model": {"artifact": "model://mine/1", "method": "scratch"}}
    answer = await house.ann.post("/v1/jobs", json=job)
    assert answer.status_code == 202, answer.text
    assert answer.json()["dataset"] is None
    assert (await house.ann.get("/v1/jobs")).json()["data"][0]["dataset"] is None
    (submitted,) = await house.told(events.JobSubmitted)
    ready = events.ModelVersionReady(
        model_id=f"model_of_{submitted.tenant_id}",
        tenant_id=submitted.tenant_id,
        version=1,
        name="bot",
        job_id=answer.json()["id"],
        base_model_id=code["model_id"],
        method="scratch",
        artifact_uri="s3://b/jobs/job_1/artifact/attempt-00001",
        ready_at=timestamp(NOW),
    )
    await house.bus.publish(ready)
    await house.bus.settle()
    again = await house.ann.post("/v1/jobs", json={**job, "model": {"artifact": "model://bot/1", "method": "scratch"}})
    assert again.status_code == 202, again.text
    first, second = (each.spec.model for each in await house.told(events.JobSubmitted))
    assert (first.uri, second.uri) == ("", ready.artifact_uri)
    assert (first.model_id, first.code_uri) == (second.model_id, second.code_uri)
    assert [each.spec.resources.nodes for each in await house.told(events.JobSubmitted)] == ["1..8", "1..8"]
    refused = await house.ann.post("/v1/endpoints", json={"name": "mine", "model": "mine@1"})
    assert (refused.status_code, refused.json()["field"]) == (422, "model")
    assert "is code: train it, and serve the version that comes of it" in refused.json()["detail"]
    spot = await house.ann.post("/v1/endpoints", json={"name": "mine", "model": "bot@1", "kind": "spot"})
    assert spot.status_code == 422
    assert "is code: it is served without replicas" in spot.json()["detail"]
    served = await house.ann.post("/v1/endpoints", json={"name": "mine", "model": "bot@1"})
    assert served.status_code == 202, served.text
    (requested,) = await house.told(events.EndpointRequested)
    assert (requested.artifact_uri, requested.version) == (ready.artifact_uri, 1)
    await house.dataset(house.ann)
    for model in ("mine@1", "bot@1"):
        tuned = await house.ann.post("/v1/jobs", json=job_file(model={"base": model}))
        assert (tuned.status_code, tuned.json()["field"]) == (422, "kind")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_refused_upload_leaves_nothing(house: House) -> None:
    answer = await _upload(house, "evil", zipped(**{"weights.bin": pickle.dumps({"a": [1]})}))
    assert answer.status_code == 422
    assert answer.json()["file"] == "weights.bin"
    assert "evil" not in (await house.ann.get("/v1/models")).text
    assert (await _upload(house, "qwen3-8b", zipped())).status_code == 409
    both = await house.ann.post(
        "/v1/models", data={"name": "x"}, files=[("code", ("c.zip", zipped())), ("files", ("config.json", b"{}"))]
    )
    assert (both.status_code, both.json()["field"]) == (422, "code")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_name_means_models_of_one_kind(house: House) -> None:
    assert (await _upload(house, "mine", zipped())).status_code == 201
    config = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
    files = {"config.json": config, "tokenizer.json": b"{}", "model.safetensors": WEIGHTS}
    uploaded = [("files", item) for item in files.items()]
    assert (await house.ann.post("/v1/models", data={"name": "mine"}, files=uploaded)).status_code == 409
    assert (await house.ann.post("/v1/models", data={"name": "plain"}, files=uploaded)).status_code == 201
    assert (await _upload(house, "plain", zipped())).status_code == 409


@pytest.mark.asyncio(loop_scope="session")
async def test_sent_twice_under_one_key_it_is_kept_once(house: House) -> None:
    headers = {"Idempotency-Key": "code"}
    first, second = [await _upload(house, "mine", zipped(), headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    other = await _upload(house, "mine", zipped(**{"train.json": b"{}"}), headers=headers)
    assert other.status_code == 422


CODE = Model("model_1", "mine", 1, "code", "model_1", "s3://b/k.zip", "", "", True, NOW)
BUILTIN = Model("base", "base", 0, "builtin", "base", "builtin://base", "", "{}", True, NOW)
DATASET = Dataset("dataset_1", "tenant_a", "support", 3, "s3://b/k", "messages", 100, 1000, "ab", 50, NOW)
SCRATCH = {"base": "mine", "method": "scratch"}


@pytest.mark.parametrize(
    ("fields", "model", "dataset", "field"),
    [
        ({"kind": "train", "model": SCRATCH}, BUILTIN, None, "kind"),
        ({"kind": "finetune", "model": SCRATCH, "dataset": {"uri": "support"}}, CODE, DATASET, "kind"),
        ({"kind": "train", "model": {"base": "mine"}}, CODE, None, "model.method"),
        ({"kind": "train", "model": SCRATCH, "dataset": {"uri": "support"}}, CODE, DATASET, "dataset"),
        ({"model": {"base": "base"}}, BUILTIN, None, "dataset"),
    ],
)
def test_kind_model_and_dataset_fit_each_other(
    fields: dict[str, Any], model: Model, dataset: Dataset | None, field: str
) -> None:
    with pytest.raises(JobFileError) as refused:
        to_spec(JobFile.model_validate({"name": "bot", **fields}), model, dataset, NOW)
    assert refused.value.field == field
