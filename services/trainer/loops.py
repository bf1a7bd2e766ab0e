"""Verified artefacts become model versions; checkpoints of ended jobs are deleted when their time is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter

from services.trainer import artifacts, domain
from services.trainer.comparison import Comparison
from services.trainer.domain import ResultState
from services.trainer.manifests import ManifestError
from services.trainer.store import EndedJobRow, ResultRow, Store
from sskai import claims, contract, telemetry
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.objects import Objects, ObjectsUnavailableError

log = structlog.get_logger()

RESULTS = Counter("sskai_trainer_results", "Artefacts that were verified, by outcome", ["outcome"])
CLEANED_JOBS = Counter("sskai_trainer_cleaned_jobs", "Ended jobs whose checkpoints were deleted")

VERIFY_LEASE_SECONDS = 20.0  # renewed meanwhile: reading a whole model of some GB takes minutes
RETRY_SECONDS = 5.0


async def verify_results(database: Database, objects: Objects) -> None:
    """Until nothing is due."""
    while claimed := await claims.claim(database, ResultRow, limit=1, lease_seconds=VERIFY_LEASE_SECONDS):
        for row in claimed:
            with telemetry.tracer().start_as_current_span(
                "verify artefact",
                context=telemetry.context_from(row.traceparent),
                attributes={"sskai.tenant": row.tenant_id, "sskai.subject": row.job_id},
            ):
                async with claims.held(database, row, VERIFY_LEASE_SECONDS):
                    await _verify(database, objects, row)


async def _verify(database: Database, objects: Objects, row: ResultRow) -> None:
    try:
        verified = await asyncio.to_thread(artifacts.verify, objects, row.artifact_uri, row.job_id)
        comparison = await asyncio.to_thread(artifacts.comparison_of, objects, row.artifact_uri)
    except ManifestError as error:
        await _refuse(database, row, str(error))
    except ObjectsUnavailableError:
        async with database.transaction() as session:
            await claims.release(session, row, due_in_seconds=RETRY_SECONDS)
        raise
    else:
        await _publish(database, row, *verified, comparison)


async def _publish(
    database: Database, row: ResultRow, manifest_sha256: str, artifact_bytes: int, comparison: Comparison | None
) -> None:
    async with database.transaction() as session:
        if not await claims.release(session, row, due_in_seconds=None, state=ResultState.PUBLISHED):
            return
        model_id, version = await Store(session).next_version(row)
        if comparison is not None:
            # Told before the version is: whoever tries the version has heard how it does.
            await tell(session, _evaluated(row, model_id, version, comparison))
        await tell(
            session,
            events.ModelVersionReady(
                model_id=model_id,
                tenant_id=row.tenant_id,
                version=version,
                name=row.name,
                job_id=row.job_id,
                base_model_id=row.base_model_id,
                base_uri=row.base_uri,
                method=row.method,
                artifact_uri=row.artifact_uri,
                manifest_sha256=manifest_sha256,
                dataset_id=row.dataset_id,
                dataset_uri=row.dataset_uri,
                eval_loss_before=row.eval_loss_before,
                eval_loss_after=row.eval_loss_after,
                ready_at=contract.timestamp(datetime.now(UTC)),
                bytes=artifact_bytes,
            ),
        )
    RESULTS.labels(outcome="published").inc()
    log.info("model version ready", job_id=row.job_id, model_id=model_id, version=version)


def _evaluated(row: ResultRow, model_id: str, version: int, comparison: Comparison) -> events.ModelEvaluated:
    return events.ModelEvaluated(
        model_id=model_id,
        tenant_id=row.tenant_id,
        version=version,
        dataset_id=row.dataset_id,
        metric=comparison.metric,
        value=comparison.value,
        champion_value=comparison.champion_value,
        sample_size=comparison.sample_size,
        difference_standard_error=comparison.standard_error,
        champion_version=comparison.champion_version,
        rows_left_out=comparison.left_out,
        evaluated_at=contract.timestamp(datetime.now(UTC)),
    )


async def _refuse(database: Database, row: ResultRow, detail: str) -> None:
    async with database.transaction() as session:
        if not await claims.release(session, row, due_in_seconds=None, state=ResultState.REFUSED, detail=detail):
            return
        await tell(
            session,
            events.ModelVersionRefused(
                job_id=row.job_id,
                tenant_id=row.tenant_id,
                artifact_uri=row.artifact_uri,
                reason=detail,
                advice="Submit the job again; if it happens twice, look at the object store's health.",
                refused_at=contract.timestamp(datetime.now(UTC)),
            ),
        )
    RESULTS.labels(outcome="refused").inc()
    log.error("artefact refused", job_id=row.job_id, artifact_uri=row.artifact_uri, detail=detail)


async def clean_up_jobs(database: Database, objects: Objects, retention_hours: float) -> None:
    """Delete the checkpoints and last words of jobs that ended longer ago than that; the artefact stays, whatever it
    is, and so do the fences: they are what still stops a zombie."""
    over = EndedJobRow.ended_at <= datetime.now(UTC) - timedelta(hours=retention_hours)
    while claimed := await claims.claim(database, EndedJobRow, limit=1, lease_seconds=120, where=over):
        for row in claimed:
            await asyncio.to_thread(_delete_what_was_for_attempts, objects, row)
            async with database.transaction() as session:
                await claims.release(session, row, due_in_seconds=None)
            CLEANED_JOBS.inc()


def _delete_what_was_for_attempts(objects: Objects, row: EndedJobRow) -> None:
    objects.delete(f"jobs/{row.job_id}/ends/")
    prefix = f"jobs/{row.job_id}/checkpoints/"
    keys = [info.key for info in objects.list(prefix)]
    for folder in domain.deletable(keys, objects.key(row.artifact_uri) if row.artifact_uri else ""):
        objects.delete(folder)
