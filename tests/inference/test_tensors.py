"""The service as a process, asked by the Open Inference Protocol: image classifiers and the examples of models as code,
from artefacts in a real object store."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.testing import wait_for
from tests import tiny_images
from tests.inference import own_models
from tests.inference.artefacts import publish
from tests.inference.own_models import MODEL
from tests.inference.process import TENANT, TOKEN, InferenceProcess

pytestmark = pytest.mark.timeout(600)
HEADERS = {"X-SSKAI-Tenant": TENANT, "X-SSKAI-Internal": TOKEN}


async def post(service: InferenceProcess, path: str, **given: Any) -> httpx2.Response:
    headers = {**HEADERS, **given.pop("headers", {})}
    async with httpx2.AsyncClient(timeout=120) as client:
        return await client.post(service.url + path, headers=headers, **given)


async def infer(service: InferenceProcess, name: str, *inputs: dict[str, Any]) -> httpx2.Response:
    return await post(service, f"/v2/models/{name}/infer", json={"inputs": list(inputs)})


def array(values: Any, datatype: str = "FP32", name: str = "input") -> dict[str, Any]:
    return {"name": name, "shape": list(np.shape(values)), "datatype": datatype, "data": values}


async def deploy(process: InferenceProcess, objects: Objects, name: str, folder: Path, **more: Any) -> str:
    artefact = publish(objects, folder, f"jobs/job_{name}/artifact/attempt-00001")
    # A model's process imports torch, on a machine that may be busy.
    return await process.deploy(name, artifact_uri=artefact.uri, limit_seconds=300, **more)


@pytest.mark.parametrize(
    ("name", "datatype"), [("tabular-regressor", "FP32"), ("image-classifier", "FP32"), ("tiny-transformer", "INT64")]
)
async def test_an_example_is_served(
    process: InferenceProcess, objects: Objects, tmp_path: Path, name: str, datatype: str
) -> None:
    known = own_models.build_example(name, tmp_path / name)
    await deploy(process, objects, name, tmp_path / name)
    about = (await process.get(f"/v2/models/{name}")).json()
    (given,), (gives,) = about["inputs"], about["outputs"]
    assert (given["name"], given["datatype"], given["shape"][0]) == ("input", datatype, -1)
    assert (await process.get(f"/v2/models/{name}/ready")).json() == {"name": name, "ready": True}

    answer = await infer(process, name, array(known["inputs"], datatype))
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["datatype"], len(output["shape"])) == ("output", "FP32", len(gives["shape"]))
    found = np.array(output["data"]).reshape(output["shape"])
    np.testing.assert_allclose(found, np.array(known["outputs"]), atol=1e-5)

    wrong = await infer(process, name, array(known["inputs"], "FP64"))
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "inputs.0.datatype")
    chat = await post(process, "/v1/completions", json={"model": name, "prompt": "Hello"})
    assert chat.status_code == 400
    assert "use /v2/models/NAME/infer" in chat.json()["error"]["message"]


async def test_a_mistake_of_the_user_is_theirs_and_an_end_of_the_process_is_mended(
    process: InferenceProcess, objects: Objects, tmp_path: Path
) -> None:
    lines = "        if x[0, 0] == 7: raise ValueError('seven')\n        if x[0, 0] == 8: __import__('os')._exit(3)\n"
    model = MODEL.replace("        return", f"{lines}        return")
    await deploy(process, objects, "own", own_models.write(tmp_path / "own", model=model))
    good = array([[1.0, 2, 3]])
    assert (await infer(process, "own", good)).json()["outputs"][0]["data"] == [3, 6, 9]
    mistake = await infer(process, "own", array([[7.0, 0, 0]]))
    error = mistake.json()["error"]
    assert (mistake.status_code, error["param"], error["code"]) == (400, "inputs", "model_refused")
    assert "model.py, line 11: ValueError: seven" in error["message"]
    ended = await infer(process, "own", array([[8.0, 0, 0]]))
    assert (ended.status_code, ended.json()["error"]["code"]) == (500, "engine_error")
    assert "ended by itself with code 3" in ended.json()["error"]["message"]
    assert (await infer(process, "own", good)).json()["outputs"][0]["data"] == [3, 6, 9]
    unknown = await post(process, "/v2/models/own/infer", json={"inputs": [good], "outputs": [{"name": "probability"}]})
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "outputs.0.name")


async def test_one_that_cannot_be_built_fails_with_file_and_line(
    process: InferenceProcess, objects: Objects, tmp_path: Path
) -> None:
    broken = own_models.write(tmp_path / "broken", model="import nothing_like_it\n" + MODEL)
    artefact = publish(objects, broken, "jobs/job_broken/artifact/attempt-00001")
    await process.publish(
        events.EndpointRequested(
            endpoint_id="end_broken",
            tenant_id=TENANT,
            name="broken",
            kind="serverless",
            model_id="model_broken",
            version=1,
            base_model_id="code",
            base_uri="s3://elsewhere/code.zip",
            artifact_uri=artefact.uri,
        )
    )
    told: list[Any] = []

    async def failed() -> bool:
        told[:] = await process.told(events.EndpointFailed, "end_broken")
        return bool(told)

    await wait_for(failed, limit_seconds=300)
    assert told[0].reason.startswith("unusable-weights: the model cannot be built: model.py, line 1: ModuleNotFound")
    refused = await infer(process, "broken", array([[1.0, 2, 3]]))
    assert refused.status_code == 409
    assert "model.py, line 1: ModuleNotFoundError" in refused.json()["error"]["message"]


async def test_pictures_are_classified(process: InferenceProcess, objects: Objects, tmp_path: Path) -> None:
    folder = tiny_images.build(tmp_path / "vit")
    await deploy(process, objects, "flowers", folder)
    files = [tiny_images.picture("rows", 1), tiny_images.picture("columns", 2, form="JPEG")]
    about = (await process.get("/v2/models/flowers")).json()
    assert about["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert about["parameters"]["labels"] == [f"LABEL_{number}" for number in range(5)]

    image = {"name": "image", "shape": [2], "datatype": "BYTES", "data": [b64encode(one).decode() for one in files]}
    answer = await infer(process, "flowers", image)
    assert answer.status_code == 200, answer.text
    outputs = {one["name"]: one for one in answer.json()["outputs"]}
    assert outputs["probabilities"]["shape"] == [2, 5]
    assert sum(outputs["probabilities"]["data"]) == pytest.approx(2)

    raw = b"".join(len(one).to_bytes(4, "little") + one for one in files)
    head = json.dumps({"inputs": [{**image, "data": None, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    binary = await post(
        process,
        "/v2/models/flowers/infer",
        content=head + raw,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert binary.json()["outputs"] == answer.json()["outputs"]

    wrong = await infer(process, "flowers", {**image, "data": [image["data"][0], b64encode(b"GIF89a").decode()]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "inputs.0.data.1")


def test_code_is_let_in_with_a_model_as_code_alone(tmp_path: Path) -> None:
    from services.inference import manifests

    folder = own_models.write(tmp_path / "own")
    names = {path.name for path in folder.iterdir()}
    manifests.check_names(names)
    assert manifests.kind_of(lambda name: (folder / name).read_bytes(), names) == "own-model"
    with pytest.raises(manifests.ManifestError, match=r"data.py, model.py is refused"):
        manifests.check_no_code(names)
    (folder / "sskai.json").write_text('{"kind": "transformers"}')
    with pytest.raises(manifests.ManifestError, match="holds no code"):
        manifests.kind_of(lambda name: (folder / name).read_bytes(), names)
    shutil.rmtree(folder)
