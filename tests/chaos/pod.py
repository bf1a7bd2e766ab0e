"""A pod whose training costs nothing: `python -m tests.chaos.pod FOLDER`.

The trainer's own program (services/trainer/pod.py) with its signals, heartbeats, fences, checkpoints, ends and exit
codes, on the real broker and object store. Only the attempt is another one: a chain of hashes instead of torch, so that
a pod is up in a second, and a run that lost or repeated a step ends with another hash.

FOLDER/JOB_ID/log          one line per write: attempt, word, step, epoch seconds
FOLDER/JOB_ID/end-ATTEMPT  what the steps came to
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

import services.trainer
from services.trainer import domain, pod, standby
from services.trainer.checkpoints import Checkpoints, Stored
from services.trainer.domain import FencedError
from services.trainer.interruption import Interruption, NoticeError
from services.trainer.patience import Patience
from services.trainer.progress import Progress
from services.trainer.settings import PodSettings
from simulation.work import link, write_artifact
from sskai import contract
from sskai.events import v1 as events
from sskai.objects import Objects, ObjectsUnavailableError

log = structlog.get_logger()

STEP_SECONDS = 0.1
KEPT = 3
STATE = "state.json"


def run(
    logs: Path,
    settings: PodSettings,
    _bucket: Objects,
    checkpoints: Checkpoints,
    *,
    progress: Progress,
    interruption: Interruption,
    folder: Path,
) -> None:
    """As `services.trainer.attempt.run`, and raises the same."""
    attempt = Attempt(logs, settings, checkpoints, progress, interruption, folder)
    try:
        attempt.take_over()
        attempt.train()
        attempt.publish()
    except NoticeError:
        attempt.leave()
        raise
    except FencedError:
        attempt.say("fenced")
        raise
    finally:
        interruption.stop_watching()


class Attempt:
    """Takes over, makes steps, saves and publishes, in the order of the real one."""

    def __init__(
        self,
        logs: Path,
        settings: PodSettings,
        checkpoints: Checkpoints,
        progress: Progress,
        interruption: Interruption,
        folder: Path,
    ) -> None:
        self._settings, self._checkpoints, self._progress = settings, checkpoints, progress
        self._interruption, self._folder = interruption, folder
        self._home = logs / settings.job_id
        self._home.mkdir(parents=True, exist_ok=True)
        self._log = os.open(self._home / "log", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        self._about: dict[str, Any] = {
            "job_id": settings.job_id,
            "tenant_id": settings.tenant_id,
            "attempt": settings.attempt,
        }
        self._patiently = Patience(settings.unavailable_seconds, check=lambda: None)
        self._total_steps = settings.planned().total_steps
        self._interval = max(1, settings.planned().checkpoint_interval_steps)
        self._began = False
        self._state = ""
        self._step = self._saved_step = self._from_step = 0

    def take_over(self) -> None:
        awaited = self._settings.awaited()
        if awaited is not None:
            self._progress.phase("standing-by")
            standby.wait_for_end(awaited, self._checkpoints, self._interruption, threading.Event())
            self._progress.phase("starting")
        until_notice = Patience(self._settings.unavailable_seconds, self._interruption.check)
        restored = until_notice(lambda: self._checkpoints.take_over(self._folder / "restored"))
        if restored is not None:
            saved = json.loads((restored.folder / STATE).read_text())
            self._step, self._state = saved["step"], saved["state"]
            self._saved_step = self._from_step = self._step
        self._began = True
        self.say("began")
        self._interruption.watch_fence(self._checkpoints.check_told)

    def train(self) -> None:
        self._progress.phase("training", step=self._step, total_steps=self._total_steps)
        resumed = self._settings.attempt > 1
        while self._step < self._total_steps:
            with self._interruption.stoppable():
                time.sleep(STEP_SECONDS)
            self._step += 1
            self._state = link(self._state, self._step)
            self.say("step")
            if resumed:
                resumed = False
                self._progress.tell(events.AttemptResumed(**self._about, from_step=self._from_step, at=_now()))
            self._progress.stepped(
                self._step,
                loss=1 / self._step,
                learning_rate=1e-3,
                step_seconds=STEP_SECONDS,
                tokens_per_second=100 / STEP_SECONDS,
                eta_seconds=(self._total_steps - self._step) * STEP_SECONDS,
            )
            if domain.should_save(self._step, self._saved_step, self._interval, self._total_steps):
                try:
                    self._save("interval")
                except ObjectsUnavailableError as error:  # the next one will do
                    log.warning("not saved", step=self._step, error=str(error)[:300])
        self._patiently(lambda: self._save("final"))

    def publish(self) -> None:
        self._progress.phase("publishing")
        artifact = write_artifact(self._folder / "artifact", self._state)
        stored: Stored = self._patiently(lambda: self._checkpoints.publish(self._step, artifact, {}))
        (self._home / f"end-{self._settings.attempt}").write_text(self._state)
        self.say("done")
        self._progress.tell(
            events.AttemptFinished(
                **self._about,
                succeeded=True,
                artifact_uri=stored.uri,
                steps=self._step,
                tokens=self._step * 100,
                train_seconds=self._step * STEP_SECONDS,
                eval_loss_before=2.0,
                eval_loss_after=1.0,
                median_step_seconds=STEP_SECONDS,
                at=_now(),
            )
        )

    def leave(self) -> None:
        """Answer a notice: save what is not saved, say so."""
        if self._began:
            self._progress.phase("saving")
            self._patiently(lambda: self._save("notice"))
        self._progress.tell(events.AttemptDrained(**self._about, step=self._step, at=_now()))

    def say(self, word: str) -> None:
        line = f"{self._settings.attempt} {word} {self._step} {time.time():.3f}\n"
        os.write(self._log, line.encode())

    def _save(self, cause: str) -> None:
        if self._step <= self._saved_step:
            return
        file = self._folder / STATE
        file.write_text(json.dumps({"step": self._step, "state": self._state}))
        started = time.monotonic()
        stored = self._checkpoints.commit(self._step, {STATE: file}, {})
        self._saved_step = self._step
        self.say("save")
        self._progress.tell(
            events.CheckpointCommitted(
                **self._about,
                step=self._step,
                uri=stored.uri,
                bytes=stored.bytes,
                save_seconds=time.monotonic() - started,
                cause=cause,
                at=_now(),
            )
        )
        if cause == "interval":
            self._checkpoints.prune(KEPT)


def _now() -> Any:
    return contract.timestamp(datetime.now(UTC))


def main() -> int:
    # The program takes the attempt from its package, as late as it can: torch is not even imported.
    vars(services.trainer)["attempt"] = SimpleNamespace(run=partial(run, Path(sys.argv[1])))
    return pod.main()


if __name__ == "__main__":
    sys.exit(main())
