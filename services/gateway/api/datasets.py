"""`/v1/datasets`: uploads that are checked while they come in, and what is known of them."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from services.gateway import intake
from services.gateway.api import receiving
from services.gateway.api.auth import Caller
from services.gateway.api.etags import NOT_MODIFIED, Conditions, tagged
from services.gateway.api.world import (
    Here,
    Id,
    IdempotencyKey,
    Paged,
    World,
    not_found,
    page,
)
from services.gateway.deleting import Deleting, InUseError
from services.gateway.intake import IMAGES, MEDIA_TYPES
from services.gateway.jobfile import Name
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.plain import iso
from services.gateway.values import Dataset
from sskai.delivery import tell
from sskai.http import Problem

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

PREVIEW_BYTES = 4 * 1024 * 1024
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES},
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
    take = partial(receiving.take, here, caller, idempotency_key=idempotency_key, route="POST /v1/datasets", show=shown)
    if media_type in MEDIA_TYPES:
        return await take(valid_name(name), request.stream(), MEDIA_TYPES[media_type])
    if media_type != "multipart/form-data":
        detail = f"Send {', '.join(MEDIA_TYPES)}, or multipart/form-data with a field `file`"
        raise Problem(415, "Unsupported media type", detail)
    try:
        async with request.form(max_files=1, max_fields=4) as form:
            file, named = form.get("file"), form.get("name")
            if not isinstance(file, UploadFile):
                raise Problem(422, "No file", "Send the dataset as the form's field `file`", field="file")
            filename = intake.shown_name(file.filename or "")
            kind = intake.kind_of_name(filename)
            return await take(valid_name(name or named), receiving.pieces(file), kind, filename=filename)
    except ClientDisconnect as error:
        raise receiving.broken_off() from error


@router.get("")
async def list_datasets(
    here: Here,
    caller: Caller,
    paging: Paged,
    name: Name | None = None,
    format_name: Annotated[str | None, Query(alias="format", pattern=r"^[a-z-]{1,40}$")] = None,
) -> dict[str, Any]:
    """The tenant's datasets, newest first."""
    async with here.database.transaction() as session:
        found = await Library(session).datasets(caller.tenant_id, paging, name=name, format_name=format_name)
    return page([shown(dataset) for dataset in found], paging.limit)


@router.get("/{dataset_id}", response_model=dict[str, Any], responses=NOT_MODIFIED)
async def get_dataset(dataset_id: Id, here: Here, caller: Caller, conditions: Conditions) -> Response:
    """One dataset, by id, `NAME@VERSION` or `NAME` (its newest version)."""
    return tagged(shown(await find(here, caller, dataset_id)), conditions)


@router.delete("/{dataset_id}")
async def delete_dataset(dataset_id: Id, here: Here, caller: Caller) -> dict[str, Any]:
    """Delete a version, by id or `NAME@VERSION`; 409 while a job or an endpoint uses it.

    Its number is not given again.
    """
    dataset = await find(here, caller, dataset_id)
    if dataset_id == dataset.name:
        detail = f"say which version of {dataset.name}, such as {dataset.name}@{dataset.version}"
        raise Problem(422, "Which version?", detail, field="dataset_id")
    await delete(here, caller, dataset)
    return {"id": dataset.dataset_id, "object": "dataset", "deleted": True}


@router.get("/{dataset_id}/preview")
async def preview(
    dataset_id: Id, here: Here, caller: Caller, rows: Annotated[int, Query(ge=1, le=20)] = 5
) -> dict[str, Any]:
    """Its first rows."""
    dataset = await find(here, caller, dataset_id)
    if dataset.uri.endswith(f".{IMAGES}"):
        raise Problem(422, "No preview", f"{dataset.name} holds images: its report has the classes", field="id")
    first = await asyncio.to_thread(head, here, dataset, rows)
    return {"object": "dataset.preview", "id": dataset.dataset_id, "rows": first}


async def delete(here: World, caller: Principal, dataset: Dataset, *, kind: str = "dataset") -> None:
    """Raises Problem while something uses it."""
    try:
        async with here.database.transaction() as session:
            deleting = Deleting(session, here.objects, caller.tenant_id, here.now())
            await tell(session, *await deleting.dataset(dataset))
    except InUseError as error:
        raise Problem(409, f"The {kind} is in use", f"By {error}: wait for it, or take it away first") from error


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


async def find(here: World, caller: Principal, reference: str, *, kind: str = "dataset") -> Dataset:
    async with here.database.transaction() as session:
        dataset = await Library(session).dataset(caller.tenant_id, reference)
    if dataset is None:
        raise not_found(kind, reference)
    return dataset


def valid_name(name: object) -> str:
    try:
        return _NAME.validate_python(name, strict=True)
    except ValidationError as error:
        detail = "name: give the dataset a name of a-z, 0-9, '.', '_' and '-', at most 63 characters (?name=...)"
        raise Problem(422, "The name is not valid", detail, field="name") from error


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
