"""A training job on the tiny model, for tests: its data, its settings, and its pod as a process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from services.trainer.settings import PodSettings
from sskai.contract import new_id
from sskai.events import v1 as events
from sskai.objects import Objects

REPOSITORY = Path(__file__).parents[2]
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Where is my order {number}?"},
            {
                "role": "assistant",
                "content": f"Order {number} was shipped yesterday and will arrive in {number % 7} days.",
            },
        ]
    }
    for number in range(40)
]
PLAN = {
    "total_steps": 24,
    "batch_size": 4,
    "micro_batch_size": 2,
    "learning_rate": 5e-3,
    "checkpoint_interval_steps": 4,
}


class Job:
    """One job in the object store; `settings(attempt)` is what its pod is told."""

    def __init__(
        self, objects: Objects, models_dir: Path, rows: list[dict[str, Any]] | None = None, **plan: Any
    ) -> None:
        self.id = new_id("job")
        self.objects = objects
        self._models_dir = models_dir
        self._plan = PLAN | plan
        data = b"".join(json.dumps(row).encode() + b"\n" for row in (ROWS if rows is None else rows))
        key = f"tenants/t-1/datasets/{self.id}.jsonl"
        objects.put_bytes(key, data)
        self.spec = events.JobSpec(
            kind="finetune",
            name="support-bot",
            model=events.ModelRef(model_id="tiny", uri="builtin://tiny", method="lora", rank=4),
            dataset=events.DatasetRef(
                dataset_id="ds-1",
                name="support",
                version=1,
                uri=objects.uri(key),
                format="messages",
                rows=len(data.splitlines()),
                sha256=hashlib.sha256(data).hexdigest(),
                eval_fraction=0.1,
            ),
            hyperparameters=events.Hyperparameters(seed=7),
            checkpoint=events.CheckpointPolicy(keep=3),
        )

    @property
    def prefix(self) -> str:
        return f"jobs/{self.id}"

    def settings(self, attempt: int = 1, **changes: Any) -> PodSettings:
        # Dropout draws from the generators at each step: an equal curve proves that they are restored.
        values = {
            "job_id": self.id,
            "tenant_id": "t-1",
            "attempt": attempt,
            "job_spec": json_format.MessageToJson(self.spec),
            "plan": json.dumps(self._plan),
            "work_uri": self.objects.uri(self.prefix),
            "kafka_bootstrap": "",
            "objects_bucket": self.objects.bucket,
            "models_dir": self._models_dir,
            "trainer_threads": 1,
            "lora_dropout": 0.1,
            "unavailable_seconds": 1.0,
        }
        return PodSettings(**(values | changes))

    def manifests(self) -> list[str]:
        """Keys of the manifests of its checkpoints, as `attempt-00001/checkpoint-4`."""
        start = f"{self.prefix}/checkpoints/"
        keys = (info.key.removeprefix(start) for info in self.objects.list(start))
        return [key.removesuffix("/MANIFEST.json") for key in keys if key.endswith("/MANIFEST.json")]

    def artifact(self, attempt: int, name: str) -> bytes:
        return self.objects.get_bytes(f"{self.prefix}/artifact/attempt-{attempt:05d}/{name}")


class Pod:
    """`python -m services.trainer.pod` as a process."""

    def __init__(
        self, settings: PodSettings, credentials: dict[str, str], folder: Path, member: dict[str, str] | None = None
    ) -> None:
        """`member`: what a machine of a gang is told beside."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        told = settings.model_dump(
            mode="json", include={*PodSettings.model_fields} - {"objects_secret_key", "database_url"}
        )
        env = {
            f"SSKAI_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in told.items()
            if value is not None and not name.endswith("token")
        }
        self.log = (folder / "pod.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.trainer.pod"],
            cwd=REPOSITORY,
            env={
                **os.environ,
                **env,
                **credentials,
                **(member or {}),
                "SSKAI_WORK_DIR": str(folder),
                "OMP_NUM_THREADS": "1",
            },
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a machine's end is the end of all its processes
        )

    def wait_for(self, condition: Callable[[], bool], limit_seconds: float = 120) -> None:
        deadline = time.monotonic() + limit_seconds
        while not condition():
            assert self.process.poll() is None, (self.folder / "pod.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "pod.log").read_text()
            time.sleep(0.002)

    def wait_for_step(self, step: int) -> None:
        """Return as soon as the curve on disk has that step."""
        self.wait_for(lambda: len(curve(self.folder)) >= step)

    def kill(self) -> None:
        """`kill -9` to all of the machine's processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, limit_seconds: float = 120) -> int:
        code = self.process.wait(limit_seconds)
        self.log.close()
        return code


def curve(folder: Path) -> list[float]:
    """Each step's loss."""
    path = folder / "losses.jsonl"
    if not path.exists():
        return []
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line)["loss"] for line in whole]


def told(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The data of the events of a kind that an attempt told."""
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [line["data"] for line in lines if line["type"] == f"sskai.events.v1.{kind}"]
