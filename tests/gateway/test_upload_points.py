"""Uploads while the object store fails, lies or falls silent, or the process dies, at each request: in the end that is
there which one quiet try would have left, and nothing is there before its objects are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text, update

from services.gateway.deleting import purge_deleted
from services.gateway.tables import PurgeRow, UploadRow
from services.gateway.uploads import UploadState
from sskai.events import v1 as events
from sskai.failpoints import Action, points
from sskai.multipart import Multipart
from sskai.objects import ObjectsUnavailableError
from tests.gateway.conftest import House, jsonl
from tests.gateway.test_uploads import SMALL, begin, complete, content, loops, objects_of, send
from tests.gateway.test_weights import form
from tests.reliability.matrix import Crash
from tests.reliability.strikes import ENDS, SAYS_NO, each, struck

pytestmark = pytest.mark.asyncio(loop_scope="session")

TABLE = b"text,label\na,x\nb,y\n"
TRIES = 3


async def patiently(ask: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
    """The answer, once it is no longer that a part is away; a process that died answered nothing that anybody saw."""
    for _ in range(TRIES):
        answer = await ask()
        if answer.status_code < 500:
            return answer
    raise AssertionError(answer.text)


async def turns(house: House) -> None:
    """The loops, until all is done: of processes of which one may die, at times when all is due and leases are over."""
    for _ in range(TRIES):
        async with house.world.database.transaction() as session:
            values = {"due_at": text("clock_timestamp()"), "lease_until": None}
            await session.execute(update(UploadRow).where(UploadRow.due_at.is_not(None)).values(**values))
        with suppress(Crash, ObjectsUnavailableError):  # of a loop: it is turned again
            await loops(house)


@pytest.fixture
def later(house: House) -> None:
    """The loops check what was uploaded, not the request."""
    house.world.settings.upload_checked_at_once_bytes = 1
    house.world.settings.upload_wait_seconds = 0


async def state_of(house: House, upload: Any) -> Any:
    return (await house.ann.get(f"/v1/uploads/{upload['id']}")).json()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS))
@pytest.mark.parametrize("point", ["objects.size", "objects.get_range"])
async def test_a_table_is_read_whole_or_again(house: House, point: str, action: Action) -> None:
    upload = await begin(house, TABLE, filename="rows.csv", mime_type="text/csv")
    part = (await send(house, upload, TABLE)).json()["id"]
    assert (await complete(house, upload, [part])).json()["status"] == UploadState.VALIDATING
    with struck(point, action), suppress(Crash):
        await loops(house)
    assert (await state_of(house, upload))["status"] == UploadState.VALIDATING
    assert (await house.ann.get("/v1/datasets")).json()["data"] == []
    await turns(house)
    done = await state_of(house, upload)
    assert done["status"] == UploadState.COMPLETED
    assert await content(house, done["file"]["id"]) == jsonl([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    assert len(await house.told(events.DatasetValidated)) == 1


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS, Action.SKIP))
@pytest.mark.parametrize(
    "point", ["multipart.begin", "multipart.put", "multipart.parts", "multipart.complete", "multipart.abort"]
)
async def test_an_upload_in_parts_ends_whatever_goes_wrong(house: House, point: str, action: Action) -> None:
    if action not in points()[point]:
        return
    upload = await begin(house, SMALL)
    with struck(point, action):
        await patiently(lambda: send(house, upload, SMALL))
        completed = await patiently(lambda: complete(house, upload, None))
        assert completed.status_code == 200, completed.text
        await turns(house)
    done = await state_of(house, upload)
    assert done["status"] == UploadState.COMPLETED, done
    assert await content(house, done["file"]["id"]) == SMALL
    [key] = await objects_of(house, upload)
    folder, _, name = key.rpartition("/")
    assert name == "raw.jsonl"
    unfinished = await asyncio.to_thread(Multipart(house.world.objects).abort, f"{folder}/")
    assert unfinished == 0, "parts that nobody needs cost storage for ever"
    assert len(await house.told(events.DatasetValidated)) == 1


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS))
@pytest.mark.parametrize("nth", [1, 3])
async def test_a_model_is_stored_before_it_is_there(house: House, nth: int, action: Action) -> None:
    """And what was stored of an upload that broke off goes."""

    async def upload() -> httpx2.Response:
        return await house.ann.post("/v1/models", data={"name": "mine"}, files=form())

    with struck("objects.put_stream", action, nth):
        broken = await upload()
    assert broken.status_code == (503 if action in SAYS_NO else 500)
    assert "mine" not in (await house.ann.get("/v1/models")).text
    kept = await upload()
    assert (kept.status_code, kept.json()["id"]) == (201, "mine@1")
    tenant_id = (await house.ann.get("/v1/keys")).json()["data"][0]["tenant_id"]
    async with house.world.database.transaction() as session:
        of_ann = PurgeRow.tenant_id == tenant_id
        await session.execute(update(PurgeRow).where(of_ann).values(due_at=text("clock_timestamp()")))  # a day later
        begun = list(await session.scalars(select(PurgeRow.key).where(of_ann)))
    await purge_deleted(house.world.database, house.world.objects)
    stored = {key: await asyncio.to_thread(house.world.objects.list, key) for key in begun}
    assert {key: len(found) for key, found in stored.items() if found} == {f"models/{kept.json()['model_id']}/": 3}
    assert len(begun) == 2
