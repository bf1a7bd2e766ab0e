"""The last lines of an attempt, kept as its pod is deleted: some clusters keep a log no longer than the pod.

An object of at most KEPT_BYTES beside the job's checkpoints, one JSON document a line. What cannot be kept in time is
not waited for: a machine that costs money is given back first.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial

import structlog

from services.scheduler.world import World
from sskai.cluster import LOG_PAGE_BYTES, ClusterUnavailableError, Line, LogPage, NoLogError, Observation, RefusedError
from sskai.objects import NotFoundError, Objects, ObjectsUnavailableError

log = structlog.get_logger()

KEPT_LINES = 5_000
KEPT_BYTES = LOG_PAGE_BYTES
KEEP_SECONDS = 5.0
POSITION = "kept"  # of who has read such a log: it ends there


def key_of(job_id: str, attempt: int) -> str:
    return f"jobs/{job_id}/logs/attempt-{attempt:05}.jsonl"


async def keep(world: World, one: Observation) -> None:
    """Before the pod is deleted; nothing here holds that up for longer than KEEP_SECONDS."""
    if world.objects is None:
        return
    try:
        async with asyncio.timeout(KEEP_SECONDS):
            page = await world.cluster.log(one.machine_id, tail=KEPT_LINES)
            if page.lines:
                content = written(page)
                key = key_of(one.job_id, one.attempt)
                await asyncio.to_thread(partial(world.objects.put_bytes, key, content, kind="log"))
    except (NoLogError, RefusedError, ClusterUnavailableError, ObjectsUnavailableError, TimeoutError) as error:
        log.info("the log of a pod was not kept", machine=one.machine_id, job=one.job_id, why=str(error))


def written(page: LogPage) -> bytes:
    """The last lines that fit; a line that says so where some do not."""
    lines: list[bytes] = []
    size, truncated = 0, page.truncated
    for line in reversed(page.lines):
        document = json.dumps({"text": line.text} | ({"at": line.at} if line.at else {})).encode() + b"\n"
        size += len(document)
        if size > KEPT_BYTES:
            truncated = True
            break
        lines.append(document)
    head = json.dumps({"truncated": truncated}).encode() + b"\n"
    return head + b"".join(reversed(lines))


async def read(objects: Objects, job_id: str, attempt: int, *, tail: int, after: str) -> LogPage | None:
    """What was kept; nothing more for whoever had begun to read. None: it was not kept. Raises
    ObjectsUnavailableError."""
    try:
        content = await asyncio.to_thread(objects.get_bytes, key_of(job_id, attempt))
    except NotFoundError:
        return None
    head, *documents = [json.loads(line) for line in content.splitlines()]
    if after:
        return LogPage((), POSITION)
    lines = tuple(Line(document["text"], document.get("at")) for document in documents)
    return LogPage(lines[-tail:], POSITION, truncated=head["truncated"] or len(lines) > tail)
