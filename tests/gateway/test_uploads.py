"""Files in parts: through the gateway and straight to the object store; what is kept is what one request would keep."""

from __future__ import annotations

import asyncio
import hashlib
import io
from datetime import timedelta
from typing import Any

import httpx2
import pyarrow
import pyarrow.parquet
import pytest
from sqlalchemy import update

from services.gateway.tables import UploadRow
from services.gateway.upload_check import Checker
from sskai.events import v1 as events
from sskai.multipart import MIN_PART_BYTES
from tests.gateway.conftest import ROWS, House, jsonl
from tests.gateway.test_datafiles import image, zipped

pytestmark = pytest.mark.asyncio(loop_scope="session")

LINES = jsonl([{"text": f"line {number} " + "x" * 5_000} for number in range(2_300)])  # 11.5 MB: three parts


SMALL = jsonl(ROWS)


async def begin(house: House, data: bytes, client: httpx2.AsyncClient | None = None, **fields: Any) -> Any:
    form = {"bytes": len(data), "filename": "big.jsonl", "mime_type": "application/jsonl", "purpose": "fine-tune"}
    answer = await (client or house.ann).post("/v1/uploads", json={**form, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send(house: House, upload: Any, data: bytes, **fields: Any) -> httpx2.Response:
    return await house.ann.post(f"/v1/uploads/{upload['id']}/parts", files={"data": ("part", data)}, data=fields)


async def sent(house: House, upload: Any, *parts: bytes) -> list[str]:
    return [(await send(house, upload, part)).json()["id"] for part in parts]


async def complete(house: House, upload: Any, ids: list[str] | None, **fields: Any) -> httpx2.Response:
    return await house.ann.post(f"/v1/uploads/{upload['id']}/complete", json={"part_ids": ids, **fields})


async def loops(house: House) -> None:
    checker = Checker(house.world.database, house.world.objects)
    for large in (False, True):
        await checker.work(large=large)


async def objects_of(house: House, upload: Any) -> list[str]:
    tenant_id = (await house.ann.get("/v1/keys")).json()["data"][0]["tenant_id"]
    found = await asyncio.to_thread(house.world.objects.list, f"tenants/{tenant_id}/")
    return [info.key for info in found if upload["id"] in info.key]


def pieces(data: bytes) -> list[bytes]:
    return [data[start : start + MIN_PART_BYTES] for start in range(0, len(data), MIN_PART_BYTES)]


async def content(house: House, file_id: str) -> bytes:
    return (await house.ann.get(f"/v1/files/{file_id}/content")).content


async def test_parts_become_the_dataset_that_one_request_would_make(house: House) -> None:
    upload = await begin(house, LINES)
    assert (upload["status"], upload["object"], upload["file"], upload["name"]) == ("pending", "upload", None, "big")
    ids = await sent(house, upload, *pieces(LINES))
    listed = (await house.ann.get(f"/v1/uploads/{upload['id']}")).json()["parts"]
    assert [part["id"] for part in listed] == ids
    assert sum(part["bytes"] for part in listed) == len(LINES)
    answer = await complete(house, upload, ids, md5=hashlib.md5(LINES).hexdigest())
    done = answer.json()
    assert (answer.status_code, done["status"]) == (200, "completed")
    assert (done["file"]["filename"], done["file"]["bytes"]) == ("big.jsonl", len(LINES))
    assert (await complete(house, upload, ids)).json() == done
    (validated,) = await house.told(events.DatasetValidated)
    assert validated.sha256 == hashlib.sha256(LINES).hexdigest()
    assert await content(house, done["file"]["id"]) == LINES
    dataset = (await house.ann.get(f"/v1/datasets/{validated.dataset_id}")).json()
    assert (dataset["rows"], dataset["format"], dataset["version"]) == (2_300, "text", 1)
    await loops(house)
    assert await objects_of(house, upload) == [house.world.objects.key(validated.uri)]


async def test_the_same_content_is_the_same_version_and_leaves_nothing_behind(house: House) -> None:
    dataset = await house.dataset(house.ann, "big")
    upload = await begin(house, SMALL)
    done = await complete(house, upload, await sent(house, upload, SMALL))
    assert done.json()["file"]["id"] == dataset["id"]
    await loops(house)
    assert await objects_of(house, upload) == []
    assert len(await house.told(events.DatasetValidated)) == 1


async def test_parts_may_come_in_any_order_and_some_be_left_out(house: House) -> None:
    first, second, third = pieces(LINES)
    upload = await begin(house, LINES)
    ids = dict(zip("3x21", await sent(house, upload, third, b"unwanted" * 700_000, second, first), strict=True))
    done = (await complete(house, upload, [ids["1"], ids["2"], ids["3"]])).json()
    assert await content(house, done["file"]["id"]) == LINES
    await loops(house)
    assert [key.rpartition("/")[2] for key in await objects_of(house, upload)] == ["rows.jsonl"]


async def test_parts_go_straight_to_the_object_store(house: House) -> None:
    upload = await begin(house, LINES, part_bytes=MIN_PART_BYTES)
    answer = await house.ann.post(f"/v1/uploads/{upload['id']}/urls", json={"part_numbers": [3, 1, 2]})
    async with httpx2.AsyncClient() as anybody:
        for told in answer.json()["data"]:
            part = pieces(LINES)[told["part_number"] - 1]
            assert told["bytes"] == len(part)
            assert (await anybody.put(told["url"], content=part)).status_code == 200
            assert (await anybody.put(told["url"], content=part + b"x")).status_code == 403
    assert (await complete(house, upload, None)).json()["status"] == "completed"
    beyond = await begin(house, LINES, part_bytes=MIN_PART_BYTES)
    refused = await house.ann.post(f"/v1/uploads/{beyond['id']}/urls", json={"part_numbers": [4]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "part_numbers")


@pytest.mark.parametrize("kind", ["csv", "parquet", "zip", "sharegpt"])
async def test_other_kinds_become_what_one_request_makes_of_them(house: House, kind: str) -> None:
    table = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": f"row {number}"} for number in range(50)]), table)
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    data = {
        "csv": b"text,label\na,x\nb,y\n",
        "parquet": table.getvalue(),
        "zip": zipped(**{"cat/1.png": image(), "dog/1.png": image()}).getvalue(),
        "sharegpt": jsonl([{"conversations": turns}] * 3),
    }[kind]
    name = f"rows.{kind if kind != 'sharegpt' else 'jsonl'}"
    whole = await house.ann.post("/v1/datasets", data={"name": "whole"}, files={"file": (name, data)})
    upload = await begin(house, data, filename=name, mime_type="application/octet-stream", name="parts")
    answer = await complete(house, upload, await sent(house, upload, data))
    dataset = (await house.ann.get(f"/v1/datasets/{answer.json()['file']['id']}")).json()
    alike = ("format", "rows", "bytes", "sha256", "estimated_tokens", "report")
    assert [dataset[field] for field in alike] == [whole.json()[field] for field in alike]
    assert await content(house, dataset["id"]) == await content(house, whole.json()["id"])
    job = await house.ann.get(f"/v1/datasets/{dataset['id']}/preview")
    assert job.status_code == (422 if kind == "zip" else 200)


async def test_a_wrong_row_is_named_and_nothing_is_kept(house: House) -> None:
    data = jsonl([*ROWS, {"messages": [{"role": "robot", "content": "x"}]}])
    upload = await begin(house, data)
    ids = await sent(house, upload, data)
    for _ in range(2):
        refused = await complete(house, upload, ids)
        error = refused.json()["error"]
        assert (refused.status_code, error["row"], error["column"]) == (400, 10, "messages[0].role")
    known = (await house.ann.get(f"/v1/uploads/{upload['id']}")).json()
    assert (known["status"], known["problem"]["row"]) == ("failed", 10)
    (rejected,) = await house.told(events.DatasetRejected)
    assert (rejected.row, rejected.name) == (10, "big")
    await loops(house)
    assert await objects_of(house, upload) == []


async def test_a_large_file_is_checked_later_and_a_crash_repeats_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.world.settings.upload_checked_at_once_bytes = 1
    house.world.settings.upload_wait_seconds = 0
    upload = await begin(house, SMALL)
    answer = await complete(house, upload, await sent(house, upload, SMALL))
    assert (answer.json()["status"], answer.json()["file"]) == ("validating", None)
    too_late = await send(house, upload, b"x")
    assert too_late.status_code == 409

    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as crash:
        crash.setattr(Checker, "_keep", killed)
        with pytest.raises(asyncio.CancelledError):
            await loops(house)
    await loops(house)
    assert (await house.ann.get(f"/v1/uploads/{upload['id']}")).json()["status"] == "validating", "the lease stands"
    async with house.world.database.transaction() as session:
        this = UploadRow.upload_id == upload["id"]
        await session.execute(update(UploadRow).where(this).values(lease_until=house.world.now()))
    await loops(house)
    done = (await house.ann.get(f"/v1/uploads/{upload['id']}")).json()
    assert done["status"] == "completed"
    assert await content(house, done["file"]["id"]) == SMALL
    assert len(await house.told(events.DatasetValidated)) == 1


async def test_a_worker_that_lost_its_claim_keeps_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.world.settings.upload_checked_at_once_bytes = 1
    house.world.settings.upload_wait_seconds = 0
    upload = await begin(house, SMALL)
    await complete(house, upload, await sent(house, upload, SMALL))
    read = Checker._read

    def slowly(self: Checker, row: UploadRow, lost: asyncio.Event) -> Any:
        found = read(self, row, lost)
        row.lease_token = "somebody else's"
        return found

    monkeypatch.setattr(Checker, "_read", slowly)
    await loops(house)
    assert await house.told(events.DatasetValidated) == []
    assert (await house.ann.get("/v1/datasets")).json()["data"] == []


async def test_what_does_not_fit_together_is_said(house: House) -> None:
    upload = await begin(house, LINES)
    first = pieces(LINES)[0]
    ids = await sent(house, upload, first, b"small")
    for wrong, reason in (
        (ids, "were announced"),
        ([ids[0], ids[0]], "named twice"),
        ([], "no part was sent"),
        ([ids[0].rpartition("-")[0] + "-77"], "is not there"),
        (["part_of_another"], "no part of"),
    ):
        refused = await complete(house, upload, wrong)
        assert (refused.status_code, reason in refused.json()["error"]["message"]) == (400, True), refused.text
    another_small = await send(house, upload, b"small")
    assert another_small.status_code == 400
    replaced = await send(house, upload, b"x", part_number="1")
    assert (replaced.json()["part_number"], replaced.json()["bytes"]) == (1, 1)
    assert (await send(house, upload, b"")).status_code == 400
    wrong_sum = await begin(house, b"x" * 10)
    md5 = await complete(house, wrong_sum, await sent(house, wrong_sum, b"x" * 10), md5="0" * 32)
    assert "MD5" in md5.json()["error"]["message"]


async def test_uploads_are_given_up_and_expire(house: House) -> None:
    upload = await begin(house, LINES)
    await sent(house, upload, b"x" * 100)
    cancelled = await house.ann.post(f"/v1/uploads/{upload['id']}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    assert (await house.ann.post(f"/v1/uploads/{upload['id']}/cancel")).status_code == 200
    assert (await send(house, upload, b"x")).status_code == 409
    house.world.settings.upload_lifetime_hours = 1e-9
    abandoned = await begin(house, LINES)
    await loops(house)
    known = (await house.ann.get(f"/v1/uploads/{abandoned['id']}")).json()
    assert known["status"] == "expired"
    assert (await complete(house, abandoned, [])).status_code == 409
    assert [one["id"] for one in (await house.ann.get("/v1/uploads")).json()["data"]] == [abandoned["id"], upload["id"]]


async def test_an_upload_that_is_announced_twice_is_one(house: House) -> None:
    form = {"bytes": 9, "filename": "x", "mime_type": "", "purpose": "fine-tune"}
    answers = [await house.ann.post("/v1/uploads", json=form, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"


async def test_uploads_have_limits(house: House) -> None:
    settings = house.world.settings
    form = {"bytes": 10, "filename": "x", "mime_type": "", "purpose": "fine-tune"}
    huge = await house.ann.post("/v1/uploads", json={**form, "bytes": settings.max_upload_bytes + 1})
    assert (huge.status_code, huge.json()["error"]["param"]) == (413, "bytes")
    other = await house.ann.post("/v1/uploads", json={**form, "purpose": "batch"})
    assert (other.status_code, other.json()["error"]["param"]) == (400, "purpose")
    settings.max_open_uploads_per_tenant = 1
    upload = await begin(house, b"x" * 10)
    refused = await house.ann.post("/v1/uploads", json=form)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    await begin(house, b"x" * 10, house.bob)
    settings.max_open_uploads_per_tenant, settings.max_open_upload_bytes_per_tenant = 9, 15
    assert (await house.ann.post("/v1/uploads", json=form)).status_code == 429
    await house.ann.post(f"/v1/uploads/{upload['id']}/cancel")
    assert (await house.ann.post("/v1/uploads", json=form)).status_code == 200
    settings.max_open_upload_bytes_per_tenant = settings.max_upload_bytes
    body = b"x" * (65 * 1024 * 1024)
    large = await send(house, await begin(house, LINES), body)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")


async def test_old_uploads_are_forgotten(house: House) -> None:
    from services.gateway.loops import forget

    upload = await begin(house, b"x" * 10)
    await house.ann.post(f"/v1/uploads/{upload['id']}/cancel")
    await loops(house)
    async with house.world.database.transaction() as session:
        past = house.world.now() - timedelta(days=house.world.settings.upload_retention_days + 1)
        this = UploadRow.upload_id == upload["id"]
        await session.execute(update(UploadRow).where(this).values(ended_at=past))
    assert await forget(house.world.database, house.world.settings) >= 1
    assert (await house.ann.get(f"/v1/uploads/{upload['id']}")).status_code == 404
