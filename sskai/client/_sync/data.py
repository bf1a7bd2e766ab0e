# Made by `python -m tools.sync_client` of ../_async: edit that.
"""Datasets, models, and the uploads in parts by which large files come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, TypeAlias

from sskai.client._sync import io
from sskai.client._sync.transport import Resource, Transport
from sskai.client.documents import Alias, Dataset, Document, Documents, Model, Upload
from sskai.client.errors import SskaiError, refused
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
    told,
)

Aliases: TypeAlias = list[Alias]
CHECK_SECONDS = 600.0  # the gateway checks all rows of a file before it answers
PART_SECONDS = 300.0
MODEL_SECONDS = 3600.0
LOOK_SECONDS = 1.0


class Datasets(Resource):
    def __init__(self, client: Transport, uploads: Uploads) -> None:
        super().__init__(client)
        self._uploads = uploads

    def upload(
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
            return self._at_once(file, name, size, progress)
        upload = self._uploads.send(file, purpose="fine-tune", name=name, progress=progress, resume=resume)
        return self.get(str((upload.get("file") or {})["id"]))

    def _at_once(self, file: Path, name: str, size: int, progress: Progress) -> Dataset:
        kind = DATASET_TYPES.get(file.suffix.lower(), "application/octet-stream")

        def body(files: ExitStack) -> Document:
            return {
                "params": {"name": name},
                "content": pieces(files.enter_context(file.open("rb")), size, progress),
                # A known length lets the gateway refuse what is too large before it is sent.
                "headers": {"Content-Type": kind, "Content-Length": str(size)},
            }

        return self._client.upload(Dataset, "/v1/datasets", body, timeout_seconds=CHECK_SECONDS)

    def get(self, dataset: str) -> Dataset:
        """By id, `NAME@VERSION` or `NAME`."""
        return self._client.ask(Dataset, "GET", f"/v1/datasets/{dataset}")

    def list(self, name: str | None = None) -> Iterator[Dataset]:
        return self._client.pages(Dataset, "/v1/datasets", name=name)

    def preview(self, dataset: str, rows: int = 5) -> Documents:
        answer = self._client.ask(dict[str, Any], "GET", f"/v1/datasets/{dataset}/preview", params={"rows": rows})
        found: Documents = answer["rows"]
        return found

    def cut(
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
        return self._client.ask(
            dict[str, Any], "POST", f"/v1/datasets/{dataset}/cut", json=form, params=params, timeout=CHECK_SECONDS
        )

    def delete(self, dataset: str) -> None:
        self._client.ask(dict[str, Any], "DELETE", f"/v1/datasets/{dataset}")


class Uploads(Resource):
    """Files in parts: `send` does it all, the rest is what it is made of."""

    def send(
        self,
        file: Path,
        *,
        purpose: str,
        name: str | None = None,
        progress: Progress = nothing_sent,
        resume: str | None = None,
    ) -> Upload:
        """Send a file and complete it. A connection that breaks costs one part; with `resume`, an upload that was left
        (`SskaiError.problem["upload_id"]`) goes on with the parts that are missing."""
        size = file.stat().st_size
        upload = self.get(resume) if resume else self.create(file.name, size, purpose=purpose, name=name)
        if upload["status"] == "pending":
            try:
                part_ids = self._send_parts(upload, file, size, progress)
            except SskaiError as error:
                error.problem["upload_id"] = upload["id"]  # by which it goes on
                raise
            upload = self.complete(upload["id"], part_ids)
        if upload["status"] == "validating":
            upload = self._client.until(
                Upload,
                f"/v1/uploads/{upload['id']}",
                lambda it: it["status"] != "validating",
                limit_seconds=MODEL_SECONDS,
                poll_seconds=LOOK_SECONDS,
            )
        if upload["status"] != "completed":
            problem = upload.get("problem") or {"reason": f"the upload {upload['id']} is {upload['status']}"}
            raise refused("The upload was refused", told(problem), **problem)
        return upload

    def _send_parts(self, upload: Upload, file: Path, size: int, progress: Progress) -> list[str]:
        """Those that are missing; the ids of all, in their order."""
        listed = {
            int(part.get("part_number") or at): part for at, part in enumerate(upload.get("parts") or [], start=1)
        }
        step = int(upload.get("part_bytes") or (listed[1]["bytes"] if 1 in listed else part_bytes(size)))
        part_ids = []
        for number in range(1, -(-size // step) + 1):
            offset = (number - 1) * step
            length = min(step, size - offset)
            part = listed.get(number)
            if part is None or int(part["bytes"]) != length:
                part = self._part(upload["id"], number, file, offset=offset, length=length, progress=progress)
            part_ids.append(str(part["id"]))
            progress(offset + length, size)
        return part_ids

    def create(self, filename: str, size: int, *, purpose: str, name: str | None = None) -> Upload:
        """Say that a file of this size will come."""
        kind = DATASET_TYPES.get(Path(filename).suffix.lower(), "application/octet-stream")
        form = given(
            filename=filename, bytes=size, purpose=purpose, mime_type=kind, name=name, part_bytes=part_bytes(size)
        )
        return self._client.ask(Upload, "POST", "/v1/uploads", json=form)

    def get(self, upload_id: str) -> Upload:
        """With `parts`, those that are there, in their order."""
        return self._client.ask(Upload, "GET", f"/v1/uploads/{upload_id}")

    def urls(self, upload_id: str, part_numbers: list[int]) -> Document:
        """Addresses of the object store to which parts may be PUT past the gateway, for a quarter of an hour."""
        path = f"/v1/uploads/{upload_id}/urls"
        return self._client.ask(dict[str, Any], "POST", path, json={"part_numbers": part_numbers})

    def complete(self, upload_id: str, part_ids: list[str]) -> Upload:
        """All parts are there, in this order: check them, and make of them what the purpose says."""
        path = f"/v1/uploads/{upload_id}/complete"
        return self._client.ask(Upload, "POST", path, json={"part_ids": part_ids}, timeout=MODEL_SECONDS)

    def cancel(self, upload_id: str) -> Upload:
        return self._client.ask(Upload, "POST", f"/v1/uploads/{upload_id}/cancel")

    def _part(
        self, upload_id: str, number: int, file: Path, *, offset: int, length: int, progress: Progress
    ) -> Document:
        """By its number: sent again, it is the same part."""
        total = file.stat().st_size

        def body(files: ExitStack) -> Document:
            piece = Slice(files.enter_context(file.open("rb")), offset, length, total, progress)
            return {"data": {"part_number": str(number)}, "files": {"data": ("part", piece)}}

        return self._client.upload(dict[str, Any], f"/v1/uploads/{upload_id}/parts", body, timeout_seconds=PART_SECONDS)


class Models(Resource):
    def list(self) -> list[Model]:
        found = self._client.ask(dict[str, Any], "GET", "/v1/models")
        models: list[Model] = found["data"]
        return models

    def get(self, model: str) -> Model:
        """By id, `NAME@VERSION` or `NAME`."""
        return self._client.ask(Model, "GET", f"/v1/models/{model}")

    def upload(self, path: str | Path, name: str, *, progress: Progress = nothing_sent) -> Model:
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

        return self._client.upload(Model, "/v1/models", body, timeout_seconds=MODEL_SECONDS)

    def aliases(self, name: str) -> Aliases:
        """What `NAME@champion` and `NAME@challenger` mean now."""
        found = self._client.ask(dict[str, Any], "GET", f"/v1/models/{name}/aliases")
        aliases: Aliases = found["data"]
        return aliases

    def move_alias(self, name: str, alias: str, version: int) -> Alias:
        path = f"/v1/models/{name}/aliases/{alias}"
        return self._client.ask(Alias, "PUT", path, json={"version": version})

    def delete(self, model: str) -> None:
        self._client.ask(dict[str, Any], "DELETE", f"/v1/models/{model}")


def pieces(file: IO[bytes], size: int, progress: Progress) -> Iterator[bytes]:
    """A file as it is sent."""
    sent = 0
    while piece := io.read(file, PIECE_BYTES):
        yield piece
        sent += len(piece)
        progress(sent, size)
