"""Attempts in this process, for tests that need no signal: what a pod does between its settings and its exit."""

from __future__ import annotations

from pathlib import Path

from services.trainer import attempt
from services.trainer.checkpoints import Checkpoints
from services.trainer.interruption import Interruption
from services.trainer.progress import Progress
from services.trainer.settings import PodSettings
from sskai.objects import Objects


class KilledError(Exception):
    """The process was taken away: nothing more is saved or told."""


class Ends(Interruption):
    """Kills the attempt at the n-th time that it asks whether it has to stop."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise KilledError
        super().check()


def run(settings: PodSettings, objects: Objects, folder: Path, interruption: Interruption | None = None) -> None:
    """Raises what ends an attempt."""
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(None, settings.job_id, settings.tenant_id, settings.attempt, folder)
    progress.start()
    try:
        checkpoints = Checkpoints(objects, settings.work_key(), settings.job_id, settings.attempt)
        attempt.run(
            settings,
            objects,
            checkpoints,
            progress=progress,
            interruption=interruption or Interruption(),
            folder=folder,
        )
    finally:
        progress.close()
