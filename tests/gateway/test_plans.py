"""Dry runs of jobs and endpoints, and replays, with the optimizer's answers told as events."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from google.protobuf.message import Message
from sqlalchemy.engine import URL, make_url

from services.gateway.loops import forget
from sskai.contract import new_id, timestamp
from sskai.database import migrate
from sskai.events import v1 as events
from sskai.testing import wait_for
from tests.gateway.conftest import MODEL, House, job_file

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRAFFIC = {"requests_per_day": 2000, "input_tokens_per_request": 300, "output_tokens_per_request": 150}
SPOT = events.Placement(instance_type="g6.xlarge", capacity_type=events.CAPACITY_TYPE_SPOT, price_usd_per_hour=0.24)


def endpoint_file(**fields: Any) -> dict[str, Any]:
    return {"kind": "endpoint", "name": "bot", "model": {"base": MODEL}, "traffic": TRAFFIC, **fields}


async def asked(house: House, kind: type[Message], number: int = 1) -> Any:
    """The newest request that the gateway told, once there are `number` of them."""

    async def told() -> list[Any]:
        found = await house.told(kind)
        return found if len(found) >= number else []

    return (await wait_for(told))[-1]


async def tell(house: House, *messages: Message) -> None:
    await house.bus.publish(*messages)
    await house.bus.settle()


async def planned(house: House, **fields: Any) -> tuple[dict[str, Any], events.PlanRequested]:
    """A dry run that the optimizer answered under an id of its own."""
    await house.dataset(house.ann)
    asking = asyncio.create_task(house.ann.post("/v1/plans", json=job_file(**fields)))
    request = await asked(house, events.PlanRequested)
    await tell(
        house,
        events.PlanProposed(
            job_id=request.job_id,
            tenant_id=request.tenant_id,
            plan_id=new_id("plan"),
            preview=True,
            candidates=[events.Candidate(placement=SPOT)],
            proposed_at=request.requested_at,
        ),
    )
    return (await asking).json(), request


def replayed(request: events.PlanReplayRequested, **fields: Any) -> events.PlanReplayed:
    return events.PlanReplayed(
        **{
            "plan_id": request.plan_id,
            "tenant_id": request.tenant_id,
            "replay_id": request.replay_id,
            "policy": request.policy,
            "planner_version": "2",
            "stored_planner_version": "2",
            "replayed_at": request.requested_at,
            **fields,
        }
    )


@pytest.mark.parametrize("method", ["lora", "qlora", "full", "scratch"])
async def test_a_plan_may_be_asked_for_what_cannot_be_trained_yet(house: House, method: str) -> None:
    plan, request = await planned(
        house,
        model={"base": "qwen3-8b", "method": method},
        resources={"nodes": "1..4"},
        hyperparameters={"gradient_checkpointing": True},
    )
    assert (plan["kind"], plan["status"]) == ("finetune", "proposed")
    assert (request.spec.model.method, request.spec.resources.nodes) == (method, "1..4")
    assert request.spec.hyperparameters.gradient_checkpointing


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"resources": {"nodes": 9}}, "resources.nodes"),
    ],
)
async def test_a_job_that_cannot_be_trained_yet_is_refused_at_the_door(
    house: House, fields: dict[str, Any], field: str
) -> None:
    await house.dataset(house.ann)
    answer = await house.ann.post("/v1/jobs", json=job_file(**fields))
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert "not trained yet" in answer.json()["detail"]
    assert await house.told(events.JobSubmitted) == []


async def test_a_job_is_submitted_with_what_the_trainer_can_do(house: House) -> None:
    await house.job(house.ann, resources={"nodes": "1..40"})
    (submitted,) = await house.told(events.JobSubmitted)
    assert submitted.spec.resources.nodes == "1..8"
    assert not submitted.spec.hyperparameters.HasField("gradient_checkpointing"), "the planner's choice"


async def test_an_endpoint_is_planned_with_everything_resolved(house: House) -> None:
    file = endpoint_file(
        latency={"p95_seconds": 8, "tokens_per_second": 20},
        budget={"usd_per_month": 100},
        resources={"regions": ["us-east-1"], "accelerators": "L4:1"},
    )
    asking = asyncio.create_task(house.ann.post("/v1/plans", json=file))
    request = await asked(house, events.EndpointPlanRequested)
    spec = request.spec
    assert (spec.model.model_id, spec.model.uri, spec.model.method) == (MODEL, f"builtin://{MODEL}", "")
    assert "LlamaForCausalLM" in spec.model.config_json
    assert (spec.requests_per_day, spec.input_tokens_per_request, spec.output_tokens_per_request) == (2000, 300, 150)
    assert (spec.peak_to_mean, spec.p95_latency_seconds, spec.tokens_per_second) == (3, 8, 20)
    assert (spec.budget_usd_per_month, spec.base_is_running) == (100, False)
    assert (list(spec.resources.regions), spec.resources.accelerators) == (["us-east-1"], "L4:1")
    await tell(
        house,
        events.EndpointPlanProposed(
            plan_id=request.plan_id,
            tenant_id=request.tenant_id,
            options=[events.EndpointOption(kind="serverless", placement=SPOT, usd_per_month=41.5, meets=True)],
            explanation="Serverless is the cheapest.",
            proposed_at=request.requested_at,
        ),
    )
    answer = await asking
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["id"], plan["kind"], plan["status"], plan["job_id"]) == (
        request.plan_id,
        "endpoint",
        "proposed",
        None,
    )
    assert plan["options"][0]["placement"]["capacity_type"] == "spot"
    assert (await house.ann.get(f"/v1/plans/{plan['id']}")).json() == plan
    assert (await house.ann.get("/v1/plans")).json()["data"] == [plan]
    assert (await house.bob.get(f"/v1/plans/{plan['id']}")).status_code == 404


async def test_what_is_not_said_of_an_endpoint_stays_unsaid(house: House) -> None:
    house.world.settings.plan_wait_seconds = 0
    answer = await house.ann.post("/v1/plans", json=endpoint_file())
    assert (answer.status_code, answer.json()["status"], answer.json()["kind"]) == (202, "pending", "endpoint")
    spec = (await asked(house, events.EndpointPlanRequested)).spec
    wishes = ("tokens_per_second", "p95_latency_seconds", "budget_usd_per_month")
    assert not any(spec.HasField(wish) for wish in wishes)


async def test_an_endpoint_that_nothing_can_serve_is_refused_with_its_reason(house: House) -> None:
    asking = asyncio.create_task(house.ann.post("/v1/plans", json=endpoint_file()))
    request = await asked(house, events.EndpointPlanRequested)
    await tell(
        house,
        events.PlanRefused(
            job_id=request.plan_id,
            tenant_id=request.tenant_id,
            plan_id=request.plan_id,
            preview=True,
            reason="memory",
            detail="16 GiB are needed.",
            advice="Choose a smaller model.",
            refused_at=request.requested_at,
        ),
    )
    answer = await asking
    assert (answer.status_code, answer.json()["reason"]) == (422, "memory")
    assert answer.json()["detail"] == "16 GiB are needed. Choose a smaller model."
    shown = (await house.ann.get(f"/v1/plans/{request.plan_id}")).json()
    assert (shown["status"], shown["kind"]) == ("refused", "endpoint")


BAD_ENDPOINTS: list[tuple[dict[str, Any], str]] = [
    ({"model": {"base": "no-such-model"}}, "model.base"),
    ({"model": {"base": MODEL, "artifact": "model://x/1"}}, "model"),
    ({"model": {"artifact": "model://x/1"}}, "model.artifact"),
    ({"model": {}}, "model.base"),
    ({"model": {"base": MODEL, "method": "lora"}}, "model.method"),
    ({"traffic": {}}, "traffic.requests_per_day"),
    ({"traffic": {**TRAFFIC, "requests_per_day": 0}}, "traffic.requests_per_day"),
    ({"traffic": {**TRAFFIC, "output_tokens_per_request": -1}}, "traffic.output_tokens_per_request"),
    ({"traffic": {**TRAFFIC, "peak_to_mean": 25}}, "traffic.peak_to_mean"),
    ({"trafic": TRAFFIC}, "trafic"),
    ({"latency": {"p95_seconds": 0}}, "latency.p95_seconds"),
    ({"budget": {"usd_per_month": -5}}, "budget.usd_per_month"),
    ({"budget": {"total_usd": 5}}, "budget.total_usd"),
    ({"resources": {"accelerators": "L5"}}, "resources.accelerators"),
    ({"resources": {"use_spot": True}}, "resources.use_spot"),
    ({"dataset": {"uri": "support"}}, "dataset"),
    ({"name": "Not A Name"}, "name"),
]


@pytest.mark.parametrize(("fields", "field"), BAD_ENDPOINTS, ids=[field for _, field in BAD_ENDPOINTS])
async def test_a_bad_endpoint_file_is_refused_with_its_field(house: House, fields: dict[str, Any], field: str) -> None:
    answer = await house.ann.post("/v1/plans", json=endpoint_file(**fields))
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert (problem.get("field") or problem["errors"][0]["field"]) == field, problem
    assert await house.told(events.EndpointPlanRequested) == []


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({**job_file(), "traffic": TRAFFIC}, "traffic"),
        ({**job_file(), "kind": "dream"}, "kind"),
        ({**job_file(), "kind": ["endpoint"]}, "kind"),
        ({"kind": "finetune"}, "name"),
        ([], ""),
        (None, ""),
    ],
)
async def test_the_kind_says_which_file_it_is(house: House, document: Any, field: str) -> None:
    answer = await house.ann.post("/v1/plans", json=document)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field, answer.text


async def test_a_ready_endpoint_on_the_same_base_is_told_to_the_planner(house: House) -> None:
    house.world.settings.plan_wait_seconds = 0
    await house.ann.post("/v1/plans", json=endpoint_file())
    tenant_id = (await asked(house, events.EndpointPlanRequested)).tenant_id
    await tell(
        house,
        events.ModelVersionReady(
            model_id=new_id("model"),
            tenant_id=tenant_id,
            version=1,
            name="bot",
            base_model_id=MODEL,
            base_uri=f"builtin://{MODEL}",
            artifact_uri="s3://sskai/models/bot/1",
            method="lora",
            ready_at=timestamp(house.world.now()),
        ),
    )
    endpoint_id = (await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "bot@1"})).json()["id"]
    whole = {"endpoint_id": endpoint_id, "tenant_id": tenant_id}
    now = timestamp(house.world.now())
    facts = [(None, False), (events.EndpointReady(**whole, ready_at=now), True)]
    facts.append((events.EndpointDeleted(**whole, deleted_at=now), False))
    for fact, running in facts:
        if fact is not None:
            await tell(house, fact)
        for client, expected in ((house.ann, running), (house.bob, False)):
            before = len(await house.told(events.EndpointPlanRequested))
            file = endpoint_file(model={"artifact": "model://bot/1"} if client is house.ann else {"base": MODEL})
            await client.post("/v1/plans", json=file)
            spec = (await asked(house, events.EndpointPlanRequested, before + 1)).spec
            assert spec.base_is_running is expected
            assert (spec.model.method, spec.model.uri) == ("lora" if client is house.ann else "", f"builtin://{MODEL}")
            assert "LlamaForCausalLM" in spec.model.config_json, "an adapter is planned with its base's architecture"


async def test_a_replay_is_answered_when_the_optimizer_has_decided_again(house: House) -> None:
    plan, dry_run = await planned(house)
    asking = asyncio.create_task(house.ann.post(f"/v1/plans/{plan['id']}/replay", json={"policy": None}))
    request = await asked(house, events.PlanReplayRequested)
    assert (plan["id"], request.plan_id) == (dry_run.job_id, plan["plan_id"]), "the optimizer's own id is told"
    assert (request.tenant_id, request.policy) == (dry_run.tenant_id, "")
    choice = events.Candidate(placement=SPOT, machine_count=1)
    await tell(house, replayed(request, equal=True, stored_choice=choice, choice=choice, snapshot_hash="ab"))
    answer = await asking
    assert answer.status_code == 200, answer.text
    replay = answer.json()
    assert (replay["equal"], replay["differences"], replay["policy"]) == (True, [], None)
    assert replay["choice"] == replay["stored_choice"]
    assert replay["choice"]["placement"]["instance_type"] == "g6.xlarge"
    assert (replay["planner_version"], replay["stored_planner_version"]) == ("2", "2")
    assert (replay["plan_id"], replay["status"]) == (plan["id"], "replayed")
    assert answer.headers["location"] == f"/v1/plans/{plan['id']}/replays/{replay['id']}"
    assert (await house.ann.get(answer.headers["location"])).json() == replay
    assert (await house.bob.get(answer.headers["location"])).status_code == 404


async def test_the_optimizers_own_id_names_the_same_plan(house: House) -> None:
    plan, _ = await planned(house)
    assert (await house.ann.get(f"/v1/plans/{plan['plan_id']}")).json() == plan
    house.world.settings.plan_wait_seconds = 0
    answer = await house.ann.post(f"/v1/plans/{plan['plan_id']}/replay")
    assert (answer.status_code, answer.json()["plan_id"]) == (202, plan["id"])
    assert (await asked(house, events.PlanReplayRequested)).plan_id == plan["plan_id"]


async def test_a_replay_by_another_policy_tells_the_differences(house: House) -> None:
    plan, _ = await planned(house)
    asking = asyncio.create_task(house.ann.post(f"/v1/plans/{plan['id']}/replay", json={"policy": "fastest"}))
    request = await asked(house, events.PlanReplayRequested)
    assert request.policy == "fastest"
    await tell(
        house, replayed(request, differences=["0.4 h sooner for 0.11 USD more"], stored_choice=events.Candidate())
    )
    replay = (await asking).json()
    assert (replay["equal"], replay["policy"], replay["choice"]) == (False, "fastest", None)
    assert replay["differences"] == ["0.4 h sooner for 0.11 USD more"]


async def test_what_cannot_be_replayed_says_why(house: House) -> None:
    plan, _ = await planned(house)
    asking = asyncio.create_task(house.ann.post(f"/v1/plans/{plan['id']}/replay", json={"policy": "greenest"}))
    request = await asked(house, events.PlanReplayRequested)
    await tell(house, replayed(request, problem="policy 'greenest' is unknown: write fastest"))
    answer = await asking
    assert answer.status_code == 422
    assert answer.json()["detail"] == "policy 'greenest' is unknown: write fastest"
    address = f"/v1/plans/{plan['id']}/replays/{answer.json()['replay_id']}"
    assert (await house.ann.get(address)).json()["status"] == "failed"


async def test_a_replay_that_takes_longer_has_an_address_and_one_key_asks_once(house: House) -> None:
    plan, _ = await planned(house)
    house.world.settings.plan_wait_seconds = 0
    path, headers = f"/v1/plans/{plan['id']}/replay", {"Idempotency-Key": "r"}
    answers = [await house.ann.post(path, json={"policy": "fastest"}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert (await house.ann.get(answers[0].headers["location"])).json()["status"] == "pending"
    assert len(await house.told(events.PlanReplayRequested)) == 1
    other = await house.ann.post(path, json={}, headers=headers)
    assert other.status_code == 422
    await tell(house, replayed(await asked(house, events.PlanReplayRequested), equal=True))
    assert (await house.ann.get(answers[0].headers["location"])).json()["status"] == "replayed"


async def test_a_plan_that_is_somebody_elses_or_not_made_yet_is_not_replayed(house: House) -> None:
    plan, _ = await planned(house)
    assert (await house.bob.post(f"/v1/plans/{plan['id']}/replay", json={})).status_code == 404
    assert (await house.ann.post("/v1/plans/plan_x/replay", json={})).status_code == 404
    house.world.settings.plan_wait_seconds = 0
    pending = (await house.ann.post("/v1/plans", json=job_file(name="other"))).json()
    assert (await house.ann.post(f"/v1/plans/{pending['id']}/replay", json={})).status_code == 409
    for body in ({"policy": "no such policy"}, {"polcy": "fastest"}, {"policy": 7}):
        refused = await house.ann.post(f"/v1/plans/{plan['id']}/replay", json=body)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == next(iter(body))
    assert await house.told(events.PlanReplayRequested) == []


async def test_a_forged_tenant_changes_no_plan_and_no_replay(house: House) -> None:
    plan, _ = await planned(house)
    house.world.settings.plan_wait_seconds = 0
    pending = (await house.ann.post("/v1/plans", json=endpoint_file())).json()
    address = (await house.ann.post(f"/v1/plans/{plan['id']}/replay")).headers["location"]
    request = await asked(house, events.PlanReplayRequested)
    bobs = (await house.bob.get("/v1/keys")).json()["data"][0]["tenant_id"]
    now = timestamp(house.world.now())
    await tell(
        house,
        replayed(request, tenant_id=bobs, equal=True),
        events.EndpointPlanProposed(plan_id=pending["id"], tenant_id=bobs, explanation="forged", proposed_at=now),
        events.PlanRefused(job_id=pending["id"], tenant_id=bobs, plan_id="plan_z", preview=True, refused_at=now),
    )
    assert (await house.ann.get(address)).json()["status"] == "pending"
    assert (await house.ann.get(f"/v1/plans/{pending['id']}")).json()["status"] == "pending"
    assert (await house.bob.get("/v1/plans")).json()["data"] == []


async def test_plans_and_replays_past_their_time_are_forgotten(house: House) -> None:
    plan, _ = await planned(house)
    house.world.settings.plan_wait_seconds = 0
    address = (await house.ann.post(f"/v1/plans/{plan['id']}/replay")).headers["location"]
    await forget(house.world.database, house.world.settings)
    assert (await house.ann.get(address)).status_code == 200
    house.world.settings.plan_retention_days = 1e-9
    await forget(house.world.database, house.world.settings)
    assert (await house.ann.get(f"/v1/plans/{plan['id']}")).status_code == 404
    assert (await house.ann.get(address)).status_code == 404


async def test_plans_that_were_stored_before_keep_the_optimizers_id(postgres: str) -> None:
    """Rows of revision 0001, of a dry run that was answered and of one that was not."""
    name = new_id("test")
    url = make_url(postgres).set(drivername="postgresql")
    async with await psycopg.AsyncConnection.connect(_text(url), autocommit=True) as server:
        await server.execute(f'CREATE DATABASE "{name}"')
        own = url.set(database=name)
        await asyncio.to_thread(migrate, _text(own.set(drivername="postgresql+psycopg")), "gateway", "0001")
        async with await psycopg.AsyncConnection.connect(_text(own), autocommit=True) as connection:
            await connection.execute(
                "INSERT INTO gateway.plans (id, tenant_id, job_id, preview, status, body, created_at) VALUES "
                """('a', 't', 'a', true, 'proposed', '{"plan_id": "b"}', now()),"""
                "('c', 't', 'c', true, 'pending', '{}', now())"
            )
            await asyncio.to_thread(migrate, _text(own.set(drivername="postgresql+psycopg")), "gateway")
            rows = await (
                await connection.execute("SELECT id, kind, plan_id FROM gateway.plans ORDER BY id")
            ).fetchall()
        await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    assert rows == [("a", "finetune", "b"), ("c", "finetune", None)]


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)
