"""`/v1/uploads`: large files in parts, as OpenAI has them; and ours: which parts are there, and URLs to send them to.

Parts go through here or straight to the object store. `complete` puts them together and checks every row: a small file
at once, a large one goes on (`validating`) and is `completed` or `failed` later.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from services.gateway import intake, uploads
from services.gateway.api import files
from services.gateway.api.auth import Caller
from services.gateway.api.world import After, Here, Id, Limit, World, not_found, page
from services.gateway.jobfile import Form, Name, Text
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.tables import UploadRow
from services.gateway.upload_check import Checker
from services.gateway.uploads import SMALL_PART, USUAL_PART_BYTES, PartsError, Uploads, UploadState
from services.gateway.values import Dataset
from sskai import telemetry
from sskai.contract import new_id
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


class UploadForm(Form):
    bytes: Annotated[int, Field(ge=1)]
    filename: Annotated[Text, StringConstraints(min_length=1, max_length=255)]
    mime_type: Annotated[Text, StringConstraints(max_length=255)]
    purpose: Annotated[Text, StringConstraints(max_length=100)]
    expires_after: None = None
    # Ours: the dataset's name (absent: the file's), and how large the parts are that go straight to the object store.
    name: Name | None = None
    part_bytes: Annotated[int, Field(ge=MIN_PART_BYTES, le=1024 * 1024 * 1024)] = USUAL_PART_BYTES


class CompletionForm(Form):
    part_ids: (
        Annotated[list[Annotated[str, StringConstraints(max_length=200)]], Field(max_length=MAX_PART_NUMBER)] | None
    ) = None
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


class UrlsForm(Form):
    part_numbers: Annotated[list[PartNumber], Field(min_length=1, max_length=MAX_URLS)]


@router.post("")
async def create_upload(form: UploadForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Announce a file of up to 50 GiB. Its parts may come until `expires_at`."""
    files.require_fine_tune(form.purpose)
    settings, now = here.settings, here.now()
    if form.bytes > settings.max_upload_bytes:
        raise Problem(413, "The file is too large", f"bytes: the limit is {settings.max_upload_bytes}", field="bytes")
    if form.bytes > form.part_bytes * (MAX_PART_NUMBER - 1):
        detail = f"part_bytes: more than {MAX_PART_NUMBER - 1} parts: make them larger"
        raise Problem(422, "Too many parts", detail, field="part_bytes")
    upload_id, filename = new_id("upload"), intake.shown_name(form.filename)
    name = form.name or intake.name_of(filename)
    media_type = form.mime_type.partition(";")[0].strip().lower()
    zipped = intake.MEDIA_TYPES.get(media_type) == intake.IMAGES or filename.lower().endswith(".zip")
    async with here.database.transaction() as session:
        kept = Uploads(session)
        await _require_room(here, caller, kept, form.bytes)
        row = await kept.add(
            upload_id=upload_id,
            tenant_id=caller.tenant_id,
            name=name,
            filename=filename,
            mime_type=media_type,
            bytes=form.bytes,
            part_bytes=form.part_bytes,
            key=f"tenants/{caller.tenant_id}/datasets/{name}/{upload_id}/raw.{'zip' if zipped else 'jsonl'}",
            traceparent=telemetry.current_traceparent(),
            created_at=now,
            expires_at=now + timedelta(hours=settings.upload_lifetime_hours),
        )
        return shown(row)


