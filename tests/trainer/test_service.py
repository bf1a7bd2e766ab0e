"""The trainer's service on a real database and a real object store: artefacts become versions, once."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.message import Message

from services.trainer import loops
from services.trainer.checkpoints import Checkpoints
from services.trainer.comparison import Comparison
from services.trainer.domain import ResultState
from services.trainer.handlers import HANDLERS
from services.trainer.store import Store
from sskai import contract, delivery
from sskai.contract import Envelope, new_id
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.testing import handle
from tests.trainer.pods import REPOSITORY

SERVICE = "trainer"
ENDED = datetime(2026, 11, 24, 3, tzinfo=UTC)


def publish(objects: Objects, tmp_path, job_id: str, more: dict[str, bytes] | None = None) -> str:
    """An artefact as a pod leaves it; returns its URI."""
    folder = tmp_path / job_id
    folder.mkdir()
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "base_model_name_or_path": "tiny"}))
    (folder / "README.md").write_text("# bot")
    for name, content in (more or {}).items():
        (folder / name).write_bytes(content)
    return Checkpoints(objects, f"jobs/{job_id}", job_id, 1).publish(8, folder, {}).uri


def succeeded(job_id: str, artifact_uri: str, *, tenant_id: str = "t-1", name: str = "bot") -> events.JobSucceeded:
    spec = events.JobSpec(
        name=name,
        model=events.ModelRef(model_id="tiny", uri="builtin://tiny", method="lora"),
        dataset=events.DatasetRef(dataset_id="ds-1", uri="s3://sskai/tenants/t-1/ds"),
    )
    return events.JobSucceeded(
        job_id=job_id,
        tenant_id=tenant_id,
        artifact_uri=artifact_uri,
        model_name=name,
        spec=spec,
        eval_loss_before=2.5,
        eval_loss_after=1.5,
        ended_at=contract.timestamp(ENDED),
    )


async def told(database: Database) -> list[Message]:
    """What went into the outbox since the last call."""
    heard: list[Message] = []

    class Listener:
        async def publish_all(self, envelopes: list[Envelope]) -> None:
            heard.extend(envelope.message for envelope in envelopes)

    await delivery.Relay(database, Listener()).publish_batch()
    return heard


async def test_a_verified_artefact_is_the_next_version(database: Database, objects: Objects, tmp_path) -> None:
    job_id = new_id("job")
    event = succeeded(job_id, publish(objects, tmp_path, job_id))
    assert await handle(HANDLERS, database, Store, event) == []
    await handle(HANDLERS, database, Store, event)  # told twice, under another id
    await loops.verify_results(database, objects)
    await loops.verify_results(database, objects)
    (ready,) = await told(database)
    assert isinstance(ready, events.ModelVersionReady)
    assert (ready.version, ready.name, ready.job_id, ready.tenant_id) == (1, "bot", job_id, "t-1")
    assert (ready.base_model_id, ready.base_uri, ready.method) == ("tiny", "builtin://tiny", "lora")
    assert (ready.eval_loss_before, ready.eval_loss_after) == (2.5, 1.5)
    assert (ready.dataset_id, ready.artifact_uri) == ("ds-1", event.artifact_uri)
    assert len(ready.manifest_sha256) == 64


@pytest.mark.parametrize("sound", [True, False])
async def test_how_a_version_does_is_told_before_the_version(
    database: Database, objects: Objects, tmp_path, *, sound: bool
) -> None:
    job_id = new_id("job")
    found = Comparison("row_loss", 1.2, 1.5, 12, 0.05, 0, None)
    uri = publish(objects, tmp_path, job_id, {"evaluation.json": found.to_json() if sound else b"{}"})
    await handle(HANDLERS, database, Store, succeeded(job_id, uri))
    await loops.verify_results(database, objects)
    *evaluated, ready = await told(database)
    assert isinstance(ready, events.ModelVersionReady)
    if not sound:
        assert evaluated == []
        return
    (event,) = evaluated
    assert isinstance(event, events.ModelEvaluated)
    assert (event.model_id, event.version, event.dataset_id) == (ready.model_id, ready.version, "ds-1")
    assert (event.metric, event.value, event.champion_value, event.sample_size) == ("row_loss", 1.2, 1.5, 12)
    assert event.difference_standard_error == 0.05
    assert event.HasField("champion_version")
    assert not event.HasField("rows_left_out")


async def test_versions_count_up_per_tenant_and_name(database: Database, objects: Objects, tmp_path) -> None:
    versions = []
    for tenant_id, name in (("t-1", "bot"), ("t-1", "bot"), ("t-1", "other"), ("t-2", "bot"), ("t-1", "bot")):
        job_id = new_id("job")
        uri = publish(objects, tmp_path, job_id)
        await handle(HANDLERS, database, Store, succeeded(job_id, uri, tenant_id=tenant_id, name=name))
        await loops.verify_results(database, objects)
        (ready,) = await told(database)
        versions.append((ready.model_id, ready.version))
    ids = [model_id for model_id, _ in versions]
    assert [version for _, version in versions] == [1, 2, 1, 1, 3]
    assert ids[0] == ids[1] == ids[4]
    assert len(set(ids)) == 3


async def test_what_no_list_has_is_read_all_the_same(
    database: Database, objects: Objects, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store whose disk was full has been seen to keep files that it lists nowhere: they are whole."""
    job_id = new_id("job")
    uri = publish(objects, tmp_path, job_id)
    monkeypatch.setattr(objects, "list", lambda _prefix: [])
    await handle(HANDLERS, database, Store, succeeded(job_id, uri))
    await loops.verify_results(database, objects)
    (ready,) = await told(database)
    assert isinstance(ready, events.ModelVersionReady)


