"""`/v1/datasets`: uploads that are checked while they come in, and what is known of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.auth import Caller
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
from services.gateway.datasets import RejectedError, Scan, Summary
from services.gateway.jobfile import Name
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.plain import iso
from services.gateway.values import Dataset
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

RAW_TYPES = {"application/jsonl", "application/x-ndjson", "application/x-jsonlines", "application/octet-stream"}
CHUNK_BYTES = 1024 * 1024
PREVIEW_BYTES = 4 * 1024 * 1024
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/jsonl": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}, "name": {"type": "string"}},
                }
            },
        },
    }
}


@router.post("", status_code=201, openapi_extra=_UPLOAD)
async def upload(
    request: Request,
    here: Here,
    caller: Caller,
    idempotency_key: IdempotencyKey = None,
    name: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """JSON Lines in `messages`, `text`, or `prompt` and `completion`; the whole file is checked before it is kept.

    201 with the dataset's new version, 200 if this content is a version of `name` already, 422 with row, column and
    reason if a row is wrong: then nothing is kept.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        with NamedTemporaryFile(dir=here.settings.spool_dir, prefix="sskai-dataset-") as spool:
            if media_type == "multipart/form-data":
                async with request.form(max_files=1, max_fields=4) as form:
                    file, named = form.get("file"), form.get("name")
                    if not isinstance(file, UploadFile):
                        raise Problem(422, "No file", "Send the dataset as the form's field `file`", field="file")
                    name = _named(name or (named if isinstance(named, str) else None))
                    scanned = await _spool(_pieces(file), spool)
            elif media_type in RAW_TYPES:
                name = _named(name)
                scanned = await _spool(request.stream(), spool)
            else:
                raise Problem(
                    415, "Unsupported media type", "Send application/jsonl, or multipart/form-data with a field `file`"
                )
            if isinstance(scanned, RejectedError):
                raise await _rejected(here, caller, name, scanned)
            return respond(await _keep(here, caller, name, scanned, spool, idempotency_key=idempotency_key))
    except ClientDisconnect as error:
        raise Problem(400, "The upload broke off", "Send it again") from error
    except KeyReusedError as error:
        raise key_reused(error) from error


@router.get("")
async def list_datasets(
    here: Here, caller: Caller, name: Name | None = None, after: After = None, limit: Limit = 20
) -> dict[str, Any]:
    """The tenant's datasets, newest first."""
    async with here.database.transaction() as session:
        found = await Library(session).datasets(caller.tenant_id, name, after, limit + 1)
    return page([shown(dataset) for dataset in found], limit)


@router.get("/{dataset_id}")
async def get_dataset(dataset_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """One dataset, by id, `NAME@VERSION` or `NAME` (its newest version)."""
    return shown(await _find(here, caller, dataset_id))


@router.get("/{dataset_id}/preview")
async def preview(
    dataset_id: Id, here: Here, caller: Caller, rows: Annotated[int, Query(ge=1, le=20)] = 5
) -> dict[str, Any]:
    """Its first rows."""
    dataset = await _find(here, caller, dataset_id)
    head = await asyncio.to_thread(_head, here, dataset.uri, rows)
    return {"object": "dataset.preview", "id": dataset.dataset_id, "rows": head}


def shown(dataset: Dataset) -> dict[str, Any]:
    return {
        "id": dataset.dataset_id,
        "object": "dataset",
        "name": dataset.name,
        "version": dataset.version,
        "uri": f"dataset://{dataset.name}/{dataset.version}",
        "format": dataset.format,
        "rows": dataset.rows,
        "bytes": dataset.bytes,
        "sha256": dataset.sha256,
        "estimated_tokens": dataset.estimated_tokens,
        "created_at": iso(dataset.created_at),
    }


async def _find(here: World, caller: Principal, reference: str) -> Dataset:
    async with here.database.transaction() as session:
        dataset = await Library(session).dataset(caller.tenant_id, reference)
    if dataset is None:
        raise not_found("dataset", reference)
    return dataset


def _named(name: str | None) -> str:
    try:
        return _NAME.validate_python(name, strict=True)
    except ValidationError as error:
        detail = "name: give the dataset a name of a-z, 0-9, '.', '_' and '-', at most 63 characters (?name=...)"
        raise Problem(422, "The name is not valid", detail, field="name") from error


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK_BYTES):
        yield chunk


