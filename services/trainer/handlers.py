"""What the trainer's service does when others tell something."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message

from services.trainer.store import EndedJobRow, Store
from sskai.delivery import Handlers
from sskai.events import v1 as events
from sskai.ownership import Owned


async def take_result(event: events.JobSucceeded, store: Store, _now: datetime) -> list[Message]:
    """A loop verifies the artefact; only then is it a version of a model."""
    await store.add_result(event)
    await store.add_ended_job(event)
    return []


async def take_end(event: events.JobFailed | events.JobCancelled, store: Store, _now: datetime) -> list[Message]:
    """Nothing to publish; the checkpoints are kept for a while."""
    await store.add_ended_job(event)
    return []


HANDLERS: Handlers = {
    events.JobSucceeded: take_result,
    events.JobFailed: take_end,
    events.JobCancelled: take_end,
}
HANDLERS = Owned(HANDLERS, {"job_id": [EndedJobRow]})
