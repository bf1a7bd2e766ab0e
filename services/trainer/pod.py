"""The program in a training pod: `python -m services.trainer.pod`, one attempt of one job, told all by `SSKAI_*`.

Its exit codes stand in `domain.Exit`. Needs no database; Kafka and the object store may be away for a while.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from services.trainer import members
from services.trainer.domain import Exit, FencedError, Outcome, TrainingFailedError, WorkerLostError
from services.trainer.interruption import Interruption, NoticeError
from services.trainer.members import NOTICED

if TYPE_CHECKING:
    from services.trainer.checkpoints import Checkpoints
    from services.trainer.progress import Progress
    from services.trainer.settings import PodSettings

STARTED_AT = time.time()  # epoch seconds; our first instruction, as far as a program can know it

# OpenMP's threads spin at the end of each operator by default. Beside a busy neighbour that took a training step on two
# cores from 2 s to 16 s; sleeping instead costs nothing that could be measured. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

DRAINED_FLUSH_SECONDS = 20.0  # the machine goes away soon, and the checkpoint is safe whether or not it is told


def main() -> int:
    """Train, or have several workers train; returns the exit code."""
    interruption = Interruption()
    gang_folder = os.environ.get("SSKAI_GANG_FOLDER")
    if gang_folder:
        members.end_with_agent()
        interruption.install_in_worker(Path(gang_folder) / NOTICED)
    else:
        interruption.install()  # before the seconds that the libraries take to load

    import structlog
    from opentelemetry import context as otel_context

    from services.trainer.progress import Progress
    from services.trainer.settings import PodSettings
    from sskai import telemetry
    from sskai.broker import Broker

    try:
        settings = PodSettings()
        settings.spec(), settings.planned(), settings.work_key()
    except ValueError as error:
        print(f"the environment is not a pod's: {error}", file=sys.stderr)
        return Exit.MISCONFIGURED
    if not gang_folder and members.machines() * members.on_this_machine(settings.trainer_workers) > 1:
        from services.trainer import agent

        return agent.main(settings)
    rank = members.rank()
    attributes: dict[str, str | int] = {
        "sskai.job": settings.job_id,
        "sskai.tenant": settings.tenant_id,
        "sskai.attempt": settings.attempt,
        "sskai.machine": settings.machine_id,
    }
    telemetry.setup("trainer", settings.otlp_url, settings.log_level, attributes)
    structlog.contextvars.bind_contextvars(job_id=settings.job_id, attempt=settings.attempt)
    structlog.get_logger().info("started", started_at=STARTED_AT)
    otel_context.attach(telemetry.context_from(os.environ.get("TRACEPARENT")))
    folder = settings.work_dir if settings.work_dir and rank == 0 else Path(tempfile.mkdtemp(prefix="sskai-"))
    folder.mkdir(parents=True, exist_ok=True)
    with telemetry.span_beside("pod", attributes):
        broker = Broker.from_settings(settings) if settings.kafka_bootstrap else None
        progress = Progress(broker, settings.job_id, settings.tenant_id, settings.attempt, folder)
        if rank > 0:
            progress.silence()  # the first worker speaks for all
        progress.start()
        code = run(settings, progress, interruption, folder)
    progress.close()
    telemetry.shutdown()
    if folder != settings.work_dir:
        shutil.rmtree(folder, ignore_errors=True)
    structlog.get_logger().info("ended", exit=code.name)
    if settings.gang_folder is None or code is Exit.WORKER_LOST:
        return code
    members.say_end(settings.gang_folder, rank, code)
    return Exit.DONE  # in order, as torch's agent understands it


def run(settings: PodSettings, progress: Progress, interruption: Interruption, folder: Path) -> Exit:
    """Run the attempt and tell its end; whatever happens becomes one of the exit codes."""
    import structlog

    from services.trainer import attempt
    from services.trainer.checkpoints import Checkpoints
    from sskai.objects import Objects, ObjectsUnavailableError

    log = structlog.get_logger()
    bucket = Objects.from_settings(settings)
    checkpoints = Checkpoints(
        bucket,
        settings.work_key(),
        settings.job_id,
        settings.attempt,
        awaited=settings.awaited(),
        gang=settings.gang_secret,
    )
    first = members.rank() == 0
    try:
        attempt.run(settings, bucket, checkpoints, progress=progress, interruption=interruption, folder=folder)
    except NoticeError:
        if first:
            _tell_end(checkpoints, Outcome.DRAINED)
        progress.flush(DRAINED_FLUSH_SECONDS)
        return Exit.DRAINED
    except FencedError as error:
        log.warning("fenced", error=str(error))
        progress.silence()
        return Exit.FENCED
    except WorkerLostError as error:
        log.warning("a worker is lost", error=str(error))
        return Exit.WORKER_LOST
    except ObjectsUnavailableError as error:
        log.warning("the object store is away", error=str(error))
        return Exit.UNAVAILABLE
    except Exception as error:
        return _fail(error, settings, progress, checkpoints)
    if first:
        _tell_end(checkpoints, Outcome.DONE)
    return Exit.DONE if progress.flush(settings.unavailable_seconds) else Exit.UNAVAILABLE


def _tell_end(checkpoints: Checkpoints, outcome: Outcome) -> None:
    """For a successor that stands by; it goes on without it, only later."""
    import structlog

    from sskai.objects import ObjectsUnavailableError

    try:
        checkpoints.tell_end(outcome)
    except ObjectsUnavailableError as error:
        structlog.get_logger().warning("the end is not written", error=str(error))


def _fail(error: Exception, settings: PodSettings, progress: Progress, checkpoints: Checkpoints) -> Exit:
    from datetime import UTC, datetime

    import structlog

    from services.trainer.training import is_out_of_memory
    from sskai import contract
    from sskai.events import v1 as events

    log = structlog.get_logger()
    if is_out_of_memory(error):
        error = TrainingFailedError("out-of-memory", f"{error}; choose a larger machine or a smaller micro-batch")
    elif not isinstance(error, TrainingFailedError):
        log.exception("attempt failed")
        error = TrainingFailedError("error", repr(error))
    log.error("attempt failed", reason=error.reason, detail=error.detail)
    progress.tell(
        events.AttemptFinished(
            job_id=settings.job_id,
            tenant_id=settings.tenant_id,
            attempt=settings.attempt,
            succeeded=False,
            reason=error.reason,
            detail=error.detail[:2000],
            at=contract.timestamp(datetime.now(UTC)),
        )
    )
    if members.rank() == 0:
        _tell_end(checkpoints, Outcome.FAILED)
    progress.flush(settings.unavailable_seconds)
    return error.exit


if __name__ == "__main__":
    status = main()
    if "SSKAI_GANG_FOLDER" in os.environ:
        # All is said and closed. The threads of a group that lost a member may still run, and C++ would abort for them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
