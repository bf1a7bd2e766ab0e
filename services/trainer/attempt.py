"""The life of one attempt: fetch, take over, evaluate, train, evaluate, publish. A new job and a resumed one alike."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from services.trainer import domain, publishing
from services.trainer.checkpoints import Bucket, Checkpoints, Stored
from services.trainer.domain import FencedError, Point, WorkerLostError
from services.trainer.interruption import Interruption, NoticeError
from services.trainer.loading import CURVE, Loaded, load
from services.trainer.patience import Patience, PatientSource, Source
from services.trainer.progress import Progress
from services.trainer.saving import Save, Saver, Snapshot, Store
from services.trainer.settings import PodSettings
from services.trainer.tracking import Server, Tracking
from services.trainer.writer import Writer
from sskai import contract, telemetry
from sskai.events import v1 as events

if TYPE_CHECKING:
    from services.trainer.training import Evaluation
    from services.trainer.workers import Workers

log = structlog.get_logger()

EVALUATIONS_LEFT = 3  # while it trains: the one afterwards, and both sides of the comparison


def run(
    settings: PodSettings,
    bucket: Bucket,
    checkpoints: Checkpoints,
    *,
    progress: Progress,
    interruption: Interruption,
    folder: Path,
) -> None:
    """Ends when the result was stored and told. Raises NoticeError (saved and told), FencedError, TrainingFailedError,
    ObjectsUnavailableError."""
    spec = settings.spec()
    patience = Patience(settings.unavailable_seconds, interruption.check)
    source = PatientSource(bucket, patience)
    at_hand: dict[str, Any] = {"interruption": interruption, "progress": progress, "folder": folder}
    try:
        with telemetry.tracer().start_as_current_span("load"):
            loaded = load(settings, spec, source, checkpoints=checkpoints, patience=patience, **at_hand)
    except NoticeError:
        progress.tell(_drained(settings, checkpoints.resumed_step))
        raise
    writer = Writer(bucket.access, checkpoints)
    Attempt(settings, spec, source, checkpoints, loaded, writer=writer, **at_hand).run()


class Attempt:
    """A loaded attempt at work."""

    def __init__(
        self,
        settings: PodSettings,
        spec: events.JobSpec,
        source: Source,
        checkpoints: Checkpoints,
        loaded: Loaded,
        *,
        writer: Writer,
        progress: Progress,
        interruption: Interruption,
        folder: Path,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._source = source
        self._checkpoints = checkpoints
        self._progress = progress
        self._interruption = interruption
        self._folder = folder
        self._loaded = loaded
        self._workers = loaded.workers
        self._training = loaded.training
        self._running = loaded.running
        self._about = _about(settings)
        self._writer = writer
        self._saver = Saver(
            _saved_by(writer, checkpoints, self._workers),
            self._training.recipe.keep_checkpoints,
            loaded.versions,
            self._tell_saved,
        )
        self._saver.saved_step = self._training.step
        self._tracking = _tracking(settings, spec, loaded)
        self._interval = self._training.recipe.checkpoint_interval_steps
        self._interruptions_per_hour = settings.planned().interruptions_per_hour
        self._last_save: Save | None = None

    def run(self) -> None:
        recipe = self._training.recipe
        log.info("loaded", step=self._training.step, recipe=recipe.to_json(), data=dict(self._loaded.data))
        self._progress.phase("starting", step=self._training.step, total_steps=recipe.total_steps)
        self._interruption.watch_fence(self._checkpoints.check_told)
        if self._workers.first and not self._workers.sharded:
            self._writer.start()
        status = "FAILED"
        try:
            try:
                after = self._evaluate_and_train()
                self._write_result(after)
            except NoticeError:
                status = "SCHEDULED"
                self._drain()
                raise
            except WorkerLostError:
                self._save_what_is_left()
                raise
            except FencedError:
                self._writer.close()  # what is being written has no reader any more
                raise
            finally:
                self._interruption.stop_watching()
                self._saver.close()
                self._writer.close()
            if self._workers.first:
                self._publish(after.loss)
            status = "FINISHED"
        finally:
            self._tracking.close(status)

    def _evaluate_and_train(self) -> Evaluation:
        """Returns the second evaluation."""
        training, running = self._training, self._running
        if self._loaded.restored is None:
            before = self._evaluate("evaluate before")
            running.eval_loss_before, running.eval_accuracy_before = before.loss, before.accuracy
        self._progress.phase("training")
        with telemetry.span_beside("train", {"sskai.from_step": training.step}):
            while training.step < training.recipe.total_steps:
                self._make_step()
                if len(running.step_seconds) == 1:
                    self._saver.prepare(self._snapshot)  # now the optimizer has all of its state
                elif self._should_save():
                    self._saver.begin(self._snapshot, "interval")
        self._progress.phase("saving")
        with self._workers.together():
            self._save_now("final")
        return self._evaluate("evaluate after")

    def _should_save(self) -> bool:
        if not self._workers.first and not self._workers.sharded:
            return False
        step, total_steps = self._training.step, self._training.recipe.total_steps
        due = not self._saver.busy and domain.should_save(
            step, self._saver.saved_step, self._interval_steps(), total_steps
        )
        # Those who save parts of the model save the same step.
        return bool(self._workers.tell(due)) if self._workers.sharded else due

    def _save_now(self, cause: str) -> None:
        if self._workers.first or self._workers.sharded:
            self._saver.now(self._snapshot, self._training.step, cause)

    def _save_what_is_left(self) -> None:
        """Another worker went away. Between two steps the state stands still here: nothing is lost while this one
        lives, unless a part of the model went with the other."""
        if self._workers.sharded:
            return
        self._save_now("notice" if self._interruption.noticed else "interval")
        if self._interruption.noticed:
            self._progress.tell(_drained(self._settings, self._training.step))
            raise NoticeError

    def _evaluate(self, name: str) -> Evaluation:
        self._progress.phase("evaluating")
        started = time.perf_counter()
        with telemetry.tracer().start_as_current_span(
            name, attributes={"sskai.rows": len(self._training.task.held_out)}
        ):
            found = self._training.evaluate(self._interruption.stoppable)
        self._running.evaluation_seconds = time.perf_counter() - started
        figures = {"eval_loss": found.loss}
        if found.accuracy is not None:
            figures["eval_accuracy"] = found.accuracy
        self._tracking.metrics(self._training.step, figures)
        return found

    def _make_step(self) -> None:
        training, running, recipe = self._training, self._running, self._training.recipe
        chosen = domain.batch(
            training.step * recipe.batch_size, recipe.batch_size, len(training.task.training), recipe.seed
        )
        rate = domain.learning_rate(training.step + 1, recipe)
        started = time.perf_counter()
        made = training.learn(chosen, rate, self._interruption.stoppable)
        seconds = time.perf_counter() - started
        running.tokens += made.tokens
        running.train_seconds += seconds
        running.step_seconds.append(seconds)
        entry = {
            "step": training.step,
            "loss": made.loss,
            "learning_rate": rate,
            "tokens": made.tokens,
            "seconds": round(seconds, 6),
            "attempt": self._settings.attempt,
        }
        line = json.dumps(entry).encode() + b"\n"
        running.curve += line
        with (self._folder / CURVE).open("ab") as curve:
            curve.write(line)
        if len(running.step_seconds) == 1:
            log.info("first step", step=training.step)
            self._tell_resumed()
        self._tracking.metrics(
            training.step,
            {"loss": made.loss, "learning_rate": rate, "tokens_per_second": made.tokens / seconds},
        )
        step_seconds = domain.median(running.step_seconds)
        self._progress.stepped(
            training.step,
            loss=made.loss,
            learning_rate=rate,
            step_seconds=step_seconds,
            tokens_per_second=made.tokens / seconds,
            eta_seconds=domain.eta_seconds(
                training.step, recipe.total_steps, step_seconds, EVALUATIONS_LEFT * running.evaluation_seconds
            ),
        )

    def _tell_resumed(self) -> None:
        """After the first step of an attempt; only a later one has something to tell."""
        if self._settings.attempt == 1:
            return
        origin = self._loaded.restored.point if self._loaded.restored else Point(0, 0)
        previous, now = self._settings.previous, datetime.now(UTC)
        self._progress.tell(
            events.AttemptResumed(
                **self._about,
                from_attempt=origin.attempt,
                from_step=origin.step,
                lost_steps=domain.lost_steps(previous.step, origin.step) if previous else 0,
                gap_seconds=max(0.0, (now - previous.at).total_seconds()) if previous else 0.0,
                at=contract.timestamp(now),
            )
        )

    def _interval_steps(self) -> int:
        """The recipe's until a save was measured; what the user asked for stays."""
        policy, save = self._spec.checkpoint, self._last_save
        if save is None or policy.interval_steps or policy.disabled:
            return self._interval
        return domain.adapted_interval(
            self._interval,
            stall_seconds=save.stall_seconds,
            save_seconds=save.save_seconds,
            step_seconds=domain.median(self._running.step_seconds),
            interruptions_per_hour=self._interruptions_per_hour,
        )

    def _snapshot(self) -> Snapshot:
        return self._training.snapshot(self._running.to_json(), self._running.curve)

    def _tell_saved(self, save: Save) -> None:
        if not self._workers.first:
            return  # its part of the model is stored; the checkpoint is not there yet
        if save.cause == "interval":
            self._last_save = save
        log.info("checkpoint committed", step=save.step, cause=save.cause, seconds=round(save.save_seconds, 3))
        self._progress.tell(
            events.CheckpointCommitted(
                **self._about,
                step=save.step,
                uri=save.uri,
                bytes=save.bytes,
                save_seconds=save.save_seconds,
                stall_seconds=save.stall_seconds,
                cause=save.cause,
                at=contract.timestamp(datetime.now(UTC)),
            )
        )

    def _drain(self) -> None:
        """Answer the notice: save what is not saved, say so."""
        self._progress.phase("saving")
        self._save_now("notice")
        self._progress.tell(_drained(self._settings, self._training.step))

    def _publish(self, eval_loss_after: float) -> None:
        training, running = self._training, self._running
        with telemetry.tracer().start_as_current_span("publish"):
            stored = self._store_artifact()
        self._progress.tell(
            events.AttemptFinished(
                **self._about,
                succeeded=True,
                artifact_uri=stored.uri,
                steps=training.step,
                tokens=running.tokens,
                train_seconds=running.train_seconds,
                eval_loss_before=running.eval_loss_before,
                eval_loss_after=eval_loss_after,
                median_step_seconds=domain.median(running.step_seconds),
                peak_memory_bytes=training.peak_memory_bytes(),
                at=contract.timestamp(datetime.now(UTC)),
            )
        )

    def _write_result(self, after: Evaluation) -> None:
        """Everything is saved by now: a notice that comes meanwhile loses nothing."""
        self._progress.phase("publishing")
        if not self._workers.first:
            if self._workers.sharded:
                self._training.task.weights.write(self._folder / "artifact")  # the first one needs our parts
            return
        publishing.write(
            self._folder / "artifact",
            self._settings,
            self._spec,
            self._loaded,
            self._source,
            after=after,
            stoppable=self._interruption.stoppable,
        )

    def _store_artifact(self) -> Stored:
        # Everything is saved by now: a notice stops nothing any more.
        patience = Patience(self._settings.unavailable_seconds, check=lambda: None)
        folder = self._folder / "artifact"
        return patience(lambda: self._checkpoints.publish(self._training.step, folder, self._loaded.versions))


def _tracking(settings: PodSettings, spec: events.JobSpec, loaded: Loaded) -> Tracking:
    recipe = loaded.training.recipe.to_json()
    params = {name: value for name, value in recipe.items() if name != "reasons"}
    params |= {"base": spec.model.model_id or spec.model.uri, "dataset_sha256": spec.dataset.sha256}
    tags = {"sskai.tenant": settings.tenant_id, "sskai.dataset": spec.dataset.dataset_id}
    server = Server.from_env({**os.environ, **spec.env}) if loaded.workers.first else None
    return Tracking(server, settings.job_id, spec.name, params, tags)


def _saved_by(writer: Writer, checkpoints: Checkpoints, workers: Workers) -> Store:
    if not workers.sharded:
        return writer
    from services.trainer.sharding import ShardedCheckpoints

    return ShardedCheckpoints(checkpoints, workers)


def _about(settings: PodSettings) -> dict[str, Any]:
    return {"job_id": settings.job_id, "tenant_id": settings.tenant_id, "attempt": settings.attempt}


def _drained(settings: PodSettings, step: int) -> events.AttemptDrained:
    return events.AttemptDrained(**_about(settings), step=step, at=contract.timestamp(datetime.now(UTC)))
