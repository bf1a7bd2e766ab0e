"""OpenAI's own client against the gateway: files, uploads in parts, fine-tuning from the file to the model's name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import openai
import pytest
import pytest_asyncio

from services.gateway import finetunes
from services.optimizer import work
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import ROWS, House, jsonl
from tests.gateway.test_uploads import LINES

pytestmark = pytest.mark.asyncio(loop_scope="session")

T = TypeVar("T")
PREFERENCES: list[dict[str, Any]] = [
    {
        "input": {"messages": [{"role": "user", "content": f"{number}?"}]},
        "preferred_output": [{"role": "assistant", "content": "yes"}],
        "non_preferred_output": [{"role": "assistant", "content": "no"}],
    }
    for number in range(4)
]


class Asking:
    """The synchronous client, away from the loop that the gateway runs in."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client = client

    async def __call__(self, call: Callable[[openai.OpenAI], T]) -> T:
        return await asyncio.to_thread(call, self.client)


@pytest_asyncio.fixture(loop_scope="session")
async def ask(house: House) -> AsyncIterator[Asking]:
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client:
        yield Asking(client)


async def uploaded(ask: Asking, rows: list[Any] | None = None, name: str = "chats.jsonl") -> openai.types.FileObject:
    return await ask(lambda openai: openai.files.create(file=(name, jsonl(rows or ROWS)), purpose="fine-tune"))


async def test_files_are_kept_listed_read_and_deleted(house: House, ask: Asking) -> None:
    made = [await uploaded(ask, [{"text": f"{number}"}], f"My Rows {number}.jsonl") for number in range(3)]
    first = made[0]
    assert (first.object, first.purpose, first.status) == ("file", "fine-tune", "processed")
    assert (first.filename, first.bytes) == ("My Rows 0.jsonl", len(jsonl([{"text": "0"}])))
    assert (await house.ann.get(f"/v1/datasets/{first.id}")).json()["name"] == "my-rows-0"
    listed = await ask(lambda openai: [one.id for one in openai.files.list(limit=2, purpose="fine-tune")])
    assert listed == [one.id for one in reversed(made)], "page after page"
    ascending = await ask(lambda openai: openai.files.list(order="asc", limit=1))
    assert ascending.data[0].id == first.id
    assert await ask(lambda openai: list(openai.files.list(purpose="batch"))) == []
    assert await ask(lambda openai: openai.files.content(first.id).read()) == jsonl([{"text": "0"}])
    assert await ask(lambda openai: openai.files.retrieve(first.id)) == first
    deleted = await ask(lambda openai: openai.files.delete(first.id))
    assert (deleted.id, deleted.deleted) == (first.id, True)
    with pytest.raises(openai.NotFoundError) as gone:
        await ask(lambda openai: openai.files.retrieve(first.id))
    assert gone.value.type == "not_found_error"


async def test_a_refused_file_says_which_row_to_openais_clients(ask: Asking) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await uploaded(ask, [*ROWS, {"messages": []}])
    error: Any = refused.value.body
    assert (error["row"], error["column"], error["type"]) == (10, "messages", "invalid_request_error")
    assert refused.value.param == "messages"
    assert "row 10, messages" in refused.value.message
    with pytest.raises(openai.BadRequestError) as other:
        await ask(lambda openai: openai.files.create(file=b"{}", purpose="batch"))
    assert other.value.param == "purpose"
    expires: Any = {"anchor": "created_at", "seconds": 3600}
    with pytest.raises(openai.BadRequestError, match="delete the file"):
        await ask(lambda openai: openai.files.create(file=b"{}", purpose="fine-tune", expires_after=expires))


