"""The routes, each through the real application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.gateway.access import ACCESS, Scope
from sskai.contract import timestamp
from sskai.events import v1 as events
from sskai.testing import wait_for
from tests.gateway.conftest import ADMIN_KEY, House, job_file, jsonl

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_every_route_but_the_public_ones_needs_a_key(house: House) -> None:
    document = (await house.ann.get("/openapi.json", headers={"Authorization": ""})).json()
    house.ann.headers.pop("Authorization")
    for path, operations in document["paths"].items():
        for method in operations:
            answer = await house.ann.request(method, path)
            if ACCESS[method.upper(), path].scope is Scope.PUBLIC:
                assert answer.status_code != 401
                continue
            assert answer.status_code == 401, f"{method} {path}"
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("key", ["x", "sskai_", ADMIN_KEY[:-1], ADMIN_KEY + "x", "sskai_é", "sskai_" + "x" * 300])
async def test_a_key_that_is_not_right_to_the_last_character_is_refused(house: House, key: str) -> None:
    answer = await house.admin.get("/v1/jobs", headers={b"Authorization": f"Bearer {key}".encode()})
    assert answer.status_code == 401


async def test_keys_are_shown_once_and_revoked_at_once(house: House) -> None:
    made = (await house.admin.post("/v1/keys", json={"name": "ci"})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert (await house.ann.get("/v1/jobs", headers=headers)).status_code == 200
    listed = await house.admin.get("/v1/keys")
    assert made["id"] in [key["id"] for key in listed.json()["data"]]
    assert made["key"] not in listed.text
    assert (await house.bob.delete(f"/v1/keys/{made['id']}")).status_code == 404
    assert (await house.admin.delete(f"/v1/keys/{made['id']}")).status_code == 204
    assert (await house.ann.get("/v1/jobs", headers=headers)).status_code == 401


async def test_a_dataset_gets_a_version_and_the_same_content_keeps_it(house: House) -> None:
    first = await house.dataset(house.ann)
    assert (first["version"], first["format"], first["rows"]) == (1, "messages", 9)
    again = await house.ann.post(
        "/v1/datasets", data={"name": "support"}, files={"file": ("d.jsonl", jsonl([{"text": "other"}]))}
    )
    assert (again.status_code, again.json()["version"], again.json()["uri"]) == (201, 2, "dataset://support/2")
    assert (await house.dataset(house.ann))["id"] == first["id"]
    assert (await house.dataset(house.bob))["version"] == 1
    validated = await house.told(events.DatasetValidated)
    assert [event.version for event in validated] == [1, 2, 1]
    preview = await house.ann.get(f"/v1/datasets/{first['id']}/preview", params={"rows": 2})
    assert [row["messages"][0]["content"] for row in preview.json()["rows"]] == ["0?", "1?"]
    by_name = await house.ann.get("/v1/datasets/support@2")
    assert by_name.json() == again.json()


async def test_a_broken_row_is_named_and_nothing_is_kept(house: House) -> None:
    rows: list[Any] = [{"text": f"line {number}"} for number in range(1, 10)]
    rows[6] = {"text": 7}
    answer = await house.ann.post(
        "/v1/datasets", params={"name": "broken"}, content=jsonl(rows), headers={"Content-Type": "application/jsonl"}
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["row"], problem["column"], problem["reason"]) == (7, "text", "must be a text, not a number")
    assert (await house.ann.get("/v1/datasets")).json()["data"] == []
    (rejected,) = await house.told(events.DatasetRejected)
    assert (rejected.row, rejected.column, rejected.name) == (7, "text", "broken")
    keys = await asyncio.to_thread(house.world.objects.list, f"tenants/{rejected.tenant_id}/")
    assert keys == []


async def test_an_upload_over_the_limit_is_refused_whatever_its_length_says(house: House) -> None:
    row = jsonl([{"text": "x" * 99_990}])
    whole = await house.ann.post(
        "/v1/datasets?name=large", content=row * 50, headers={"Content-Type": "application/jsonl"}
    )
    assert whole.status_code == 413

    async def pieces() -> Any:
        for _ in range(50):
            yield row

    chunked = await house.ann.post(
        "/v1/datasets?name=large", content=pieces(), headers={"Content-Type": "application/jsonl"}
    )
    assert chunked.status_code == 413
    body = await house.ann.post("/v1/jobs", content=b" " * 2_000_000)
    assert body.status_code == 413
    # OpenAI's clients read their error from `error`.
    asked = await house.ann.post("/v1/completions", json={"model": "bot", "prompt": "x" * 2_000_000})
    assert (asked.status_code, asked.json()["error"]["code"]) == (413, "body_too_large")


async def test_a_job_is_accepted_with_everything_resolved(house: House) -> None:
    dataset = await house.dataset(house.ann)
    answer = await house.ann.post("/v1/jobs", json=job_file(budget={"total_usd": 15}, deadline="6h", max_price=1.2))
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "submitted"
    (submitted,) = await house.told(events.JobSubmitted)
    spec = submitted.spec
    assert submitted.job_id == job["id"]
    assert (spec.model.uri, spec.model.rank, spec.model.alpha) == ("builtin://tiny-llama", 8, 16)
    assert '"LlamaForCausalLM"' in spec.model.config_json
    assert (spec.dataset.sha256, spec.dataset.rows) == (dataset["sha256"], 9)
    assert spec.dataset.uri.startswith("s3://")
    assert (spec.budget_usd, spec.resources.max_price_usd_per_hour) == (15, 1.2)
    assert 5.9 * 3600 < spec.deadline.seconds - submitted.submitted_at.seconds <= 6 * 3600
    assert not spec.hyperparameters.HasField("batch_size")
    assert (await house.ann.get(f"/v1/jobs/{job['id']}")).json()["spec"]["dataset"]["name"] == "support"


BAD_JOBS: list[tuple[dict[str, Any], str]] = [
    ({"model": {"base": "no-such-model"}}, "model.base"),
    ({"model": {"base": "qwen2.5-7b-instruct"}}, "model.base"),
    ({"model": {}}, "model.base"),
    ({"model": {"base": "tiny-llama", "artifact": "model://x/1"}}, "model"),
    ({"model": {"base": "tiny-llama", "method": "magic"}}, "model.method"),
    ({"model": {"base": "tiny-llama", "rank": 0}}, "model.rank"),
    ({"dataset": {"uri": "dataset://nothing/1"}}, "dataset.uri"),
    ({"dataset": {"uri": "dataset://support/9"}}, "dataset.uri"),
    ({"dataset": {"uri": "support", "format": "text"}}, "dataset.format"),
    ({"dataset": {"uri": "support", "eval_fraction": 0.9}}, "dataset.eval_fraction"),
    ({"budget": {"total_usd": 0}}, "budget.total_usd"),
    ({"budget": {"total_usd": -3}}, "budget.total_usd"),
    ({"deadline": "2020-01-01T00:00:00Z"}, "deadline"),
    ({"deadline": "2030-01-01T00:00:00"}, "deadline"),
    ({"deadline": "0h"}, "deadline"),
    ({"deadline": "soon"}, "deadline"),
    ({"deadline": "9999d"}, "deadline"),
    ({"objective": "cheapest-within-deadline"}, "deadline"),
    ({"objective": "fastest-within-budget", "deadline": "6h"}, "budget.total_usd"),
    ({"objective": "greenest"}, "objective"),
    ({"kind": "dream"}, "kind"),
    ({"kind": "endpoint"}, "kind"),
    ({"name": "Not A Name"}, "name"),
    ({"name": "x\u0000"}, "name"),
    ({"buget": {"total_usd": 1}}, "buget"),
    ({"max_price": 0}, "max_price"),
    ({"resources": {"cpus": "many"}}, "resources.cpus"),
    ({"resources": {"memory": "16-"}}, "resources.memory"),
    ({"resources": {"memory": "32..16"}}, "resources.memory"),
    ({"resources": {"accelerators": "L4:x"}}, "resources.accelerators"),
    ({"resources": {"accelerators": "L5:1"}}, "resources.accelerators"),
    ({"resources": {"accelerators": "L4:1, TPU"}}, "resources.accelerators"),
    ({"resources": {"num_nodes": 2}}, "resources.num_nodes"),
    ({"resources": {"nodes": 0}}, "resources.nodes"),
    ({"resources": {"nodes": "4..2"}}, "resources.nodes"),
    ({"resources": {"nodes": True}}, "resources.nodes"),
    ({"checkpoint": {"interval": "sometimes"}}, "checkpoint.interval"),
    ({"checkpoint": {"interval": "never"}, "spot_policy": "spot"}, "checkpoint.interval"),
    ({"checkpoint": {"interval": "never"}, "resources": {"use_spot": True}}, "checkpoint.interval"),
    ({"resources": {"use_spot": True}, "spot_policy": "on-demand"}, "spot_policy"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
    ({"hyperparameters": {"batch_size": 2.5}}, "hyperparameters.batch_size"),
    ({"hyperparameters": {"gradient_checkpointing": "sometimes"}}, "hyperparameters.gradient_checkpointing"),
    ({"retry": {"on_events": []}}, "retry.on_events"),
    ({"retry": {"on_events": ["sunspots"]}}, "retry.on_events.0"),
    ({"retry": {"on_events": ["interruption"], "max_restarts_on_errors": 2}}, "retry.max_restarts_on_errors"),
    ({"env": {"A B": "x"}}, "env.A B"),
    ({"env": {"A": "x\u0000y"}}, "env.A"),
    ({"tenant_id": "tenant_other"}, "tenant_id"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_JOBS, ids=[f"{field}-{n}" for n, (_, field) in enumerate(BAD_JOBS)])
async def test_a_bad_job_is_refused_at_the_door_with_its_field(
    house: House, fields: dict[str, Any], field: str
) -> None:
    await house.dataset(house.ann)
    answer = await house.ann.post("/v1/jobs", json=job_file(**fields))
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["detail"]
    named = problem.get("field") or problem["errors"][0]["field"]
    assert named == field, problem
    assert await house.told(events.JobSubmitted) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"name": NaN}', b"\xff", b"[" * 100_000, b"null"])
async def test_what_is_no_job_file_is_refused(house: House, body: bytes) -> None:
    answer = await house.ann.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_of_many_requests_with_one_key_one_makes_a_job(house: House) -> None:
    await house.dataset(house.ann)
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(*(house.ann.post("/v1/jobs", json=job_file(), headers=headers) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 7
    assert len(await house.told(events.JobSubmitted)) == 1
    other = await house.ann.post("/v1/jobs", json=job_file(name="other"), headers=headers)
    assert other.status_code == 422
    await house.dataset(house.bob)
    bobs = await house.bob.post("/v1/jobs", json=job_file(), headers=headers)
    assert bobs.json()["id"] != answers[0].json()["id"]


async def test_a_refused_request_does_not_use_up_its_key(house: House) -> None:
    headers = {"Idempotency-Key": "again"}
    assert (await house.ann.post("/v1/jobs", json=job_file(), headers=headers)).status_code == 422
    await house.dataset(house.ann)
    assert (await house.ann.post("/v1/jobs", json=job_file(), headers=headers)).status_code == 202


async def test_a_job_is_cancelled_once_and_not_after_its_end(house: House) -> None:
    job = await house.job(house.ann)
    for _ in range(2):
        answer = await house.ann.post(f"/v1/jobs/{job['id']}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
    (asked,) = await house.told(events.JobCancelRequested)
    cancelled = events.JobCancelled(job_id=job["id"], tenant_id=asked.tenant_id, ended_at=asked.requested_at)
    await house.bus.publish(cancelled)
    await house.bus.settle()
    assert (await house.ann.get(f"/v1/jobs/{job['id']}")).json()["state"] == "cancelled"
    assert (await house.ann.post(f"/v1/jobs/{job['id']}/cancel")).status_code == 409


async def test_a_waiting_job_shows_why_and_until_when(house: House) -> None:
    job = await house.job(house.ann, priority="high")
    (submitted,) = await house.told(events.JobSubmitted)
    assert submitted.spec.priority == events.PRIORITY_HIGH
    assert (job["spec"]["priority"], job["waiting"]) == ("high", None)
    at = timestamp(house.world.now())
    ids = {"job_id": job["id"], "tenant_id": submitted.tenant_id}
    held = events.JobHeld(
        **ids, rule="quota", detail="2 of 2 run", held_at=at, since=at, expected_start=at, latest_start=at, position=3
    )
    await house.bus.publish(held)
    await house.bus.settle()
    shown = (await house.ann.get(f"/v1/jobs/{job['id']}")).json()
    waiting = shown["waiting"]
    assert (shown["state"], waiting["rule"], waiting["detail"], waiting["position"]) == (
        "held",
        "quota",
        "2 of 2 run",
        3,
    )
    assert waiting["expected_start"] == waiting["latest_start"] == waiting["since"]
    assert waiting["earliest_start"] is None, "nobody said"
    (listed,) = (await house.ann.get("/v1/jobs", params={"state": "held"})).json()["data"]
    assert listed["waiting"] == waiting
    await house.bus.publish(events.AttemptStarted(**ids, attempt=1, started_at=at))
    await house.bus.settle()
    assert (await house.ann.get(f"/v1/jobs/{job['id']}")).json()["waiting"] is None


async def test_a_plan_is_answered_when_the_optimizer_has_spoken(house: House) -> None:
    await house.dataset(house.ann)
    asking = asyncio.create_task(house.ann.post("/v1/plans", json=job_file()))
    request = await _planned(house)
    placement = events.Placement(instance_type="g5.xlarge", capacity_type=events.CAPACITY_TYPE_SPOT)
    await house.bus.publish(
        events.PlanProposed(
            job_id=request.job_id,
            tenant_id=request.tenant_id,
            plan_id="plan_x",
            preview=True,
            candidates=[events.Candidate(placement=placement)],
            proposed_at=request.requested_at,
        )
    )
    await house.bus.settle()
    answer = await asking
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["id"], plan["status"]) == (request.job_id, "proposed")
    assert plan["candidates"][0]["placement"]["capacity_type"] == "spot"
    assert (await house.ann.get(f"/v1/plans/{plan['id']}")).json() == plan
    assert (await house.ann.get("/v1/plans")).json()["data"] == [plan]


async def test_a_refused_plan_says_what_binds_and_what_to_do(house: House) -> None:
    await house.dataset(house.ann)
    asking = asyncio.create_task(house.ann.post("/v1/plans", json=job_file(deadline="1m")))
    request = await _planned(house)
    await house.bus.publish(
        events.PlanRefused(
            job_id=request.job_id,
            tenant_id=request.tenant_id,
            preview=True,
            reason="deadline",
            detail="3 h are needed.",
            advice="Allow 3 h.",
            refused_at=request.requested_at,
        )
    )
    await house.bus.settle()
    answer = await asking
    assert answer.status_code == 422
    assert answer.json()["detail"] == "3 h are needed. Allow 3 h."
    assert answer.json()["reason"] == "deadline"


async def test_a_plan_that_takes_longer_has_an_address(house: House) -> None:
    await house.dataset(house.ann)
    house.world.settings.plan_wait_seconds = 0.05
    answer = await house.ann.post("/v1/plans", json=job_file(), headers={"Idempotency-Key": "p"})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert (await house.ann.get(answer.headers["location"])).json()["status"] == "pending"
    again = await house.ann.post("/v1/plans", json=job_file(), headers={"Idempotency-Key": "p"})
    assert again.json()["id"] == answer.json()["id"]


async def _planned(house: House) -> Any:
    async def told() -> list[Any]:
        return await house.told(events.PlanRequested)

    return (await wait_for(told))[0]


async def trained(
    house: House, tenant_id: str, version: int = 1, dataset_uri: str = "", folder: str = "models/bot"
) -> None:
    await house.bus.publish(
        events.ModelVersionReady(
            model_id=f"model_of_{tenant_id}",
            tenant_id=tenant_id,
            version=version,
            name="bot",
            base_model_id="tiny-llama",
            base_uri="builtin://tiny-llama",
            artifact_uri=f"s3://sskai/{folder}/{version}",
            dataset_uri=dataset_uri,
            eval_loss_after=float("nan"),
            ready_at=timestamp(house.world.now()),
        )
    )
    await house.bus.settle()


async def test_models_are_listed_as_openai_lists_them(house: House) -> None:
    job = await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    await trained(house, submitted.tenant_id)
    models = {model["id"]: model for model in (await house.ann.get("/v1/models")).json()["data"]}
    assert job["name"] == "bot"
    assert models["bot@1"]["parent"] == "tiny-llama"
    assert models["tiny-llama"]["available"]
    assert not models["qwen3-8b"]["available"]
    assert models["qwen3-8b"]["parameters"] == 8_190_735_360
    assert models["qwen3-8b"]["context_tokens"] == 40_960
    assert all(model["object"] == "model" and model["created"] and model["owned_by"] for model in models.values())
    assert "bot@1" not in (await house.bob.get("/v1/models")).text
    assert (await house.ann.get("/v1/models/bot")).json() == models["bot@1"]


@pytest.mark.parametrize("reference", ["bot@1", "model://bot/1", "bot"])
async def test_an_endpoint_serves_a_trained_version(house: House, reference: str) -> None:
    await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    await trained(house, submitted.tenant_id)
    answer = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": reference})
    assert answer.status_code == 202, answer.text
    endpoint = answer.json()
    assert (endpoint["state"], endpoint["model"], endpoint["version"]) == ("requested", "bot@1", 1)
    (requested,) = await house.told(events.EndpointRequested)
    assert (requested.artifact_uri, requested.base_uri) == ("s3://sskai/models/bot/1", "builtin://tiny-llama")
    taken = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": reference})
    assert taken.status_code == 409
    ready = events.EndpointReady(
        endpoint_id=endpoint["id"], tenant_id=requested.tenant_id, ready_at=requested.requested_at
    )
    await house.bus.publish(ready)
    await house.bus.settle()
    assert (await house.ann.get(f"/v1/endpoints/{endpoint['id']}")).json()["state"] == "ready"
    assert (await house.ann.delete(f"/v1/endpoints/{endpoint['id']}")).json()["state"] == "deleting"
    assert (await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "tiny-llama"})).status_code == 202


@pytest.mark.parametrize("model", ["nothing", "bot@2", "bot@champion", "qwen3-8b", "../etc"])
async def test_an_endpoint_for_a_model_that_is_not_there_is_refused(house: House, model: str) -> None:
    answer = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": model})
    assert answer.status_code == 422
    assert answer.json().get("field", "model") == "model"


async def test_lists_come_in_pages(house: House) -> None:
    made = [await house.dataset(house.ann, f"d{number}") for number in range(5)]
    first = (await house.ann.get("/v1/datasets", params={"limit": 2})).json()
    assert [dataset["name"] for dataset in first["data"]] == ["d4", "d3"]
    assert first["has_more"]
    second = (await house.ann.get("/v1/datasets", params={"limit": 2, "after": first["next"]})).json()
    last = (await house.ann.get("/v1/datasets", params={"limit": 2, "after": second["next"]})).json()
    assert [dataset["id"] for dataset in (*second["data"], *last["data"])] == [made[n]["id"] for n in (2, 1, 0)]
    assert (last["has_more"], last["next"]) == (False, None)
    assert (await house.ann.get("/v1/datasets", params={"limit": 101})).status_code == 422
    assert (await house.ann.get("/v1/datasets", params={"after": "\0"})).status_code == 422
