"""The Python client against the real gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner

from sskai.cli import app
from sskai.client import AsyncClient, Client, SskaiError
from sskai.client.documents import Job
from sskai.events import v1 as events
from sskai.testing import wait_for
from tests.gateway.conftest import ROWS, House, job_file, jsonl

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_journey_by_the_client(house: House, tmp_path: Path) -> None:
    path = tmp_path / "support.jsonl"
    path.write_bytes(jsonl(ROWS))
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")

    def submit() -> Job:
        with Client(house.url, key) as sskai:
            dataset = sskai.datasets.upload(path, name="support")
            assert sskai.datasets.preview(dataset["id"], rows=1) == ROWS[:1]
            assert [found["id"] for found in sskai.datasets.list()] == [dataset["id"]]
            assert "tiny-llama" in [model["id"] for model in sskai.models.list()]
            path.write_bytes(jsonl([{"text": "fine"}, {"text": 7}]))
            with pytest.raises(SskaiError) as refused:
                sskai.datasets.upload(path, name="support")
            assert refused.value.problem["row"] == 2
            job = sskai.jobs.create(job_file(dataset={"uri": dataset["uri"]}))
            assert sskai.jobs.cancel(job["id"])["state"] == "cancelling"
            endpoint = sskai.endpoints.create("chat", "tiny-llama")
            assert sskai.endpoints.delete(endpoint["id"])["state"] == "deleting"
            return job

    job = await asyncio.to_thread(submit)
    await house.bus.settle()

    def listen() -> list[str]:
        with Client(house.url, key) as sskai:
            facts = sskai.events(after=0, subject=job["id"])
            return [next(facts).type for _ in range(2)]

    assert await asyncio.to_thread(listen) == ["JobSubmitted", "JobCancelRequested"]


async def test_the_client_with_await_does_the_same(house: House, tmp_path: Path) -> None:
    path = tmp_path / "support.jsonl"
    path.write_bytes(jsonl(ROWS))
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")
    async with AsyncClient(house.url, key) as sskai:
        dataset = await sskai.datasets.upload(path, name="support")
        assert await sskai.datasets.preview(dataset["id"], rows=1) == ROWS[:1]
        jobs = [await sskai.jobs.create(job_file(dataset={"uri": dataset["uri"]})) for _ in range(3)]
        listed = [job["id"] async for job in sskai.jobs.list()]
        assert listed == [job["id"] for job in reversed(jobs)]
        await sskai.jobs.cancel(jobs[0]["id"])
        await house.bus.settle()
        facts = sskai.events(after=0, subject=jobs[0]["id"])
        assert [(await anext(facts)).type for _ in range(2)] == ["JobSubmitted", "JobCancelRequested"]
        with pytest.raises(SskaiError, match="No such job"):
            await sskai.jobs.get("job_of_nobody")


async def test_a_plan_is_replayed_and_an_endpoint_planned_by_the_client(house: House) -> None:
    await house.dataset(house.ann)
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")
    house.world.settings.plan_wait_seconds = 0  # the client waits for what the gateway does not

    def by_client(method: str, *arguments: Any) -> Any:
        with Client(house.url, key) as sskai:
            return getattr(sskai.plans, method)(*arguments, poll_seconds=0.02)

    async def asked(kind: type[Message]) -> Any:
        async def told() -> list[Any]:
            return await house.told(kind)

        return (await wait_for(told))[0]

    planning = asyncio.create_task(asyncio.to_thread(by_client, "create", job_file()))
    request = await asked(events.PlanRequested)
    now, tenant_id = request.requested_at, request.tenant_id
    proposed = events.PlanProposed(
        job_id=request.job_id, tenant_id=tenant_id, plan_id="plan_of_the_optimizer", preview=True, proposed_at=now
    )
    await house.bus.publish(proposed)
    await house.bus.settle()
    plan = await planning
    replaying = asyncio.create_task(asyncio.to_thread(by_client, "replay", plan["id"]))
    request = await asked(events.PlanReplayRequested)
    assert request.plan_id == "plan_of_the_optimizer"
    replayed = events.PlanReplayed(
        plan_id=request.plan_id, tenant_id=tenant_id, replay_id=request.replay_id, equal=True, replayed_at=now
    )
    await house.bus.publish(replayed)
    await house.bus.settle()
    assert (await replaying)["equal"]

    traffic = {"requests_per_day": 9, "input_tokens_per_request": 9, "output_tokens_per_request": 9}
    file = {"kind": "endpoint", "name": "chat", "model": {"base": "tiny-llama"}, "traffic": traffic}
    planning = asyncio.create_task(asyncio.to_thread(by_client, "create", file))
    request = await asked(events.EndpointPlanRequested)
    refused = events.PlanRefused(
        job_id=request.plan_id, tenant_id=tenant_id, preview=True, reason="budget", detail="Too dear.", refused_at=now
    )
    await house.bus.publish(refused)
    await house.bus.settle()
    with pytest.raises(SskaiError, match="Too dear") as told:
        await planning
    assert told.value.problem["reason"] == "budget"


async def test_the_console_is_opened_with_a_link_that_signs_in_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSKAI_GATEWAY_URL", house.url)
    monkeypatch.setenv("SSKAI_API_KEY", house.ann.headers["Authorization"].removeprefix("Bearer "))
    printed = await asyncio.to_thread(CliRunner().invoke, app, ["console", "--print"])
    assert printed.exit_code == 0, printed.output
    page, _, token = printed.output.strip().partition("#link=")
    assert page == f"{house.url}/signin"
    house.ann.headers.pop("Authorization")
    assert (await house.ann.post("/v1/session", json={"link": token})).status_code == 201
    assert (await house.ann.post("/v1/session", json={"link": token})).status_code == 401
