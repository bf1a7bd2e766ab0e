"""Figures for MLflow, told to a small server that speaks its REST API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.trainer import tracking
from services.trainer.tracking import Server, Tracking
from sskai.objects import Objects
from sskai.testing import wait_for
from tests.trainer.attempts import Ends, KilledError, run
from tests.trainer.pods import Job, curve


class Mlflow:
    """Experiments and runs in memory."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.batches = 0
        self.authorizations: set[str | None] = set()
        self.broken = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, given: dict[str, Any]) -> None:
                outer.authorizations.add(self.headers["Authorization"])
                call = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
                document = None if outer.broken else outer.answer(call, given)
                content = json.dumps(document or {}).encode()
                self.send_response(500 if outer.broken else 404 if document is None else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, call: str, given: dict[str, Any]) -> dict[str, Any] | None:
        if call == "experiments/get-by-name":
            found = self.experiments.get(given["experiment_name"][0])
            return None if found is None else {"experiment": {"experiment_id": found}}
        if call == "experiments/create":
            self.experiments[given["name"]] = str(len(self.experiments) + 1)
            return {"experiment_id": self.experiments[given["name"]]}
        if call == "runs/search":
            job = given["filter"].split("'")[1]
            assert given["filter"] == f"tags.`sskai.job` = '{job}'"
            ids = [key for key, it in self.runs.items() if {"key": "sskai.job", "value": job} in it["tags"]]
            return {"runs": [{"info": {"run_id": key}} for key in ids[: given["max_results"]]]}
        if call == "runs/create":
            key = f"run{len(self.runs)}"
            self.runs[key] = {**given, "status": "RUNNING", "metrics": [], "params": []}
            return {"run": {"info": {"run_id": key}}}
        if call == "runs/update":
            self.runs[given["run_id"]].update(given)
            return {}
        assert call == "runs/log-batch"
        self.batches += 1
        assert len(given.get("metrics", [])) <= 1000
        assert len(given.get("params", [])) <= 100
        for kind in ("metrics", "params"):
            self.runs[given["run_id"]][kind] += given.get(kind, [])
        return {}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mlflow() -> Iterator[Mlflow]:
    server = Mlflow()
    yield server
    server.close()


def values(run: dict[str, Any], key: str) -> dict[int, float]:
    return {it["step"]: it["value"] for it in run["metrics"] if it["key"] == key}


@pytest.mark.usefixtures("torch_as_before")
def test_all_attempts_of_a_job_tell_one_run(objects: Objects, models_dir: Path, tmp_path: Path, mlflow: Mlflow) -> None:
    began = time.monotonic()
    job = Job(objects, models_dir, total_steps=8)
    job.spec.env["MLFLOW_TRACKING_URI"] = mlflow.uri
    job.spec.env["MLFLOW_EXPERIMENT_NAME"] = "support"
    job.spec.env["MLFLOW_TRACKING_TOKEN"] = "secret"
    with pytest.raises(KilledError):
        run(job.settings(1), objects, tmp_path / "1", Ends(17))
    (told,) = mlflow.runs.values()
    assert told["status"] == "FAILED"
    run(job.settings(2), objects, tmp_path / "2")
    (told,) = mlflow.runs.values()
    assert mlflow.experiments == {"support": "1"}
    assert (told["status"], told["run_name"]) == ("FINISHED", "support-bot")
    assert mlflow.authorizations == {"Bearer secret"}
    assert values(told, "loss") == dict(enumerate(curve(tmp_path / "2"), start=1))
    assert set(values(told, "eval_loss")) == {0, 8}
    params = {it["key"]: it["value"] for it in told["params"]}
    assert (params["rank"], params["base"]) == ("4", "tiny")
    ends = 2 * 3  # an attempt's first, its last, and those of its evaluations come at once
    assert mlflow.batches <= time.monotonic() - began + ends, "one a second"


@pytest.mark.usefixtures("torch_as_before")
def test_a_classifier_tells_its_accuracy(objects: Objects, models_dir: Path, tmp_path: Path, mlflow: Mlflow) -> None:
    """A new model of the base's shape, with a head for as many classes as the data has."""
    labels = ["back", "now", "soon"]
    rows = [{"text": f"I want order {number} {label}", "label": label} for number in range(10) for label in labels]
    job = Job(objects, models_dir, rows, total_steps=40, learning_rate=3e-3)
    job.spec.env["MLFLOW_TRACKING_URI"] = mlflow.uri
    job.spec.model.method = "scratch"
    job.spec.dataset.format = "classification"
    job.spec.dataset.labels.extend(labels)
    job.spec.dataset.eval_fraction = 0.3
    run(job.settings(), objects, tmp_path)
    (told,) = mlflow.runs.values()
    accuracy = values(told, "eval_accuracy")
    assert accuracy.keys() == {0, 40}
    assert accuracy[0] < accuracy[40]
    card = job.artifact(1, "README.md").decode()
    assert f"| accuracy on the held-out rows | {accuracy[0]:.4f} | {accuracy[40]:.4f} |" in card
    assert "name: held-out accuracy" in card


@pytest.mark.usefixtures("torch_as_before")
def test_a_server_that_is_away_changes_nothing(objects: Objects, models_dir: Path, tmp_path: Path) -> None:
    job = Job(objects, models_dir, total_steps=2)
    job.spec.env["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    run(job.settings(), objects, tmp_path / "away")
    alone = Job(objects, models_dir, total_steps=2)
    run(alone.settings(), objects, tmp_path / "alone")
    assert job.artifact(1, "adapter_model.safetensors") == alone.artifact(1, "adapter_model.safetensors")


async def test_figures_wait_for_a_server_that_comes_back(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "BATCH_SECONDS", 0.01)
    monkeypatch.setattr(tracking, "MAX_WAITING", 3)
    mlflow.broken = True
    told = Tracking(Server(mlflow.uri, "Default"), "job_1", "bot", {}, {})
    for step in range(5):
        told.metrics(step, {"loss": float(step)})
    mlflow.broken = False
    await wait_for(lambda: any(run["metrics"] for run in mlflow.runs.values()))
    told.close("FINISHED")
    (run_told,) = mlflow.runs.values()
    assert values(run_told, "loss") == {2: 2.0, 3: 3.0, 4: 4.0}
    assert run_told["status"] == "FINISHED"


@pytest.mark.parametrize("uri", ["", "file:///mlruns", "databricks"])
def test_what_is_no_server_is_left_alone(uri: str) -> None:
    assert Server.from_env({"MLFLOW_TRACKING_URI": uri}) is None