@router.get("")
async def list_uploads(here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The tenant's uploads, newest first."""
    async with here.database.transaction() as session:
        rows = await Uploads(session).newest(caller.tenant_id, after, limit + 1)
    return page([shown(row) for row in rows], limit)


@router.get("/{upload_id}")
async def get_upload(upload_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One upload, and which of its parts are there: what is missing is all that has to be sent."""
    row = await _find(here, caller, upload_id)
    there: list[Part] = []
    if row.state == UploadState.PENDING and row.multipart_id is not None:
        there = await _parts(here, row)
    return {**shown(row, await _dataset(here, row)), "parts": [_part(row, part) for part in there]}


@router.post("/{upload_id}/parts", openapi_extra=_PART)
async def add_part(upload_id: Id, request: Request, here: Here, caller: Caller) -> dict[str, Any]:
    """A part of at most 64 MiB, as the form's field `data`. All but one have 5 MiB at least.

    With `part_number` a part that was sent before is replaced; without, it gets the next number.
    """
    row = await _pending(here, caller, upload_id)
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
            return _part(row, Part(number, data.size, etag, here.now()))
    except ClientDisconnect as error:
        raise Problem(400, "The part broke off", "Send it again") from error


@router.post("/{upload_id}/urls")
async def make_urls(upload_id: Id, form: UrlsForm, here: Here, caller: Caller) -> dict[str, Any]:
    """URLs to PUT parts to, straight into the object store, within 15 minutes. Part n is `part_bytes` from byte
    (n - 1) x `part_bytes` on; a URL takes a body of exactly its `bytes`, and nothing else can be done with it."""
    row = await _pending(here, caller, upload_id)
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


@router.post("/{upload_id}/complete")
async def complete_upload(upload_id: Id, form: CompletionForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Put the parts together in this order (absent: by their numbers) and check every row.

    `completed` with its `file`, or `validating` if it is large; refused with row, column and reason if a row is wrong.
    Sent again, it changes nothing more.
    """
    row = await _find(here, caller, upload_id)
    if row.state == UploadState.PENDING:
        row = await _complete(here, caller, row, form)
    if row.state == UploadState.VALIDATING and row.bytes <= here.settings.upload_checked_at_once_bytes:
        await Checker(here.database, here.objects).check_now(row.upload_id)
        row = await _find(here, caller, upload_id)
    if row.state == UploadState.FAILED:
        raise Problem(422, "The dataset was refused", **_refusal(row))
    if row.state not in (UploadState.VALIDATING, UploadState.COMPLETED):
        raise _over(row)
    return shown(row, await _dataset(here, row))


@router.post("/{upload_id}/cancel")
async def cancel_upload(upload_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Give it up; its parts are deleted."""
    async with here.database.transaction() as session:
        kept = Uploads(session)
        row = await kept.get(caller.tenant_id, upload_id, lock=True)
        if row is None:
            raise not_found("upload", upload_id)
        if row.state == UploadState.PENDING:
            await kept.end(row, UploadState.CANCELLED, here.now())
        elif row.state != UploadState.CANCELLED:
            raise _over(row)
        return shown(row)


def shown(row: UploadRow, dataset: Dataset | None = None) -> dict[str, Any]:
    """OpenAI's fields first, then ours."""
    return {
        "id": row.upload_id,
        "object": "upload",
        "bytes": row.bytes,
        "created_at": int(row.created_at.timestamp()),
        "filename": row.filename,
        "purpose": files.FINE_TUNE,
        "status": row.state,
        "expires_at": int(row.expires_at.timestamp()),
        "file": files.shown(dataset) if dataset else None,
        "name": row.name,
        "part_bytes": row.part_bytes,
        "problem": row.problem,
    }


async def _complete(here: World, caller: Principal, row: UploadRow, form: CompletionForm) -> UploadRow:
    """From now on no part counts that comes. Raises Problem."""
    there = await _parts(here, row) if row.multipart_id is not None else []
    try:
        ids = form.part_ids
        numbers = None if ids is None else [uploads.number_of(row.upload_id, part) for part in ids]
        parts = uploads.chosen(numbers, there, row.bytes)
    except PartsError as error:
        raise Problem(422, "The parts do not make the file", str(error), field="part_ids") from error
    async with here.database.transaction() as session:
        locked = await Uploads(session).get(caller.tenant_id, row.upload_id, lock=True)
        assert locked is not None, "uploads are kept longer than they are open"
        if locked.state == UploadState.PENDING:
            locked.state, locked.due_at = UploadState.VALIDATING, here.now()
            locked.parts = [[part.number, part.bytes, part.etag] for part in parts]
            locked.md5 = (form.md5 or "").lower()
            await session.flush()
        return locked


async def _require_room(here: World, caller: Principal, kept: Uploads, announced_bytes: int) -> None:
    settings = here.settings
    count, open_bytes = await kept.open(caller.tenant_id)
    if count >= settings.max_open_uploads_per_tenant:
        limit = f"{count} uploads are open"
    elif open_bytes + announced_bytes > settings.max_open_upload_bytes_per_tenant:
        limit = f"more than {settings.max_open_upload_bytes_per_tenant} bytes of open uploads"
    else:
        return
    detail = f"{limit}: complete or cancel some, or wait until they expire"
    raise Problem(429, "Too many uploads", detail, headers={"Retry-After": "60"})


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
    if row.multipart_id is not None and any(part.number == SMALL_PART for part in await _parts(here, row)):
        detail = f"data: only one part may be smaller than {MIN_PART_BYTES} bytes, and it is there: send larger ones"
        raise Problem(422, "The part is too small", detail, field="data")
    return SMALL_PART


async def _parts(here: World, row: UploadRow) -> list[Part]:
    try:
        return await asyncio.to_thread(Multipart(here.objects).parts, row.key, row.multipart_id or "")
    except NotFoundError:
        return []  # it was completed or given up meanwhile


def _part(row: UploadRow, part: Part) -> dict[str, Any]:
    return {
        "id": uploads.part_id(row.upload_id, part.number),
        "object": "upload.part",
        "created_at": int(part.stored_at.timestamp()),
        "upload_id": row.upload_id,
        "part_number": part.number,
        "bytes": part.bytes,
        "etag": part.etag,
    }


async def _find(here: World, caller: Principal, upload_id: str) -> UploadRow:
    async with here.database.transaction() as session:
        row = await Uploads(session).get(caller.tenant_id, upload_id)
    if row is None:
        raise not_found("upload", upload_id)
    return row


async def _pending(here: World, caller: Principal, upload_id: str) -> UploadRow:
    row = await _find(here, caller, upload_id)
    if row.state != UploadState.PENDING or row.expires_at <= here.now():
        raise _over(row)
    return row


def _over(row: UploadRow) -> Problem:
    state = UploadState.EXPIRED if row.state == UploadState.PENDING else row.state
    return Problem(409, "The upload is over", f"It is {state}: begin another one")


def _refusal(row: UploadRow) -> dict[str, Any]:
    problem = row.problem or {"row": 0, "column": "", "reason": "it was refused"}
    return {"detail": intake.where(**problem), **problem}


async def _dataset(here: World, row: UploadRow) -> Dataset | None:
    if row.dataset_id is None:
        return None
    async with here.database.transaction() as session:
        return await Library(session).dataset(row.tenant_id, row.dataset_id)
