"""Datasets, models, and the uploads in parts by which large files come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, TypeAlias

from sskai.client._async import io
from sskai.client._async.transport import AsyncResource, AsyncTransport
from sskai.client.documents import Alias, Dataset, Document, Documents, Model, Upload
from sskai.client.wire import (
    DATASET_TYPES,
    PIECE_BYTES,
    RESUMABLE_BYTES,
    Counted,
    Progress,
    Slice,
    given,
    model_files,
    nothing_sent,
    part_bytes,
)

Aliases: TypeAlias = list[Alias]
CHECK_SECONDS = 600.0  # the gateway checks all rows of a file before it answers
PART_SECONDS = 300.0
MODEL_SECONDS = 3600.0


class AsyncDatasets(AsyncResource):
    def __init__(self, client: AsyncTransport, uploads: AsyncUploads) -> None:
        super().__init__(client)
        self._uploads = uploads

    async def upload(
        self, path: str | Path, name: str, *, progress: Progress = nothing_sent, resume: str | None = None
    ) -> Dataset:
        """Upload JSON Lines, CSV, Parquet or a zip of images, told by its name, else by its content; SskaiError with
        row, column and reason if a row is wrong.

        `progress(sent, total)` is called with bytes. A file over 64 MiB goes in parts; `resume`: the id of an upload of
        it that broke off, of which only the missing parts are sent.
        """
        file = Path(path)
        size = file.stat().st_size
        if size <= RESUMABLE_BYTES and resume is None:
            return await self._at_once(file, name, size, progress)
        upload = await self._uploads.send(file, purpose="fine-tune", name=name, progress=progress, resume=resume)
        made = upload.get("file") or {}
        return await self.get(str(made.get("dataset_id") or made["id"]))

    async def _at_once(self, file: Path, name: str, size: int, progress: Progress) -> Dataset:
        kind = DATASET_TYPES.get(file.suffix.lower(), "application/octet-stream")

        def body(files: ExitStack) -> Document:
            return {
                "params": {"name": name},
                "content": pieces(files.enter_context(file.open("rb")), size, progress),
                # A known length lets the gateway refuse what is too large before it is sent.
                "headers": {"Content-Type": kind, "Content-Length": str(size)},
            }

        return await self._client.upload(Dataset, "/v1/datasets", body, timeout_seconds=CHECK_SECONDS)

    async def get(self, dataset: str) -> Dataset:
        """By id, `NAME@VERSION` or `NAME`."""
        return await self._client.ask(Dataset, "GET", f"/v1/datasets/{dataset}")

    def list(self, name: str | None = None) -> AsyncIterator[Dataset]:
        return self._client.pages(Dataset, "/v1/datasets", name=name)

    async def preview(self, dataset: str, rows: int = 5) -> Documents:
        answer = await self._client.ask(dict[str, Any], "GET", f"/v1/datasets/{dataset}/preview", params={"rows": rows})
        found: Documents = answer["rows"]
        return found

    async def cut(
        self,
        dataset: str,
        endpoint: str,
        *,
        since: str | None = None,
        minimum_rows: int | None = None,
        dry_run: bool = False,
    ) -> Document:
        """The next version of a dataset from what an endpoint was asked; `dry_run` counts and keeps nothing."""
        form = given(endpoint=endpoint, since=since, minimum_rows=minimum_rows)
        params = {"dry_run": "true"} if dry_run else None
        return await self._client.ask(
            dict[str, Any], "POST", f"/v1/datasets/{dataset}/cut", json=form, params=params, timeout=CHECK_SECONDS
        )

    async def delete(self, dataset: str) -> None:
        await self._client.ask(dict[str, Any], "DELETE", f"/v1/datasets/{dataset}")


class AsyncUploads(AsyncResource):
    """Files in parts: `send` does it all, the rest is what it is made of."""

    async def send(
        self,
        file: Path,
        *,
        purpose: str,
        name: str | None = None,
        progress: Progress = nothing_sent,
        resume: str | None = None,
    ) -> Upload:
        """Send a file and complete it. A connection that breaks costs one part; with `resume`, an upload that was left
        goes on with the parts that are missing."""
        size = file.stat().st_size
        upload = await self.get(resume) if resume else await self.create(file.name, size, purpose=purpose, name=name)
        if upload["status"] != "pending":
            return upload
        there = upload.get("parts") or []
        part_ids = [str(part["id"]) for part in there]
        sent = sum(int(part["bytes"]) for part in there)
        step = int(there[0]["bytes"]) if there else part_bytes(size)
        progress(sent, size)
        while sent < size:
            part = await self._part(upload["id"], file, offset=sent, size=min(step, size - sent), progress=progress)
            part_ids.append(str(part["id"]))
            sent += min(step, size - sent)
        return await self.complete(upload["id"], part_ids)

    async def create(self, filename: str, size: int, *, purpose: str, name: str | None = None) -> Upload:
        """Say that a file of this size will come."""
        kind = DATASET_TYPES.get(Path(filename).suffix.lower(), "application/octet-stream")
        form = given(filename=filename, bytes=size, purpose=purpose, mime_type=kind, name=name)
        return await self._client.ask(Upload, "POST", "/v1/uploads", json=form)

    async def get(self, upload_id: str) -> Upload:
        """With `parts`, those that are there, in their order."""
        return await self._client.ask(Upload, "GET", f"/v1/uploads/{upload_id}")

    async def urls(self, upload_id: str, part_numbers: list[int]) -> Document:
        """Addresses of the object store to which parts may be PUT past the gateway, for a quarter of an hour."""
        path = f"/v1/uploads/{upload_id}/urls"
        return await self._client.ask(dict[str, Any], "POST", path, json={"part_numbers": part_numbers})

    async def complete(self, upload_id: str, part_ids: list[str]) -> Upload:
        """All parts are there, in this order: check them, and make of them what the purpose says."""
        path = f"/v1/uploads/{upload_id}/complete"
        return await self._client.ask(Upload, "POST", path, json={"part_ids": part_ids}, timeout=MODEL_SECONDS)

    async def cancel(self, upload_id: str) -> Upload:
        return await self._client.ask(Upload, "POST", f"/v1/uploads/{upload_id}/cancel")

    async def _part(self, upload_id: str, file: Path, *, offset: int, size: int, progress: Progress) -> Document:
        total = file.stat().st_size

        def body(files: ExitStack) -> Document:
            opened = files.enter_context(file.open("rb"))
            return {"files": {"data": ("part", Slice(opened, offset, size, total, progress))}}

        return await self._client.upload(
            dict[str, Any], f"/v1/uploads/{upload_id}/parts", body, timeout_seconds=PART_SECONDS
        )


class AsyncModels(AsyncResource):
    async def list(self) -> list[Model]:
        found = await self._client.ask(dict[str, Any], "GET", "/v1/models")
        models: list[Model] = found["data"]
        return models

    async def get(self, model: str) -> Model:
        """By id, `NAME@VERSION` or `NAME`."""
        return await self._client.ask(Model, "GET", f"/v1/models/{model}")

    async def upload(self, path: str | Path, name: str, *, progress: Progress = nothing_sent) -> Model:
        """Upload the folder that `save_pretrained()` wrote (config, tokenizer and *.safetensors; of a diffusers
        pipeline what it is trained with), or a zip of a model as code (docs/guides/own-model.md)."""
        source = Path(path)
        if source.is_file():
            field, paths = "code", {source.name: source}
        else:
            field, paths = "files", model_files(source)
        total = sum(each.stat().st_size for each in paths.values())

        def body(files: ExitStack) -> Document:
            parts, before = [], 0
            for sent_as, each in paths.items():
                file = Counted(files.enter_context(each.open("rb")), total, progress, before=before)
                parts.append((field, (sent_as, file)))
                before += each.stat().st_size
            return {"data": {"name": name}, "files": parts}

        return await self._client.upload(Model, "/v1/models", body, timeout_seconds=MODEL_SECONDS)

    async def aliases(self, name: str) -> Aliases:
        """What `NAME@champion` and `NAME@challenger` mean now."""
        found = await self._client.ask(dict[str, Any], "GET", f"/v1/models/{name}/aliases")
        aliases: Aliases = found["data"]
        return aliases

    async def move_alias(self, name: str, alias: str, version: int) -> Alias:
        path = f"/v1/models/{name}/aliases/{alias}"
        return await self._client.ask(Alias, "PUT", path, json={"version": version})

    async def delete(self, model: str) -> None:
        await self._client.ask(dict[str, Any], "DELETE", f"/v1/models/{model}")


async def pieces(file: IO[bytes], size: int, progress: Progress) -> AsyncIterator[bytes]:
    """A file as it is sent."""
    sent = 0
    while piece := await io.read(file, PIECE_BYTES):
        yield piece
        sent += len(piece)
        progress(sent, size)