async def test_a_large_file_comes_in_parts(ask: Asking, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_bytes(LINES)
    upload = await ask(
        lambda openai: openai.uploads.upload_file_chunked(
            file=path, mime_type="application/jsonl", purpose="fine-tune", part_size=6_000_000
        )
    )
    assert upload.status == "completed"
    assert upload.file is not None
    assert (upload.file.bytes, upload.file.filename) == (len(LINES), "large.jsonl")
    cancelled = await ask(
        lambda openai: openai.uploads.cancel(
            openai.uploads.create(bytes=9, filename="x", mime_type="text/csv", purpose="fine-tune").id
        )
    )
    assert cancelled.status == "cancelled"


async def ended(house: House, job_id: str, *, publish: bool = True, version: int = 1) -> events.JobSubmitted:
    """The job runs, saves a checkpoint and succeeds."""
    submitted: events.JobSubmitted = next(one for one in await house.told(events.JobSubmitted) if one.job_id == job_id)
    ids = {"job_id": job_id, "tenant_id": submitted.tenant_id, "attempt": 1}
    at = timestamp(house.world.now())
    machine = events.Placement(instance_type="g5.xlarge")
    await house.bus.publish(events.AttemptStarted(**ids, placement=machine, started_at=at))
    for step in (1, 2, 3):
        await house.bus.publish(
            events.AttemptProgressed(**ids, phase="training", step=step, total_steps=3, loss=3.5 / step, at=at)
        )
    await house.bus.publish(events.CheckpointCommitted(**ids, step=2, uri="s3://x/checkpoint-2", bytes=7, at=at))
    succeeded = events.JobSucceeded(
        job_id=job_id, tenant_id=submitted.tenant_id, steps=3, tokens=4_321, artifact_uri="s3://x/model", ended_at=at
    )
    await house.bus.publish(succeeded)
    if publish:
        await house.bus.publish(ready(submitted, version))
    await house.bus.settle()
    return submitted


def ready(submitted: events.JobSubmitted, version: int = 1) -> events.ModelVersionReady:
    return events.ModelVersionReady(
        model_id=f"model_of_{submitted.tenant_id}_{submitted.spec.name}",
        tenant_id=submitted.tenant_id,
        version=version,
        name=submitted.spec.name,
        job_id=submitted.job_id,
        base_model_id="tiny-llama",
        base_uri="builtin://tiny-llama",
        method="lora",
        artifact_uri=f"s3://sskai/jobs/{submitted.job_id}/model",
        dataset_uri=submitted.spec.dataset.uri,
        ready_at=submitted.submitted_at,
    )


async def test_a_fine_tune_from_the_file_to_the_models_name(house: House, ask: Asking) -> None:
    file = await uploaded(ask)
    job = await ask(
        lambda openai: openai.fine_tuning.jobs.create(
            model="tiny-llama",
            training_file=file.id,
            suffix="My Bot!",
            seed=7,
            metadata={"team": "support"},
            method={
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 4, "learning_rate_multiplier": 0.5}},
            },
            extra_body={"sskai": {"budget": {"total_usd": 3}, "spot_policy": "spot", "model": {"rank": 4}}},
        )
    )
    assert (job.object, job.status, job.fine_tuned_model) == ("fine_tuning.job", "validating_files", None)
    assert (job.model, job.training_file, job.seed, job.metadata) == ("tiny-llama", file.id, 7, {"team": "support"})
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (4, "auto")
    assert job.method is not None
    assert job.method.type == "supervised"
    (submitted,) = await house.told(events.JobSubmitted)
    spec = submitted.spec
    assert (spec.name, spec.budget_usd, spec.model.rank, spec.hyperparameters.seed) == ("my-bot", 3, 4, 7)
    assert (spec.hyperparameters.n_epochs, spec.hyperparameters.learning_rate) == (4, pytest.approx(2.5e-4))
    assert spec.spot_policy == events.SPOT_POLICY_SPOT

    await ended(house, job.id, publish=False)
    waiting = await ask(lambda openai: openai.fine_tuning.jobs.retrieve(job.id))
    assert (waiting.status, waiting.fine_tuned_model) == ("running", None), "its model has no name yet"
    await house.bus.publish(ready(submitted), ready(submitted))
    await house.bus.settle()
    done = await ask(lambda openai: openai.fine_tuning.jobs.retrieve(job.id))
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", "my-bot@1", 4_321)
    assert done.finished_at
    assert done.error is None
    (requested,) = await house.told(events.EndpointRequested)
    assert (requested.name, requested.kind, requested.version) == ("my-bot@1", "serverless", 1)
    assert (await ask(lambda openai: openai.models.retrieve("my-bot@1"))).id == "my-bot@1"

    told = await ask(lambda openai: list(openai.fine_tuning.jobs.list_events(job.id, limit=2)))
    assert [one.type for one in told].count("metrics") == 3
    newest_metrics = next(one for one in told if one.type == "metrics")
    data: Any = newest_metrics.data
    assert data["step"] == 3
    assert newest_metrics.message == "Step 3 of 3, training loss 1.1667"
    assert told[-1].message == "The job was created, and its file is valid"
    assert {one.level for one in told} == {"info"}
    (checkpoint,) = await ask(lambda openai: list(openai.fine_tuning.jobs.checkpoints.list(job.id)))
    assert (checkpoint.step_number, checkpoint.metrics.train_loss) == (2, 1.75)

    # Deleting the model takes its own endpoint with it.
    deleted = await ask(lambda openai: openai.models.delete("my-bot@1"))
    assert deleted.deleted
    assert len(await house.told(events.EndpointDeletionRequested)) == 1
    assert len(await house.told(events.ModelDeleted)) == 1
    with pytest.raises(openai.NotFoundError):
        await ask(lambda openai: openai.models.retrieve("my-bot@1"))
    still = await ask(lambda openai: openai.fine_tuning.jobs.retrieve(job.id))
    assert (still.status, still.fine_tuned_model) == ("succeeded", "my-bot@1")


