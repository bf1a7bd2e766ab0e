"""`/v1/files`: datasets as OpenAI's clients see them. A file is a version of a dataset, and has its id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from services.gateway import intake
from services.gateway.api import receiving
from services.gateway.api.auth import Caller
from services.gateway.api.datasets import delete, find, valid_name
from services.gateway.api.world import After, Here, Id, IdempotencyKey, page
from services.gateway.library import Library
from services.gateway.paging import Paging
from services.gateway.values import Dataset
from sskai.http import Problem

router = APIRouter(prefix="/v1/files", tags=["OpenAI: files"])

FINE_TUNE = "fine-tune"
MAX_LIMIT = 10_000  # what OpenAI allows
MAX_FILES_PAGE = 1_000  # what a page has at most, whatever is asked for
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": [FINE_TUNE]},
                        "name": {"type": "string"},
                    },
                }
            }
        },
    }
}


@router.post("", openapi_extra=_UPLOAD)
async def create_file(request: Request, here: Here, caller: Caller, idempotency_key: IdempotencyKey = None) -> Response:
    """Upload a file to train on. Every row is checked before anything is kept; the first wrong one is named.

    The dataset is named by the form's `name`, else by the file; the same content again is the same file.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Problem(415, "Unsupported media type", "Send multipart/form-data with `purpose` and `file`")
    try:
        async with request.form(max_files=1, max_fields=8) as form:
            file, purpose = form.get("file"), form.get("purpose")
            require_fine_tune(purpose if isinstance(purpose, str) else "")
            if any(name.startswith("expires_after") for name in form):
                raise Problem(
                    422, "Files do not expire", "expires_after: leave it out, and delete the file when it is done"
                )
            if not isinstance(file, UploadFile):
                raise Problem(422, "No file", "Send the file as the form's field `file`", field="file")
            filename = intake.shown_name(file.filename or "")
            name = valid_name(form.get("name")) if form.get("name") is not None else intake.name_of(filename)
            return await receiving.take(
                here,
                caller,
                name,
                receiving.pieces(file),
                intake.kind_of_name(filename),
                idempotency_key=idempotency_key,
                route="POST /v1/files",
                show=shown,
                filename=filename,
            )
    except ClientDisconnect as error:
        raise receiving.broken_off() from error


@router.get("")
async def list_files(
    here: Here,
    caller: Caller,
    *,
    purpose: Annotated[str | None, Query(max_length=100)] = None,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = MAX_LIMIT,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The tenant's files. A page has at most 1,000; OpenAI's clients ask for the next one by themselves."""
    if purpose not in (None, FINE_TUNE):
        return page([], 1)
    paging = Paging(min(limit, MAX_FILES_PAGE), after, ascending=order == "asc")
    async with here.database.transaction() as session:
        found = await Library(session).datasets(caller.tenant_id, paging)
    return page([shown(dataset) for dataset in found], paging.limit)


@router.get("/{file_id}")
async def get_file(file_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One file."""
    return shown(await find(here, caller, file_id, kind="file"))


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_content(file_id: Id, here: Here, caller: Caller) -> Response:
    """What it holds, as it is kept: JSON Lines, or a zip of images."""
    dataset = await find(here, caller, file_id, kind="file")
    chunks = here.objects.open(here.objects.key(dataset.uri), intake.CHUNK_BYTES)
    first = await asyncio.to_thread(next, chunks, b"")  # what is wrong with the store is said before the 200
    headers = {
        "Content-Length": str(dataset.bytes),
        "Content-Disposition": "attachment",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_content(first, chunks), headers=headers, media_type="application/octet-stream")


@router.delete("/{file_id}")
async def delete_file(file_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Delete the file, which is its dataset's version; 409 while a job or an endpoint uses it."""
    dataset = await find(here, caller, file_id, kind="file")
    await delete(here, caller, dataset, kind="file")
    return {"id": dataset.dataset_id, "object": "file", "deleted": True}


def shown(dataset: Dataset) -> dict[str, Any]:
    """OpenAI's fields first, then ours."""
    return {
        "id": dataset.dataset_id,
        "object": "file",
        "bytes": dataset.bytes,
        "created_at": int(dataset.created_at.timestamp()),
        "expires_at": None,
        "filename": dataset.filename or f"{dataset.name}.jsonl",
        "purpose": FINE_TUNE,
        "status": "processed",
        "status_details": None,
        "dataset": f"dataset://{dataset.name}/{dataset.version}",
        "format": dataset.format,
        "rows": dataset.rows,
    }


def require_fine_tune(purpose: str) -> None:
    """Raises Problem for what is for something else than training."""
    if purpose != FINE_TUNE:
        detail = f"purpose: is {purpose[:100]!r}, but files here are for training: write {FINE_TUNE!r}"
        raise Problem(422, "The purpose is not supported", detail, field="purpose")


async def _content(first: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    while piece := await asyncio.to_thread(next, rest, b""):
        yield piece
