"""/v1/events on a real socket: order, resumption, filters, isolation, limits, a clean end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from services.gateway.api import streaming
from services.gateway.handlers import HANDLERS
from services.gateway.store import Store
from sskai import delivery
from sskai.contract import timestamp
from sskai.events import v1 as events
from sskai.testing import envelope, handle, wait_for
from tests.gateway.conftest import House, client_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def stream(client: httpx2.AsyncClient, **options: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """What the stream brings, read in the background: dicts of SSE fields, comments under ''."""
    got: list[dict[str, Any]] = []

    async def read(answer: httpx2.Response) -> None:
        fields: dict[str, Any] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
            elif fields:
                got.append(fields)
                fields = {}
        got.append({"end": True})

    async with client.stream("GET", "/v1/events", **options) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        task = asyncio.create_task(read(answer))
        await wait_for(lambda: got)
        try:
            yield got
        finally:
            task.cancel()


def types_of(got: list[dict[str, Any]]) -> list[str]:
    return [fields["event"] for fields in got if "event" in fields]


async def held(house: House, job_id: str, tenant_id: str, detail: str) -> None:
    now = timestamp(house.world.now())
    await house.bus.publish(
        events.JobHeld(job_id=job_id, tenant_id=tenant_id, rule="quota", detail=detail, held_at=now)
    )
    await house.bus.settle()


async def submitted(house: House) -> events.JobSubmitted:
    await house.job(house.ann)
    first: events.JobSubmitted = (await house.told(events.JobSubmitted))[0]
    return first


async def test_a_stream_begins_now_and_a_broken_one_goes_on_where_it_was(house: House) -> None:
    job = await submitted(house)
    async with stream(house.ann) as got:
        await held(house, job.job_id, job.tenant_id, "first")
        await wait_for(lambda: types_of(got) == ["JobHeld"])
    event = next(fields for fields in got if "event" in fields)
    cloudevent = json.loads(event["data"])
    assert cloudevent["type"] == "sskai.events.v1.JobHeld"
    assert cloudevent["partitionkey"] == job.job_id
    assert cloudevent["data"]["detail"] == "first"
    await held(house, job.job_id, job.tenant_id, "second")
    await held(house, job.job_id, job.tenant_id, "third")
    async with stream(house.ann, headers={"Last-Event-ID": event["id"]}) as resumed:
        await wait_for(lambda: len(types_of(resumed)) == 2)
    details = [json.loads(fields["data"])["data"]["detail"] for fields in resumed if "event" in fields]
    assert details == ["second", "third"]


async def test_an_event_keeps_its_id_and_source_and_is_logged_once(house: House) -> None:
    job = await submitted(house)
    wrapped = envelope(events.JobAdmitted(job_id=job.job_id, tenant_id=job.tenant_id), source="scheduler")
    for _ in range(2):
        await handle(HANDLERS, house.world.database, Store, wrapped)
    async with stream(house.ann, params={"after": 0, "types": "JobAdmitted"}) as got:
        await wait_for(lambda: types_of(got) and any(fields.get("") == "still here" for fields in got))
    (event,) = [json.loads(fields["data"]) for fields in got if "event" in fields]
    assert (event["id"], event["source"]) == (wrapped.id, "scheduler")


async def test_a_reader_never_passes_an_event_that_commits_late(house: House) -> None:
    """An id is drawn before its commit: the second event has to wait, or a reader would go on after it."""
    job = await submitted(house)
    first, second = [
        envelope(events.JobAdmitted(job_id=job.job_id + suffix, tenant_id=job.tenant_id)) for suffix in "ab"
    ]
    async with stream(house.ann) as got:
        async with house.world.database.transaction() as slow:
            await delivery.remember(slow, first)
            await Store(slow).event_log.append(first.message, house.world.now(), None)
            quick = asyncio.create_task(handle(HANDLERS, house.world.database, Store, second))

            async def waits() -> bool:
                query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                return bool(await slow.scalar(text(query)))

            await wait_for(waits)
        await quick
        await wait_for(lambda: len(types_of(got)) == 2)
    assert [json.loads(fields["data"])["id"] for fields in got if "event" in fields] == [first.id, second.id]


async def test_filters_choose_by_type_and_subject(house: House) -> None:
    job = await submitted(house)
    await held(house, job.job_id, job.tenant_id, "x")
    async with stream(house.ann, params={"after": 0, "types": "JobHeld,sskai.events.v1.JobSubmitted"}) as got:
        await wait_for(lambda: types_of(got) == ["JobSubmitted", "JobHeld"])
    async with stream(house.ann, params={"after": 0, "subject": job.job_id}) as got:
        await wait_for(lambda: types_of(got) == ["JobSubmitted", "JobHeld"])
    unknown = await house.ann.get("/v1/events", params={"types": "JobExploded"})
    assert (unknown.status_code, unknown.json()["field"]) == (422, "types")


async def test_a_tenant_hears_nothing_of_another(house: House) -> None:
    job = await submitted(house)
    async with stream(house.bob, params={"after": 0}) as got:
        await held(house, job.job_id, job.tenant_id, "x")
        await house.dataset(house.bob)
        await house.bus.settle()
        await wait_for(lambda: types_of(got))
    assert types_of(got) == ["DatasetValidated"]


async def test_a_forged_tenant_reaches_neither_the_job_nor_a_log(house: House) -> None:
    job = await submitted(house)
    await house.dataset(house.bob, "bobs")
    (bobs,) = [event for event in await house.told(events.DatasetValidated) if event.name == "bobs"]
    await held(house, job.job_id, bobs.tenant_id, "forged")
    assert (await house.ann.get(f"/v1/jobs/{job.job_id}")).json()["state"] == "submitted"
    async with stream(house.bob, params={"after": 0}) as got:
        await wait_for(lambda: any(fields.get("") == "still here" for fields in got))
    assert types_of(got) == ["DatasetValidated"]


async def test_streams_are_limited_and_a_closed_one_frees_its_place(house: House) -> None:
    async with stream(house.ann), stream(house.ann):
        refused = await house.ann.get("/v1/events")
        assert refused.status_code == 429
        assert "retry-after" in refused.headers
        async with stream(house.bob):
            pass

    async def free() -> bool:
        async with house.ann.stream("GET", "/v1/events") as answer:
            return answer.status_code == 200

    await wait_for(free)


async def test_the_log_comes_in_pages_too(house: House) -> None:
    job = await submitted(house)
    for detail in ("first", "second", "third"):
        await held(house, job.job_id, job.tenant_id, detail)

    async def read(**params: Any) -> tuple[list[str], Any]:
        document = (await house.ann.get("/v1/events", params={"types": "JobHeld", "format": "json", **params})).json()
        return [item["event"]["data"]["detail"] for item in document["data"]], document["next"]

    assert await read() == (["first", "second", "third"], None)
    page, after = await read(limit=2)
    assert (page, await read(limit=2, after=after)) == (["first", "second"], (["third"], None))
    page, before = await read(limit=2, order="desc")
    assert (page, await read(limit=2, order="desc", after=before)) == (["third", "second"], (["first"], None))
    assert await read(subject="job_other") == ([], None)
    answer = await house.ann.get("/v1/events", headers={"Accept": "application/json"})
    assert answer.headers["content-type"] == "application/json"
    first = answer.json()["data"][0]
    assert (first["object"], first["event"]["specversion"]) == ("event", "1.0")
    assert (await house.bob.get("/v1/events", params={"format": "json"})).json()["data"] == []
    assert (await house.ann.get("/v1/events", params={"format": "xml"})).status_code == 422


@pytest.mark.parametrize("position", ["x", "-1", "9" * 25])
async def test_a_position_that_is_none_is_refused(house: House, position: str) -> None:
    assert (await house.ann.get("/v1/events", headers={"Last-Event-ID": position})).status_code == 422
    assert (await house.ann.get("/v1/events", params={"after": position})).status_code == 422


async def test_a_stream_ends_when_its_key_is_revoked_and_others_go_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "RECHECK_SECONDS", 0.05)
    made = (await house.ann.post("/v1/keys", json={"name": "short-lived"})).json()
    async with client_of(house.url, made["key"]) as other, stream(other) as ending, stream(house.ann) as going_on:
        await house.ann.delete(f"/v1/keys/{made['id']}")
        await wait_for(lambda: ending[-1] == {"end": True})
        assert not [fields for fields in going_on if "end" in fields]
