"""`/v1/uploads`: large files in parts, as OpenAI has them; and ours: which parts are there, and URLs to send them to.

Parts go through here or straight to the object store. `complete` puts them together and checks every row: a small file
at once, a large one goes on (`validating`) and is `completed` or `failed` later.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, StringConstraints

from services.gateway import intake, uploads
from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api import files
from services.gateway.api.auth import Caller
from services.gateway.api.upload_parts import find, over, parts_of, shown_part
from services.gateway.api.world import (
    After,
    Here,
    Id,
    IdempotencyKey,
    Limit,
    World,
    key_reused,
    not_found,
    page,
    respond,
)
from services.gateway.jobfile import Form, Name, Text
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.tables import UploadRow
from services.gateway.upload_check import Checker
from services.gateway.uploads import USUAL_PART_BYTES, PartsError, Uploads, UploadState
from services.gateway.values import Dataset
from sskai import telemetry
from sskai.contract import new_id
from sskai.http import Problem
from sskai.multipart import MAX_PART_NUMBER, MIN_PART_BYTES, Part

router = APIRouter(prefix="/v1/uploads", tags=["OpenAI: uploads"])

LOOK_SECONDS = 0.5  # between two looks whether a file was checked


class UploadForm(Form):
    bytes: Annotated[int, Field(ge=1)]
    filename: Annotated[Text, StringConstraints(min_length=1, max_length=255)]
    mime_type: Annotated[Text, StringConstraints(max_length=255)]
    purpose: Annotated[Text, StringConstraints(max_length=100), Field(json_schema_extra={"enum": [files.FINE_TUNE]})]
    expires_after: None = None
    # Ours: the dataset's name (absent: the file's), and how large the parts are that go straight to the object store.
    name: Name | None = None
    part_bytes: Annotated[int, Field(ge=MIN_PART_BYTES, le=1024 * 1024 * 1024)] = USUAL_PART_BYTES


class CompletionForm(Form):
    part_ids: (
        Annotated[list[Annotated[str, StringConstraints(max_length=200)]], Field(max_length=MAX_PART_NUMBER)] | None
    ) = None
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


@router.post("", response_model=dict[str, Any])
async def create_upload(
    form: UploadForm, request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None
) -> Response:
    """Announce a file of up to 50 GiB. Its parts may come until `expires_at`."""
    files.require_fine_tune(form.purpose)
    settings, now = here.settings, here.now()
    if form.bytes > settings.max_upload_bytes:
        raise Problem(413, "The file is too large", f"bytes: the limit is {settings.max_upload_bytes}", field="bytes")
    if form.bytes > form.part_bytes * (MAX_PART_NUMBER - 1):
        detail = f"part_bytes: more than {MAX_PART_NUMBER - 1} parts: make them larger"
        raise Problem(422, "Too many parts", detail, field="part_bytes")
    digested = digest("POST /v1/uploads", await request.body())
    try:
        async with here.database.transaction() as session:

            async def make() -> Answer:
                kept = Uploads(session)
                await _require_room(here, caller, kept, form.bytes)
                return Answer(200, shown(await kept.add(**_values(form, here, caller, now))))

            return respond(await once(session, caller.tenant_id, idempotency_key, digested, make, now=now))
    except KeyReusedError as error:
        raise key_reused(error) from error


@router.get("")
async def list_uploads(here: Here, caller: Caller, after: After = None, limit: Limit = 20) -> dict[str, Any]:
    """The tenant's uploads, newest first."""
    async with here.database.transaction() as session:
        rows = await Uploads(session).newest(caller.tenant_id, after, limit + 1)
    return page([shown(row) for row in rows], limit)


@router.get("/{upload_id}")
async def get_upload(upload_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One upload, and which of its parts are there: what is missing is all that has to be sent."""
    row = await find(here, caller, upload_id)
    there: list[Part] = []
    if row.state == UploadState.PENDING and row.multipart_id is not None:
        there = await parts_of(here, row)
    return {**shown(row, await _dataset(here, row)), "parts": [shown_part(row, part) for part in there]}


@router.post("/{upload_id}/complete")
async def complete_upload(upload_id: Id, form: CompletionForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Put the parts together in this order (absent: by their numbers) and check every row.

    `completed` with its `file`, or `validating` if it is large; refused with row, column and reason if a row is wrong.
    Sent again, it changes nothing more.
    """
    row = await find(here, caller, upload_id)
    if row.state == UploadState.PENDING and row.expires_at > here.now():
        row = await _complete(here, caller, row, form)
    if row.state == UploadState.VALIDATING and row.bytes <= here.settings.upload_checked_at_once_bytes:
        await Checker(here.database, here.objects).check_now(row.upload_id)
    if row.state == UploadState.VALIDATING:
        row = await _settled(here, caller, upload_id)
    if row.state == UploadState.FAILED:
        raise Problem(422, "The dataset was refused", **_refusal(row))
    if row.state not in (UploadState.VALIDATING, UploadState.COMPLETED):
        raise over(row)
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
            raise over(row)
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


def _values(form: UploadForm, here: World, caller: Principal, now: datetime) -> dict[str, Any]:
    upload_id, filename = new_id("upload"), intake.shown_name(form.filename)
    name = form.name or intake.name_of(filename)
    media_type = form.mime_type.partition(";")[0].strip().lower()
    zipped = intake.MEDIA_TYPES.get(media_type) == intake.IMAGES or filename.lower().endswith(".zip")
    return {
        "upload_id": upload_id,
        "tenant_id": caller.tenant_id,
        "name": name,
        "filename": filename,
        "mime_type": media_type,
        "bytes": form.bytes,
        "part_bytes": form.part_bytes,
        "key": f"tenants/{caller.tenant_id}/datasets/{name}/{upload_id}/raw.{'zip' if zipped else 'jsonl'}",
        "traceparent": telemetry.current_traceparent(),
        "created_at": now,
        "expires_at": now + timedelta(hours=here.settings.upload_lifetime_hours),
    }


async def _complete(here: World, caller: Principal, row: UploadRow, form: CompletionForm) -> UploadRow:
    """From now on no part counts that comes. Raises Problem."""
    there = await parts_of(here, row) if row.multipart_id is not None else []
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
            locked.parts = [[part.number, part.bytes, part.etag] for part in parts]
            locked.md5 = (form.md5 or "").lower()
            await Uploads(session).turn(locked, UploadState.VALIDATING, here.now())
        return locked


async def _settled(here: World, caller: Principal, upload_id: str) -> UploadRow:
    """The upload when its rows are checked, or as it stands when the time is over."""
    clock = asyncio.get_running_loop().time
    until = clock() + here.settings.upload_wait_seconds
    while True:
        row = await find(here, caller, upload_id)
        if row.state != UploadState.VALIDATING or clock() >= until or here.hub.closing.is_set():
            return row
        await asyncio.sleep(LOOK_SECONDS)


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


def _refusal(row: UploadRow) -> dict[str, Any]:
    problem = row.problem or {"row": 0, "column": "", "reason": "it was refused"}
    return {"detail": intake.where(**problem), **problem}


async def _dataset(here: World, row: UploadRow) -> Dataset | None:
    if row.dataset_id is None:
        return None
    async with here.database.transaction() as session:
        return await Library(session).dataset(row.tenant_id, row.dataset_id)
