"""`/v1/datasets`: uploads that are checked while they come in, and what is known of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
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
from services.gateway.datareport import Summary
from services.gateway.datasets import Scan
from services.gateway.imagefolders import from_zip
from services.gateway.jobfile import Name
from services.gateway.keys import Principal
from services.gateway.library import Library, validated
from services.gateway.plain import iso
from services.gateway.rowforms import RejectedError
from services.gateway.tablefiles import from_csv, from_parquet
from services.gateway.values import Dataset
from sskai.contract import new_id, timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.http import Problem

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

LINES, CSV, PARQUET, IMAGES = "jsonl", "csv", "parquet", "zip"
# "": what it is stands in its first bytes.
RAW_TYPES = {
    "application/jsonl": LINES,
    "application/x-ndjson": LINES,
    "application/x-jsonlines": LINES,
    "text/csv": CSV,
    "application/vnd.apache.parquet": PARQUET,
    "application/zip": IMAGES,
    "application/octet-stream": "",
}
READERS = {CSV: from_csv, PARQUET: from_parquet, IMAGES: from_zip}
CHUNK_BYTES = 1024 * 1024
PREVIEW_BYTES = 4 * 1024 * 1024
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in RAW_TYPES},
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
    """JSON Lines, CSV, Parquet, or a zip of images (docs/guides/datasets.md); all of it is checked before it is kept.

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
                    kind = CSV if (file.filename or "").lower().endswith(".csv") else ""
                    scanned = await _spool(_pieces(file), spool, kind)
            elif media_type in RAW_TYPES:
                name = _named(name)
                scanned = await _spool(request.stream(), spool, RAW_TYPES[media_type])
            else:
                raise Problem(
                    415,
                    "Unsupported media type",
                    f"Send {', '.join(RAW_TYPES)}, or multipart/form-data with a field `file`",
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
    if dataset.uri.endswith(f".{IMAGES}"):
        raise Problem(422, "No preview", f"{dataset.name} holds images: its report has the classes", field="id")
    first = await asyncio.to_thread(head, here, dataset, rows)
    return {"object": "dataset.preview", "id": dataset.dataset_id, "rows": first}


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
        "report": dataset.report,
        "lineage": dataset.lineage,
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


async def _spool(pieces: AsyncIterator[bytes], spool: IO[bytes], kind: str) -> Summary | RejectedError:
    """Check what comes and keep it as it will be stored, in constant memory. What follows a wrong row is read and
    dropped: many clients hear an answer only after they sent all they had."""
    taking: Scan | IO[bytes] | None = None
    waiting, rejected = bytearray(), None
    with TemporaryFile(dir=Path(spool.name).parent) as raw:

        async def take() -> RejectedError | None:
            nonlocal taking, kind
            if taking is None:
                kind = kind or _sniffed(bytes(waiting[:4]))
                taking = Scan(spool.write) if kind == LINES else raw
            error = await asyncio.to_thread(_absorb, taking, bytes(waiting))
            waiting.clear()
            return error

        async for piece in pieces:
            if rejected is None:
                waiting += piece
            if len(waiting) >= CHUNK_BYTES:
                rejected = await take()
        rejected = rejected or await take()
        if rejected is None:
            return await asyncio.to_thread(_finish, taking, kind, spool)
    return rejected


def _sniffed(head: bytes) -> str:
    return PARQUET if head == b"PAR1" else IMAGES if head == b"PK\x03\x04" else LINES


def _absorb(taking: Scan | IO[bytes] | None, chunk: bytes) -> RejectedError | None:
    try:
        if isinstance(taking, Scan):
            taking.feed(chunk)
        elif taking is not None:
            taking.write(chunk)
    except RejectedError as error:
        return error
    return None


def _finish(taken: Scan | IO[bytes] | None, kind: str, spool: IO[bytes]) -> Summary | RejectedError:
    assert taken is not None, "something was taken in"
    try:
        summary = taken.summary() if isinstance(taken, Scan) else READERS[kind](taken, spool)
    except RejectedError as error:
        return error
    spool.flush()
    return summary


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
    key = (
        f"tenants/{caller.tenant_id}/datasets/{name}/{summary.sha256}.{IMAGES if 'image' in summary.format else LINES}"
    )
    await asyncio.to_thread(here.objects.put_file, key, Path(spool.name))
    now = here.now()
    async with here.database.transaction() as session:

        async def make() -> Answer:
            dataset, new = await Library(session).add_dataset(
                caller.tenant_id, name, here.objects.uri(key), summary, now
            )
            if new:
                await tell(session, validated(dataset))
            return Answer(201 if new else 200, shown(dataset))

        request = digest("POST /v1/datasets", f"{name} {summary.sha256}".encode())
        return await once(session, caller.tenant_id, idempotency_key, request, make, now=now)


def head(here: World, dataset: Dataset, rows: int) -> list[Any]:
    """The first rows, of at most PREVIEW_BYTES; none of images. Blocks. Raises ObjectsUnavailableError."""
    if dataset.uri.endswith(f".{IMAGES}"):
        return []
    begun = b""
    for chunk in here.objects.open(here.objects.key(dataset.uri), chunk_bytes=64 * 1024):
        begun += chunk
        if begun.count(b"\n") >= rows or len(begun) >= PREVIEW_BYTES:
            break
    else:
        begun += b"\n"
    lines = begun.split(b"\n")[:-1]  # the last one may be cut
    return [json.loads(line) for line in lines[:rows] if line.strip()]
