"""Handlers on a real database, and the gateway as a whole process on a real broker."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from services.gateway.app import ensure_admin_key
from services.gateway.handlers import HANDLERS
from services.gateway.keys import Keys
from services.gateway.loops import forget
from services.gateway.main import build
from services.gateway.settings import Settings
from services.gateway.store import Store
from sskai import contract
from sskai.contract import moment, timestamp
from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.testing import envelope, fresh_database, handle, heard, wait_for
from tests.gateway.conftest import ADMIN_KEY, House, job_file, jsonl
from tests.gateway.test_api import trained

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def submitted(house: House, **fields: Any) -> events.JobSubmitted:
    await house.job(house.ann, **fields)
    first: events.JobSubmitted = (await house.told(events.JobSubmitted))[0]
    return first


async def served(house: House, tenant_id: str) -> str:
    answer = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "tiny-llama"})
    return str(answer.json()["id"])


async def test_a_retrain_becomes_one_job_on_the_newest_data(house: House) -> None:
    parent = await submitted(house, deadline="6h", budget={"total_usd": 15})
    endpoint_id = await served(house, parent.tenant_id)
    await trained(house, parent.tenant_id)
    await house.dataset(house.ann, rows=[{"text": "drifted"}])
    request = events.RetrainRequested(
        endpoint_id=endpoint_id,
        tenant_id=parent.tenant_id,
        retrain_id=contract.new_id("retrain"),
        model_id="model_1",
        version=1,
        parent_job_id=parent.job_id,
        reason="drift",
        requested_at=timestamp(house.world.now()),
    )
    for _ in range(3):  # told by three different events, as after a crash of the monitor
        await house.bus.publish(request)
    child = (await house.told(events.JobSubmitted))[1:]
    assert len(child) == 1
    spec = child[0].spec
    assert (spec.dataset.version, spec.retrain_of.endpoint_id, spec.budget_usd) == (2, endpoint_id, 15)
    assert (parent.spec.champion.version, spec.champion.version) == (0, 1), "it is measured against what answers now"
    assert moment(spec.deadline) - moment(child[0].submitted_at) == moment(parent.spec.deadline) - moment(
        parent.submitted_at
    )
    jobs = (await house.ann.get("/v1/jobs")).json()["data"]
    assert [job["id"] for job in jobs] == [child[0].job_id, parent.job_id]


async def test_a_retrain_of_somebody_elses_job_is_not_made(house: House) -> None:
    parent = await submitted(house)
    endpoint_id = await served(house, parent.tenant_id)
    bobs = (await house.bob.get("/v1/keys")).json()["data"][0]["tenant_id"]
    request = events.RetrainRequested(
        endpoint_id=endpoint_id, tenant_id=bobs, retrain_id="retrain_x", parent_job_id=parent.job_id
    )
    await house.bus.publish(request)
    assert len(await house.told(events.JobSubmitted)) == 1


async def test_spend_is_summed_once_per_interval_and_the_receipt_is_shown(house: House) -> None:
    job = await submitted(house)
    for interval in (2, 1, 2, 1, 3):
        await house.bus.publish(
            events.SpendRecorded(
                job_id=job.job_id, tenant_id=job.tenant_id, interval=interval, amount_nano_usd=250_000_000 * interval
            )
        )
    receipt = events.ReceiptIssued(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        outcome="succeeded",
        paid_nano_usd=1_500_000_000,
        saving_fraction=0.7,
        issued_at=timestamp(house.world.now()),
    )
    await house.bus.publish(receipt)
    await house.bus.settle()
    shown = (await house.ann.get(f"/v1/jobs/{job.job_id}")).json()
    assert shown["spent_usd"] == pytest.approx(1.5)
    assert shown["receipt"]["saving_fraction"] == 0.7
    assert (await house.ann.get(f"/v1/receipts/{job.job_id}")).json()["paid_usd"] == pytest.approx(1.5)


async def test_a_job_submitted_by_an_event_is_shown_even_if_its_later_events_came_first(house: House) -> None:
    template = await submitted(house)
    job_id, now = contract.new_id("job"), timestamp(house.world.now())
    await house.bus.publish(
        events.AttemptStarted(job_id=job_id, tenant_id=template.tenant_id, attempt=1, started_at=now)
    )
    await house.bus.settle()
    assert (await house.ann.get(f"/v1/jobs/{job_id}")).status_code == 404
    await house.bus.publish(
        events.JobSubmitted(job_id=job_id, tenant_id=template.tenant_id, spec=template.spec, submitted_at=now)
    )
    await house.bus.settle()
    assert (await house.ann.get(f"/v1/jobs/{job_id}")).json()["state"] == "running"


async def test_every_event_of_a_tenant_has_a_handler() -> None:
    of_tenants = {kind for kind in contract.MESSAGES.values() if "tenant_id" in kind.DESCRIPTOR.fields_by_name}
    of_the_market = {events.PriceObserved, events.InterruptionNoticed, events.CapacityDenied}  # for timelines
    assert set(HANDLERS) == of_tenants | of_the_market


async def test_the_operators_key_follows_its_setting(house: House) -> None:
    world, key = house.world, "sskai_another-key-of-the-operator"
    world.settings.admin_key = SecretStr(key)
    await ensure_admin_key(world)
    await ensure_admin_key(world)
    assert (await house.ann.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})).status_code == 200
    assert (await house.admin.get("/v1/jobs")).status_code == 401
    world.settings.admin_key = SecretStr(ADMIN_KEY)
    await ensure_admin_key(world)
    assert (await house.admin.get("/v1/jobs")).status_code == 200
    async with world.database.transaction() as session:
        assert await Keys(session).principal(key, world.now()) is None


async def test_what_is_past_its_time_is_forgotten_and_the_rest_is_not(house: House) -> None:
    job = await submitted(house)
    headers = {"Idempotency-Key": "old"}
    first = await house.ann.post("/v1/jobs", json=job_file(), headers=headers)
    await house.bus.settle()
    assert await forget(house.world.database, house.world.settings) == 0
    long_ago = house.world.now() - timedelta(days=8)
    old = envelope(events.JobAdmitted(job_id=job.job_id, tenant_id=job.tenant_id))
    await handle(HANDLERS, house.world.database, Store, old, long_ago)
    assert await forget(house.world.database, house.world.settings) == 1
    house.world.settings.idempotency_retention_hours = 1e-9
    house.world.settings.max_events = 1
    assert await forget(house.world.database, house.world.settings) > 1
    again = await house.ann.post("/v1/jobs", json=job_file(), headers=headers)
    assert again.json()["id"] != first.json()["id"]


async def test_the_process_takes_a_job_tells_it_on_kafka_and_stops_without_cutting_a_stream(
    settings: Settings, objects: Objects, postgres: str, kafka: str
) -> None:
    async with fresh_database(postgres, "gateway") as database:
        own = settings.model_copy(
            update={
                "kafka_bootstrap": kafka,
                "database_url": SecretStr(database.url),
                "port": (await _free_port()),
                "otlp_url": None,
            }
        )
        gateway = build(own)
        gateway.world.objects = objects
        serving = asyncio.create_task(gateway.serve())
        url = f"http://127.0.0.1:{own.port}"
        async with httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await wait_for(ready, limit_seconds=30)
            async with client.stream("GET", "/v1/events", params={"types": "JobSubmitted"}) as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                await client.post(
                    "/v1/datasets?name=support",
                    content=jsonl([{"text": "a"}]),
                    headers={"Content-Type": "application/jsonl"},
                )
                job = (
                    await client.post("/v1/jobs", json=job_file(dataset={"uri": "support", "eval_fraction": 0}))
                ).json()
                lines_heard = [line async for line in lines if _stop_at(line, gateway, job["id"])]
            assert any("JobSubmitted" in line for line in lines_heard)
        await asyncio.wait_for(serving, 15)
        (envelope_,) = [one for one in await heard(kafka, "sskai.jobs.v1") if one.key == job["id"]]
        assert envelope_.source == "gateway"
        assert envelope_.traceparent
        assert job["trace_id"] == envelope_.traceparent.split("-")[1]


def _stop_at(line: str, gateway: Any, job_id: str) -> bool:
    """Begin the stop once the job was heard; the stream then ends by itself, not by a broken connection."""
    if job_id in line:
        gateway.stop()
    return True


async def _free_port() -> int:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