async def test_jobs_are_listed_and_cancelled(house: House, ask: Asking) -> None:
    file = await uploaded(ask)
    jobs = [
        await ask(
            lambda openai, number=number: openai.fine_tuning.jobs.create(
                model="tiny-llama", training_file=file.id, metadata={"number": str(number)}
            )
        )
        for number in range(3)
    ]
    listed = await ask(lambda openai: [one.id for one in openai.fine_tuning.jobs.list(limit=2)])
    assert listed == [one.id for one in reversed(jobs)]
    mine = await ask(lambda openai: list(openai.fine_tuning.jobs.list(metadata={"number": "1"})))
    assert [one.id for one in mine] == [jobs[1].id]
    for odd in ("metadata[a]=%00", "metadata[%00]=a", "metadata[%ED%A0%80]=%ED%A0%80"):
        assert (await house.ann.get(f"/v1/fine_tuning/jobs?{odd}")).json()["data"] == []
    assert len((await house.ann.get("/v1/fine_tuning/jobs?metadata=null")).json()["data"]) == 0
    names = {one.spec.name for one in await house.told(events.JobSubmitted)}
    assert len(names) == 3, "without a suffix each has a name of its own"
    asked = await ask(lambda openai: openai.fine_tuning.jobs.cancel(jobs[0].id))
    assert asked.status == "queued"
    (wish,) = await house.told(events.JobCancelRequested)
    await house.bus.publish(
        events.JobCancelled(job_id=jobs[0].id, tenant_id=wish.tenant_id, ended_at=wish.requested_at)
    )
    await house.bus.settle()
    assert (await ask(lambda openai: openai.fine_tuning.jobs.retrieve(jobs[0].id))).status == "cancelled"
    for call in ("pause", "resume"):
        with pytest.raises(openai.BadRequestError, match="cannot be"):
            await ask(lambda openai, call=call: getattr(openai.fine_tuning.jobs, call)(jobs[1].id))
    native = await house.ann.post(
        "/v1/jobs", json={"name": "native", "model": {"base": "tiny-llama"}, "dataset": {"uri": file.id}}
    )
    with pytest.raises(openai.NotFoundError):
        await ask(lambda openai: openai.fine_tuning.jobs.retrieve(native.json()["id"]))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": "gpt-4o-mini"}, "model"),
    ({"training_file": "file-abc"}, "training_file"),
    ({"validation_file": "file-abc"}, "validation_file"),
    ({"suffix": "!!!"}, "suffix"),
    ({"suffix": "x" * 65}, "suffix"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations"),
    ({"method": {"type": "reinforcement"}}, "method.type"),
    ({"method": {"type": "dpo"}}, "method.type"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epoch": 1}}, "hyperparameters.n_epoch"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
    ({"extra_body": {"sskai": {"budget": {"total_usd": -1}}}}, "sskai.budget.total_usd"),
    ({"extra_body": {"sskai": {"deadline": "yesterday"}}}, "sskai.deadline"),
    ({"extra_body": {"sskai": {"buget": 1}}}, "sskai.buget"),
]


@pytest.mark.parametrize(("fields", "param"), BAD, ids=[param for _, param in BAD])
async def test_what_cannot_be_done_is_refused_by_its_parameter(
    house: House, ask: Asking, fields: dict[str, Any], param: str
) -> None:
    file = await uploaded(ask)
    form = {"model": "tiny-llama", "training_file": file.id, **fields}
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(lambda openai: openai.fine_tuning.jobs.create(**form))
    assert refused.value.param == param, refused.value.body
    assert await house.told(events.JobSubmitted) == []


async def test_preferences_in_openais_form_are_trained_by_dpo(house: House, ask: Asking) -> None:
    file = await uploaded(ask, PREFERENCES)
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    job = await ask(
        lambda openai: openai.fine_tuning.jobs.create(
            model="tiny-llama", training_file=file.id, method=method, extra_body={"sskai": {"deploy": False}}
        )
    )
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    (submitted,) = await house.told(events.JobSubmitted)
    assert (submitted.spec.dataset.format, submitted.spec.hyperparameters.dpo_beta) == ("preference", 0.2)
    kept = (await ask(lambda openai: openai.files.content(file.id).read())).splitlines()[0]
    assert json.loads(kept) == {
        "prompt": PREFERENCES[0]["input"]["messages"],
        "chosen": PREFERENCES[0]["preferred_output"],
        "rejected": PREFERENCES[0]["non_preferred_output"],
    }
    await ended(house, job.id)
    assert await house.told(events.EndpointRequested) == [], "deploy is false"
    broken = {**PREFERENCES[0], "non_preferred_output": [{"role": "assistant", "content": ""}]}
    with pytest.raises(openai.BadRequestError) as wrong:
        await uploaded(ask, [*PREFERENCES, broken])
    assert wrong.value.param == "non_preferred_output[0].content"


async def test_a_result_that_is_refused_fails_the_job(house: House, ask: Asking) -> None:
    file = await uploaded(ask)
    job = await ask(lambda openai: openai.fine_tuning.jobs.create(model="tiny-llama", training_file=file.id))
    submitted = await ended(house, job.id, publish=False)
    refused = events.ModelVersionRefused(
        job_id=job.id, tenant_id=submitted.tenant_id, reason="weights: torn", advice="Train again."
    )
    await house.bus.publish(refused)
    await house.bus.settle()
    failed = await ask(lambda openai: openai.fine_tuning.jobs.retrieve(job.id))
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.message == "weights: torn. Train again"


async def test_the_asynchronous_client_does_the_same(house: House) -> None:
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client:
        file = await client.files.create(file=("rows.jsonl", jsonl(ROWS)), purpose="fine-tune")
        job = await client.fine_tuning.jobs.create(model="tiny-llama", training_file=file.id)
        assert [one.id async for one in client.fine_tuning.jobs.list()] == [job.id]
        assert "tiny-llama" in [one.id async for one in client.models.list()]


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
@pytest.mark.parametrize("parameters", [135_000_000, 8_000_000_000, 70_000_000_000])
@pytest.mark.parametrize("format_name", ["messages", "preference", "text-to-image"])
async def test_a_multiplier_multiplies_what_auto_would_be(method: str, parameters: int, format_name: str) -> None:
    request = SimpleNamespace(method=method, dataset_format=format_name)
    assert finetunes.auto_learning_rate(method, parameters, format_name) == work._learning_rate(request, parameters)
