"""An upload in one request: checked while it comes in, and kept under its content's name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Any

from fastapi import Response
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from services.gateway import intake
from services.gateway.answers import Answer, KeyReusedError, digest, once
from services.gateway.api.world import World, key_reused, respond
from services.gateway.datareport import Summary
from services.gateway.datasets import Scan
from services.gateway.intake import CHUNK_BYTES, LINES, MAGIC_BYTES, READERS, DeletedMeanwhileError
from services.gateway.keys import Principal
from services.gateway.library import Library, validated
from services.gateway.rowforms import RejectedError
from services.gateway.values import Dataset
from sskai.delivery import tell
from sskai.http import Problem


async def pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK_BYTES):
        yield chunk


async def _spooled(coming: AsyncIterator[bytes], spool: IO[bytes], kind: str) -> Summary | RejectedError:
    """Check what comes and keep it as it will be stored, in constant memory. What follows a wrong row is read and
    dropped: many clients hear an answer only after they sent all they had."""
    taking: Scan | IO[bytes] | None = None
    waiting, rejected = bytearray(), None
    with TemporaryFile(dir=Path(spool.name).parent) as raw:

        async def take() -> RejectedError | None:
            nonlocal taking, kind
            if taking is None:
                kind = kind or intake.sniffed(bytes(waiting[:MAGIC_BYTES]))
                taking = Scan(spool.write) if kind == LINES else raw
            error = await asyncio.to_thread(_absorb, taking, bytes(waiting))
            waiting.clear()
            return error

        async for piece in coming:
            if rejected is None:
                waiting += piece
            if len(waiting) >= CHUNK_BYTES:
                rejected = await take()
        rejected = rejected or await take()
        if rejected is None:
            return await asyncio.to_thread(_finish, taking, kind, spool)
    return rejected


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


async def take(
    here: World,
    caller: Principal,
    name: str,
    coming: AsyncIterator[bytes],
    kind: str,
    *,
    idempotency_key: str | None,
    route: str,
    show: Callable[[Dataset], dict[str, Any]],
    filename: str = "",
) -> Response:
    """Check what comes and keep it. `kind` empty: its first bytes tell. Raises Problem: refused, or broken off."""
    try:
        with NamedTemporaryFile(dir=here.settings.spool_dir, prefix="sskai-dataset-") as spool:
            scanned = await _spooled(coming, spool, kind)
            if isinstance(scanned, RejectedError):
                raise await _refused(here, caller, name, scanned)
            kept = await _keep(
                here,
                caller,
                name,
                scanned,
                spool,
                idempotency_key=idempotency_key,
                route=route,
                show=show,
                filename=filename,
            )
            return respond(kept)
    except ClientDisconnect as error:
        raise broken_off() from error
    except KeyReusedError as error:
        raise key_reused(error) from error


def broken_off() -> Problem:
    """The client left in the middle of what it sent."""
    return Problem(400, "The upload broke off", "Send it again")


async def _refused(here: World, caller: Principal, name: str, error: RejectedError) -> Problem:
    """What the client is told of a refusal, which is told to the others too."""
    async with here.database.transaction() as session:
        await tell(session, intake.rejected(caller.tenant_id, name, error, here.now()))
    return Problem(
        422,
        "The dataset was refused",
        intake.where(error.row, error.column, error.reason),
        row=error.row,
        column=error.column,
        reason=error.reason,
    )


async def _keep(
    here: World,
    caller: Principal,
    name: str,
    summary: Summary,
    spool: IO[bytes],
    *,
    idempotency_key: str | None,
    route: str,
    show: Callable[[Dataset], dict[str, Any]],
    filename: str,
) -> Answer:
    """A new version, or the one that is this content already. Raises KeyReusedError."""
    while True:
        async with here.database.transaction() as session:
            library = Library(session)
            known = await library.same_content(caller.tenant_id, name, summary.sha256)
            deletions = await library.deletions(caller.tenant_id, name, summary.sha256)
        key = intake.key_of(caller.tenant_id, name, summary, deletions)
        if known is None:
            await asyncio.to_thread(here.objects.put_file, key, Path(spool.name))
        try:
            return await _kept(
                here,
                caller,
                name,
                summary,
                key if known is None else "",
                deletions=deletions,
                idempotency_key=idempotency_key,
                route=route,
                show=show,
                filename=filename,
            )
        except DeletedMeanwhileError:
            continue


async def _kept(
    here: World,
    caller: Principal,
    name: str,
    summary: Summary,
    key: str,
    *,
    deletions: int,
    idempotency_key: str | None,
    route: str,
    show: Callable[[Dataset], dict[str, Any]],
    filename: str,
) -> Answer:
    """`key` empty: nothing was stored, since the content is there. Raises DeletedMeanwhileError."""
    now = here.now()
    async with here.database.transaction() as session:

        async def make() -> Answer:
            library = Library(session)
            dataset, new = await library.add_dataset(
                caller.tenant_id, name, here.objects.uri(key), summary, now, filename=filename
            )
            if new and (not key or await library.deletions(caller.tenant_id, name, summary.sha256) != deletions):
                raise DeletedMeanwhileError(name)
            if new:
                await tell(session, validated(dataset))
            return Answer(201 if new else 200, show(dataset))

        request = digest(route, f"{name} {summary.sha256}".encode())
        return await once(session, caller.tenant_id, idempotency_key, request, make, now=now)
