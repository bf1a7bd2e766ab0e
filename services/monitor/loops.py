"""What the monitor does by itself: receipts, reference texts, and forgetting. The cloud's messages: reading.py."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import structlog

from services.monitor import domain, drift_texts, ledger
from services.monitor.budget_store import BudgetStore
from services.monitor.metrics import RECEIPTS
from services.monitor.store import Store
from services.monitor.tables import JobRow, ReferenceRow
from sskai import claims, redaction, telemetry
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.objects import NotFoundError, Objects, ObjectsUnavailableError

log = structlog.get_logger()

RETRY_SECONDS = 2.0
# A job succeeds by its trainer's last word, so that is on its way; if it is not here by then, it was lost.
LAST_WORD_SECONDS = 600.0
# Enough for 500 texts of almost any dataset; the sample is drawn from this beginning of the file.
MAX_REFERENCE_BYTES = 32 * 1024 * 1024


async def issue_receipts(database: Database, settle_seconds: float) -> None:
    """Give every ended job its one receipt, as soon as all its rows are there."""
    for job in await claims.claim(database, JobRow, limit=50):
        now = datetime.now(UTC)
        async with database.transaction() as session:
            store = Store(session)
            rows, logs = await store.ledger_rows(job.job_id), await store.attempts(job.job_id)
            # Not since the job ended: a monitor that was away hears of ends before it has read all that led to them.
            waited_seconds = (now - job.closed_at).total_seconds() if job.closed_at else 0.0
            patience_seconds = settle_seconds if job.final_attempt is None else LAST_WORD_SECONDS
            settled = waited_seconds >= patience_seconds or any(
                log.finished for log in logs if log.attempt == job.final_attempt
            )
            settled = settled and (job.planned or waited_seconds >= settle_seconds)
            if not settled or not ledger.complete(rows, job.metered_intervals or 0):
                # Soon at first, then less and less often: what is missing for an hour will hardly come this second.
                await claims.release(session, job, due_in_seconds=min(max(waited_seconds / 10, 0.2), 60))
            elif await claims.release(session, job, due_in_seconds=None):
                life = ledger.Life(job.submitted_at, job.ended_at, job.outcome == "succeeded", job.naive)
                await _issue(store, job, ledger.receipt(rows, logs, life), now)


async def _issue(store: Store, job: JobRow, receipt: ledger.Receipt, now: datetime) -> None:
    with telemetry.tracer().start_as_current_span(
        "issue receipt",
        context=telemetry.context_from(job.traceparent),
        attributes={"sskai.tenant": job.tenant_id, "sskai.subject": job.job_id},
    ):
        await store.add_receipt(job, receipt, now)
        await BudgetStore(store.session).release(job.job_id, now)
        await tell(store.session, _receipt_issued(job, receipt, now))
    RECEIPTS.labels(outcome=job.outcome).inc()


def _receipt_issued(job: JobRow, receipt: ledger.Receipt, now: datetime) -> events.ReceiptIssued:
    return events.ReceiptIssued(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        outcome=job.outcome or "",
        issued_at=timestamp(now),
        **asdict(receipt),
    )


async def fetch_references(database: Database, objects: Objects) -> None:
    """Draw the sample of training texts for every served version that has none yet."""
    for row in await claims.claim(database, ReferenceRow, limit=4, lease_seconds=60):
        async with database.transaction() as session:
            version = await Store(session).model_version(row.model_id, row.version)
        if version is None:  # its event is still on the way
            async with database.transaction() as session:
                await claims.release(session, row, due_in_seconds=RETRY_SECONDS)
            continue
        texts: list[str] | None = None
        problem, due_in_seconds = None, None
        try:
            dice = random.Random(f"{row.model_id}/{row.version}")
            texts = await asyncio.to_thread(_draw, objects, version.dataset_uri, dice)
        except ObjectsUnavailableError as error:
            problem, due_in_seconds = str(error), RETRY_SECONDS
        except (NotFoundError, ValueError) as error:
            problem = f"{version.dataset_uri}: {error}"
        async with database.transaction() as session:
            await claims.release(session, row, due_in_seconds=due_in_seconds, texts=texts, problem=problem)
        log.info(
            "drift reference",
            model_id=row.model_id,
            version=row.version,
            texts=len(texts) if texts else 0,
            problem=problem,
        )


def _draw(objects: Objects, uri: str, dice: random.Random) -> list[str]:
    """A sample of what a JSON Lines dataset asks. Raises NotFoundError, ValueError, ObjectsUnavailableError."""
    rows = (json.loads(line) for line in _lines(objects, objects.key(uri)) if line.strip())
    asked = (domain.asked_text(row) for row in rows if isinstance(row, dict))
    texts = domain.sample((text[: redaction.MAX_CHARACTERS] for text in asked if text), dice)
    if len(texts) < drift_texts.MIN_REFERENCE_TEXTS:
        raise ValueError(f"{len(texts)} texts are too few; drift needs {drift_texts.MIN_REFERENCE_TEXTS}")
    return texts


def _lines(objects: Objects, key: str) -> Iterator[bytes]:
    """The lines of an object, whole ones only, up to MAX_REFERENCE_BYTES."""
    rest, read_bytes = b"", 0
    for chunk in objects.open(key):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        read_bytes += len(chunk)
        if read_bytes >= MAX_REFERENCE_BYTES:
            return
    yield rest
