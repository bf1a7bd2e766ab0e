"""`/v1/uploads/ID/parts` and `/urls`: the parts of a large file, through here or straight to the object store."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from services.gateway import uploads
from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, Id, World, not_found
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from services.gateway.tables import UploadRow
from services.gateway.uploads import SMALL_PART, PartsError, Uploads, UploadState
from sskai.http import Problem
from sskai.multipart import MAX_PART_NUMBER, MIN_PART_BYTES, Multipart, Part
from sskai.objects import NotFoundError

router = APIRouter(prefix="/v1/uploads", tags=["OpenAI: uploads"])

URL_SECONDS = 900
MAX_URLS = 100
PartNumber = Annotated[int, Field(ge=1, le=MAX_PART_NUMBER)]
_PART = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {
                        "data": {"type": "string", "format": "binary"},
                        "part_number": {"type": "integer", "minimum": 1, "maximum": MAX_PART_NUMBER},
                    },
                }
            }
        },
    }
}


class UrlsForm(Form):
    part_numbers: Annotated[list[PartNumber], Field(min_length=1, max_length=MAX_URLS)]


@router.post("/{upload_id}/parts", openapi_extra=_PART)
async def add_part(upload_id: Id, request: Request, here: Here, caller: Caller) -> dict[str, Any]:
    """A part of at most 64 MiB, as the form's field `data`. All but one have 5 MiB at least.

    With `part_number` a part that was sent before is replaced; without, it gets the next number.
    """
    row = await pending(here, caller, upload_id)
    try:
        async with request.form(max_files=1, max_fields=2) as form:
            data = form.get("data")
            if not isinstance(data, UploadFile) or not data.size:
                raise Problem(422, "No part", "Send the part as the form's field `data`", field="data")
            number = await _number(here, row, form.get("part_number"), data.size)
            multipart_id = await _begun(here, row)
            try:
                etag = await asyncio.to_thread(Multipart(here.objects).put, row.key, multipart_id, number, data.file)
            except NotFoundError as error:
                raise Problem(409, "The upload is over", "Its parts are gone: begin again") from error
            return shown_part(row, Part(number, data.size, etag, here.now()))
    except ClientDisconnect as error:
        raise Problem(400, "The part broke off", "Send it again") from error


@router.post("/{upload_id}/urls")
async def make_urls(upload_id: Id, form: UrlsForm, here: Here, caller: Caller) -> dict[str, Any]:
    """URLs to PUT parts to, straight into the object store, within 15 minutes. Part n is `part_bytes` from byte
    (n - 1) x `part_bytes` on; a URL takes a body of exactly its `bytes`, and nothing else can be done with it."""
    row = await pending(here, caller, upload_id)
    multipart_id = await _begun(here, row)
    public = here.settings.objects_public_url
    multipart = Multipart(here.objects.at(public) if public else here.objects)
    try:
        sizes = {number: uploads.size_of_part(row, number) for number in form.part_numbers}
    except PartsError as error:
        raise Problem(422, "There is no such part", str(error), field="part_numbers") from error
    expires_at = here.now() + timedelta(seconds=URL_SECONDS)
    urls = [
        {
            "part_number": number,
            "part_id": uploads.part_id(row.upload_id, number),
            "bytes": size,
            "method": "PUT",
            "url": multipart.presigned(row.key, multipart_id, number, size, URL_SECONDS),
        }
        for number, size in sizes.items()
    ]
    return {"object": "list", "data": urls, "expires_at": int(expires_at.timestamp())}


async def _begun(here: World, row: UploadRow) -> str:
    """The object store's id of the upload, which is begun there when its first part comes."""
    if row.multipart_id is not None:
        return row.multipart_id
    multipart_id = await asyncio.to_thread(Multipart(here.objects).begin, row.key)
    async with here.database.transaction() as session:
        return await Uploads(session).begun(row.upload_id, multipart_id)


async def _number(here: World, row: UploadRow, wanted: object, size_bytes: int) -> int:
    """The part's number. Raises Problem."""
    if isinstance(wanted, str):
        if not wanted.isdecimal() or not 1 <= int(wanted[:6]) <= MAX_PART_NUMBER:
            raise Problem(
                422, "The part has no number", f"part_number: write 1 to {MAX_PART_NUMBER}", field="part_number"
            )
        return int(wanted[:6])
    if size_bytes >= MIN_PART_BYTES:
        async with here.database.transaction() as session:
            return await Uploads(session).next_number(row.upload_id)
    if row.multipart_id is not None and any(part.number == SMALL_PART for part in await parts_of(here, row)):
        detail = f"data: only one part may be smaller than {MIN_PART_BYTES} bytes, and it is there: send larger ones"
        raise Problem(422, "The part is too small", detail, field="data")
    return SMALL_PART


async def parts_of(here: World, row: UploadRow) -> list[Part]:
    try:
        return await asyncio.to_thread(Multipart(here.objects).parts, row.key, row.multipart_id or "")
    except NotFoundError:
        return []  # it was completed or given up meanwhile


def shown_part(row: UploadRow, part: Part) -> dict[str, Any]:
    return {
        "id": uploads.part_id(row.upload_id, part.number),
        "object": "upload.part",
        "created_at": int(part.stored_at.timestamp()),
        "upload_id": row.upload_id,
        "part_number": part.number,
        "bytes": part.bytes,
        "etag": part.etag,
    }


async def find(here: World, caller: Principal, upload_id: str) -> UploadRow:
    async with here.database.transaction() as session:
        row = await Uploads(session).get(caller.tenant_id, upload_id)
    if row is None:
        raise not_found("upload", upload_id)
    return row


async def pending(here: World, caller: Principal, upload_id: str) -> UploadRow:
    row = await find(here, caller, upload_id)
    if row.state != UploadState.PENDING or row.expires_at <= here.now():
        raise over(row)
    return row


def over(row: UploadRow) -> Problem:
    state = UploadState.EXPIRED if row.state == UploadState.PENDING else row.state
    return Problem(409, "The upload is over", f"It is {state}: begin another one")