async def _spool(pieces: AsyncIterator[bytes], spool: IO[bytes]) -> Summary | RejectedError:
    """Check and keep what comes, in constant memory. What follows a wrong row is read and dropped: many clients hear
    an answer only after they sent all they had."""
    scan, waiting, rejected = Scan(), bytearray(), None
    async for piece in pieces:
        waiting += piece
        if rejected is not None:
            waiting.clear()
        elif len(waiting) >= CHUNK_BYTES:
            rejected = await asyncio.to_thread(_absorb, scan, spool, bytes(waiting))
            waiting.clear()
    rejected = rejected or await asyncio.to_thread(_absorb, scan, spool, bytes(waiting))
    if rejected is not None:
        return rejected
    spool.flush()
    try:
        return scan.summary()
    except RejectedError as error:
        return error


def _absorb(scan: Scan, spool: IO[bytes], chunk: bytes) -> RejectedError | None:
    try:
        scan.feed(chunk)
    except RejectedError as error:
        return error
    spool.write(chunk)
    return None


async def _rejected(here: World, caller: Principal, name: str, error: RejectedError) -> Problem:
    event = events.DatasetRejected(
        dataset_id=new_id("dataset"),
        tenant_id=caller.tenant_id,
        name=name,
        row=error.row,
        column=error.column,
        reason=error.reason,
        rejected_at=timestamp(here.now()),
    )
    async with here.database.transaction() as session:
        await tell(session, event)
    where = f"row {error.row}" if error.row else "the file"
    column = f", {error.column}" if error.column else ""
    return Problem(
        422,
        "The dataset was refused",
        f"{where}{column}: {error.reason}",
        row=error.row,
        column=error.column,
        reason=error.reason,
    )


async def _keep(
    here: World, caller: Principal, name: str, summary: Summary, spool: IO[bytes], *, idempotency_key: str | None
) -> Answer:
    # Named by its content: the same upload writes the same object, and a crash before the commit leaves nothing false.
    key = f"tenants/{caller.tenant_id}/datasets/{name}/{summary.sha256}.jsonl"
    await asyncio.to_thread(here.objects.put_file, key, Path(spool.name))
    now = here.now()
    async with here.database.transaction() as session:

        async def make() -> Answer:
            dataset, new = await Library(session).add_dataset(
                caller.tenant_id, name, here.objects.uri(key), summary, now
            )
            if new:
                await tell(session, _validated(dataset))
            return Answer(201 if new else 200, shown(dataset))

        request = digest("POST /v1/datasets", f"{name} {summary.sha256}".encode())
        return await once(session, caller.tenant_id, idempotency_key, request, make, now=now)


def _validated(dataset: Dataset) -> events.DatasetValidated:
    return events.DatasetValidated(
        dataset_id=dataset.dataset_id,
        tenant_id=dataset.tenant_id,
        name=dataset.name,
        version=dataset.version,
        uri=dataset.uri,
        format=dataset.format,
        rows=dataset.rows,
        bytes=dataset.bytes,
        sha256=dataset.sha256,
        estimated_tokens=dataset.estimated_tokens,
        validated_at=timestamp(dataset.created_at),
    )


def _head(here: World, uri: str, rows: int) -> list[Any]:
    """The first rows, of at most PREVIEW_BYTES."""
    head = b""
    for chunk in here.objects.open(here.objects.key(uri), chunk_bytes=64 * 1024):
        head += chunk
        if head.count(b"\n") >= rows or len(head) >= PREVIEW_BYTES:
            break
    else:
        head += b"\n"
    lines = head.split(b"\n")[:-1]  # the last one may be cut
    return [json.loads(line) for line in lines[:rows] if line.strip()]