@pytest.mark.parametrize("harm", ["cut", "gone", "stranger", "another job's", "no manifest", "another bucket"])
async def test_a_bad_artefact_is_refused(database: Database, objects: Objects, tmp_path, harm: str) -> None:
    job_id = new_id("job")
    uri = publish(objects, tmp_path, job_id)
    prefix = objects.key(uri)
    if harm == "cut":
        objects.put_bytes(f"{prefix}/adapter_model.safetensors", b"short")
    elif harm == "gone":
        objects.delete(f"{prefix}/adapter_model.safetensors")
    elif harm == "stranger":
        objects.put_bytes(f"{prefix}/payload.pkl", b"boom")
    elif harm == "another job's":
        uri = publish(objects, tmp_path, new_id("job"))
    elif harm == "no manifest":
        objects.delete(f"{prefix}/MANIFEST.json")
    else:
        uri = "s3://elsewhere/jobs/x/artifact/attempt-00001"
    await handle(HANDLERS, database, Store, succeeded(job_id, uri))
    await loops.verify_results(database, objects)
    (refused,) = await told(database)
    assert isinstance(refused, events.ModelVersionRefused)
    assert (refused.job_id, refused.tenant_id) == (job_id, "t-1")
    assert refused.reason
    async with database.transaction() as session:
        result = await Store(session).result("t-1", job_id)
        assert result is not None
        assert (result.state, result.version) == (ResultState.REFUSED, None)
        assert result.detail
        assert await Store(session).result("t-2", job_id) is None


async def test_checkpoints_go_when_their_time_is_over_and_artefacts_stay(
    database: Database, objects: Objects, tmp_path
) -> None:
    job_id = new_id("job")
    uri = publish(objects, tmp_path, job_id)
    for step in (4, 8):
        objects.put_bytes(f"jobs/{job_id}/checkpoints/attempt-00001/checkpoint-{step}/MANIFEST.json", b"{}")
    objects.put_bytes(f"jobs/{job_id}/ends/00001.json", b"{}")
    hours = (datetime.now(UTC) - ENDED) / timedelta(hours=1)
    await handle(HANDLERS, database, Store, succeeded(job_id, uri))
    await loops.clean_up_jobs(database, objects, hours + 1)
    assert len(objects.list(f"jobs/{job_id}/checkpoints/")) == 2
    await loops.clean_up_jobs(database, objects, hours - 1)
    assert objects.list(f"jobs/{job_id}/checkpoints/") == []
    assert objects.list(f"jobs/{job_id}/ends/") == []
    assert len(objects.list(f"jobs/{job_id}/artifact/")) == 4


async def test_the_checkpoint_that_a_budget_stop_left_as_result_stays(database: Database, objects: Objects) -> None:
    job_id = new_id("job")
    for step in (4, 8):
        objects.put_bytes(f"jobs/{job_id}/checkpoints/attempt-00001/checkpoint-{step}/MANIFEST.json", b"{}")
    kept = f"jobs/{job_id}/checkpoints/attempt-00001/checkpoint-8"
    event = events.JobFailed(
        job_id=job_id, tenant_id="t-1", artifact_uri=objects.uri(kept), ended_at=contract.timestamp(ENDED)
    )
    await handle(HANDLERS, database, Store, event)
    await loops.clean_up_jobs(database, objects, 0)
    assert [info.key for info in objects.list(f"jobs/{job_id}/checkpoints/")] == [f"{kept}/MANIFEST.json"]


def test_the_service_never_imports_torch() -> None:
    program = (
        "import sys, services.trainer.main; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'transformers', 'peft'}))"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
