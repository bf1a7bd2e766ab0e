"""A retrain: the parent's job once more, on the newest version of its dataset or on one that is cut for it.

A cut takes as long as its dataset, so a loop makes it: RetrainRequested leaves a row in `cuts`, the loop claims it,
cuts and uploads outside of any transaction, and then commits the version, DatasetValidated and JobSubmitted together.
Whatever crashes in between is done again, and the job is submitted once.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import cutting, jobspec
from services.gateway.cutting import Cut, Cutter, Order, SupersededError
from services.gateway.settings import Settings
from services.gateway.store import Store
from services.gateway.tables import CutRow
from services.gateway.values import Dataset
from sskai import claims, contract, telemetry
from sskai.contract import moment, timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

DATASET, TRAFFIC = "dataset", "traffic"  # RetrainOf.data
MAX_TRIES = 8
MAX_PAUSE_SECONDS = 300.0
SLOWEST_BYTES_PER_SECOND = 1_000_000  # of reading, checking and writing rows: a lease lasts as long as the largest cut


async def ask_for_cut(request: events.RetrainRequested, session: AsyncSession, now: datetime) -> None:
    """The loop's next work: once, however often the retrain is asked for."""
    values = {
        "retrain_id": request.retrain_id,
        "tenant_id": request.tenant_id,
        "request": request.SerializeToString(),
        "traceparent": telemetry.current_traceparent(),
        "tries": 0,
        "asked_at": now,
    }
    await session.execute(upsert(CutRow).values(**values).on_conflict_do_nothing())


async def submit(
    request: events.RetrainRequested, store: Store, now: datetime, *, cut: Cut | None = None, detail: str = ""
) -> list[Message]:
    """One job, however often it is asked for, on the cut or else on the newest version, for which `detail` is the
    reason. Raises SupersededError."""
    found = await _subject(request, store)
    if found is None:
        return []
    parent, submitted_at, newest = found
    job_id = contract.new_id("job")
    if not await store.answer_retrain(request.retrain_id, request.tenant_id, job_id):
        return []
    told: list[Message] = []
    dataset = newest
    if cut is not None:
        dataset, facts = await cutting.keep(cut, store.library, now)
        told.extend(facts)
    data = TRAFFIC if cut is not None else DATASET
    champion, _ = await store.library.champion(request.tenant_id, parent.name)
    spec = jobspec.retrain_spec(
        parent, submitted_at, dataset, request, now, champion=champion, data=data, data_detail=detail
    )
    submitted = events.JobSubmitted(job_id=job_id, tenant_id=request.tenant_id, spec=spec, submitted_at=timestamp(now))
    await store.add_job(submitted, telemetry.current_trace_id(), now)
    return [*told, submitted]


async def _subject(request: events.RetrainRequested, store: Store) -> tuple[events.JobSpec, datetime, Dataset] | None:
    """The parent's specification, since when it was there, and the newest version of its dataset."""
    parent = await store.job(request.tenant_id, request.parent_job_id)
    endpoint = await store.endpoint(request.tenant_id, request.endpoint_id)
    if parent is None or parent.spec is None or parent.submitted_at is None or endpoint is None:
        log.warning("nothing to retrain", retrain_id=request.retrain_id, parent_job_id=request.parent_job_id)
        return None
    spec = events.JobSpec.FromString(parent.spec)
    dataset = await store.library.dataset(request.tenant_id, spec.dataset.name, keep=True)
    if dataset is None:
        log.warning("the dataset is gone", retrain_id=request.retrain_id, dataset=spec.dataset.name)
        return None
    return spec, parent.submitted_at, dataset


def lease_seconds(settings: Settings) -> float:
    return 60 + settings.max_dataset_bytes / SLOWEST_BYTES_PER_SECOND


async def cut_for_retrains(cutter: Cutter) -> None:
    """Until nothing is due."""
    lease = lease_seconds(cutter.settings)
    while claimed := await claims.claim(cutter.database, CutRow, limit=1, lease_seconds=lease):
        for row in claimed:
            with telemetry.tracer().start_as_current_span(
                "cut dataset",
                context=telemetry.context_from(row.traceparent),
                attributes={"sskai.tenant": row.tenant_id, "sskai.subject": row.retrain_id},
            ):
                await _answer(row, cutter)


async def _answer(row: CutRow, cutter: Cutter) -> None:
    request = events.RetrainRequested.FromString(row.request)
    cut, detail = None, ""
    try:
        order = await _order(request, row, cutter)
        if order is not None:
            cut = await cutter.make(order)
            cut, detail = (None, cut.refusal) if cut.refusal else (cut, "")
    except Exception as error:
        log.warning("the cut failed", retrain_id=row.retrain_id, tries=row.tries + 1, error=repr(error))
        if row.tries + 1 < MAX_TRIES:
            await _try_again(
                row, cutter.database, in_seconds=min(2.0**row.tries, MAX_PAUSE_SECONDS), tries=row.tries + 1
            )
            return
        detail = f"the cut failed {MAX_TRIES} times, at last by {type(error).__name__}"
    if detail:
        log.info("trained on the newest version instead", retrain_id=row.retrain_id, reason=detail)
    try:
        async with cutter.database.transaction() as session:
            if not await claims.release(session, row, due_in_seconds=None):
                return
            await tell(session, *await submit(request, Store(session), datetime.now(UTC), cut=cut, detail=detail))
    except SupersededError as error:
        log.info("cut again: there is a newer version", retrain_id=row.retrain_id, than=str(error))
        await _try_again(row, cutter.database, in_seconds=0, tries=row.tries)


async def _order(request: events.RetrainRequested, row: CutRow, cutter: Cutter) -> Order | None:
    """Of what was asked until the retrain was: a second try looks at the same requests."""
    async with cutter.database.transaction() as session:
        found = await _subject(request, Store(session))
    if found is None:
        return None
    return Order(
        parent=found[2],
        endpoint_id=request.endpoint_id,
        until=moment(request.requested_at) if request.HasField("requested_at") else row.asked_at,
        minimum_rows=cutter.settings.traffic_minimum_rows,
        retrain_id=request.retrain_id,
    )


async def _try_again(row: CutRow, database: Database, *, in_seconds: float, tries: int) -> None:
    async with database.transaction() as session:
        await claims.release(session, row, due_in_seconds=in_seconds, tries=tries)
