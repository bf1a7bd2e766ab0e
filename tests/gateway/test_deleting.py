"""Versions go when their owner says so and nothing uses them; then their objects go, and their numbers stay taken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from services.gateway.deleting import purge_deleted
from services.gateway.tables import PurgeRow
from sskai.events import v1 as events
from tests.gateway.conftest import House, job_file, jsonl
from tests.gateway.test_api import trained

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def is_there(house: House, key: str) -> bool:
    return bool(await asyncio.to_thread(house.world.objects.list, key))


async def key_of(house: House, dataset: Any) -> str:
    told = await house.told(events.DatasetValidated)
    return house.world.objects.key(next(one.uri for one in told if one.dataset_id == dataset["id"]))


async def purge(house: House) -> None:
    await purge_deleted(house.world.database, house.world.objects)


async def test_a_dataset_goes_with_its_object_and_its_number_is_not_given_again(house: House) -> None:
    first = await house.dataset(house.ann)
    key = await key_of(house, first)
    unclear = await house.ann.delete("/v1/datasets/support")
    assert (unclear.status_code, unclear.json()["field"]) == (422, "dataset_id")
    answer = await house.ann.delete("/v1/datasets/support@1")
    assert answer.json() == {"id": first["id"], "object": "dataset", "deleted": True}
    assert (await house.ann.delete(f"/v1/datasets/{first['id']}")).status_code == 404
    assert (await house.ann.get("/v1/datasets")).json()["data"] == []
    (deleted,) = await house.told(events.DatasetDeleted)
    assert (deleted.dataset_id, deleted.version) == (first["id"], 1)
    again = await house.dataset(house.ann)
    assert (again["version"], again["sha256"]) == (2, first["sha256"])
    await purge(house)
    assert not await is_there(house, key)
    assert (await house.ann.get(f"/v1/files/{again['id']}/content")).status_code == 200
    assert (await house.ann.post("/v1/jobs", json=job_file())).json()["field"] == "dataset.uri"


async def test_a_dataset_stays_while_a_job_or_an_endpoint_uses_it(house: House) -> None:
    job = await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    refused = await house.ann.delete("/v1/datasets/support@1")
    assert (refused.status_code, job["id"] in refused.json()["detail"]) == (409, True)
    ids = {"job_id": job["id"], "tenant_id": submitted.tenant_id}
    await house.bus.publish(events.JobSucceeded(**ids, ended_at=submitted.submitted_at))
    await trained(house, submitted.tenant_id, dataset_uri=submitted.spec.dataset.uri)
    made = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "bot@1"})
    assert made.status_code == 202
    assert "endpoint chat" in (await house.ann.delete("/v1/datasets/support@1")).json()["detail"]
    await house.ann.delete(f"/v1/endpoints/{made.json()['id']}")
    assert (await house.ann.delete("/v1/datasets/support@1")).status_code == 200


async def test_a_model_stays_while_something_stands_on_it(house: House) -> None:
    await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    await trained(house, submitted.tenant_id, folder=submitted.job_id)
    assert (await house.ann.delete("/v1/models/tiny-llama")).status_code == 403
    assert (await house.ann.delete("/v1/models/bot")).status_code == 422
    assert (await house.bob.delete("/v1/models/bot@1")).status_code == 404
    endpoint = (await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "bot@1"})).json()
    refused = await house.ann.delete("/v1/models/bot@1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "the_model_is_in_use")
    assert "endpoint chat" in refused.json()["detail"]
    await house.ann.put("/v1/models/bot/aliases/champion", json={"version": 1})
    (requested,) = await house.told(events.EndpointRequested)
    await house.ann.delete(f"/v1/endpoints/{endpoint['id']}")
    key = house.world.objects.key(f"s3://sskai/{submitted.job_id}/1")
    await asyncio.to_thread(house.world.objects.put_bytes, f"{key}/adapter_config.json", b"{}")
    assert (await house.ann.delete("/v1/models/bot@1")).json()["deleted"]
    (deleted,) = await house.told(events.ModelDeleted)
    assert (deleted.name, deleted.version) == ("bot", 1)
    assert (await house.ann.get("/v1/models/bot/aliases/champion")).status_code == 404
    assert (await house.ann.post("/v1/endpoints", json={"name": "x", "model": "bot@1"})).status_code == 422
    await purge(house)
    assert await is_there(house, key), "the endpoint is not gone yet"
    gone = events.EndpointDeleted(
        endpoint_id=endpoint["id"], tenant_id=requested.tenant_id, deleted_at=requested.requested_at
    )
    await house.bus.publish(gone)
    await house.bus.settle()
    async with house.world.database.transaction() as session:
        await session.execute(update(PurgeRow).values(due_at=house.world.now()))
    await purge(house)
    assert not await is_there(house, key)


async def test_a_job_and_a_deletion_at_once_do_not_pass_each_other(house: House) -> None:
    """Either the job has its dataset, or the dataset is gone and the job is refused."""
    for number in range(6):
        await house.ann.post(
            "/v1/datasets",
            params={"name": f"d{number}"},
            content=jsonl([{"text": f"{number}"}]),
            headers={"Content-Type": "application/jsonl"},
        )
        dataset = {"uri": f"dataset://d{number}/1"}
        submitted, deleted = await asyncio.gather(
            house.ann.post("/v1/jobs", json=job_file(name=f"bot-{number}", dataset=dataset)),
            house.ann.delete(f"/v1/datasets/d{number}@1"),
        )
        assert (submitted.status_code, deleted.status_code) in ((202, 409), (422, 200))
