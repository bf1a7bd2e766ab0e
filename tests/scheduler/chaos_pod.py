"""A training pod without training: `python -I -S chaos_pod.py FOLDER`, with a real pod's signals, fences, last words.

It keeps the trainer's order (services/trainer/README.md): a fence before the first write, a look at the fences before
each one, a notice answered by a save, a last word and an end, and standing by where `SSKAI_AWAITS` says so. Only the
standard library, so that dozens of them start in no time. What a trainer tells over Kafka it writes to a file of its
own, and the harness passes it on.

FOLDER/jobs/JOB_ID/log            one line per write: attempt, word, step, epoch seconds
FOLDER/jobs/JOB_ID/fences|ends|checkpoints/
FOLDER/told/JOB_ID.ATTEMPT.jsonl  what it tells
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

STEP_SECONDS = 0.1
STEPS_BETWEEN_SAVES = 5
RESULT_GRACE_SECONDS = 120  # as services/trainer/domain.py
DONE, DRAINED, FENCED = 0, 75, 76


class Pod:
    """One attempt of one job."""

    def __init__(self, folder: Path) -> None:
        self.job_id = os.environ["SSKAI_JOB_ID"]
        self.attempt = int(os.environ["SSKAI_ATTEMPT"])
        self.total_steps = int(json.loads(os.environ["SSKAI_PLAN"])["total_steps"])
        self.home = folder / "jobs" / self.job_id
        for name in ("fences", "ends", "checkpoints"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        flags = os.O_APPEND | os.O_CREAT | os.O_WRONLY
        self.log = os.open(self.home / "log", flags, 0o600)
        self.told = os.open(folder / "told" / f"{self.job_id}.{self.attempt:05d}.jsonl", flags, 0o600)
        self.noticed = self.began = False
        self.awaited: dict[str, Any] | None = json.loads(os.environ.get("SSKAI_AWAITS") or "null")
        self.step = 0
        signal.signal(signal.SIGTERM, self._notice)

    def run(self) -> int:
        """Returns the exit code."""
        self._stand_by()
        if not self.noticed:
            if not self._take_over():
                return FENCED
            while self.step < self.total_steps and not self.noticed:
                time.sleep(STEP_SECONDS)
                if self._is_fenced():
                    self._say("fenced")
                    return FENCED
                self.step += 1
                self._say("step")
                self._tell("progressed")
                if self.step % STEPS_BETWEEN_SAVES == 0:
                    self._save()
        if self.step < self.total_steps:
            return self._leave()
        self._save()
        self._say("done")
        self._tell("finished")
        self._end("done")
        return DONE

    def _notice(self, _number: int, _frame: object) -> None:
        self.noticed = True

    def _leave(self) -> int:
        """Answer a notice."""
        if self.began:
            if self._is_fenced():
                self._say("fenced")
                return FENCED
            self._save()
        self._tell("drained")
        self._end("drained")
        return DRAINED

    def _stand_by(self) -> None:
        while self.awaited is not None and not self.noticed:
            end = self.home / "ends" / f"{self.awaited['attempt']:05d}.json"
            said = json.loads(end.read_text()) if end.exists() else None
            done = said is not None and said["outcome"] == "done"
            if time.time() >= datetime.fromisoformat(self.awaited["until"]).timestamp() + RESULT_GRACE_SECONDS * done:
                self.awaited = None
            elif said is not None and not done:
                self.awaited = said["awaited"]
            else:
                time.sleep(0.05)

    def _take_over(self) -> bool:
        newest = max(self._numbers("fences"), default=0)
        if newest >= self.attempt:
            self._say("twice" if newest == self.attempt else "fenced")
            return False
        self.step = max(self._numbers("checkpoints"), default=0)
        try:
            os.close(os.open(self.home / "fences" / f"{self.attempt:05d}.json", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            self._say("twice")
            return False
        self.began = True
        self._say("began")
        self._tell("progressed")
        return True

    def _is_fenced(self) -> bool:
        return max(self._numbers("fences"), default=0) > self.attempt

    def _numbers(self, folder: str) -> list[int]:
        return [int(name.partition(".")[0]) for name in os.listdir(self.home / folder)]

    def _save(self) -> None:
        (self.home / "checkpoints" / f"{self.step:05d}.json").touch()
        self._say("save")
        self._tell("saved")

    def _end(self, outcome: str) -> None:
        part = self.home / f"end-{self.attempt}.part"
        part.write_text(json.dumps({"outcome": outcome, "awaited": self.awaited}))
        part.replace(self.home / "ends" / f"{self.attempt:05d}.json")

    def _say(self, word: str) -> None:
        os.write(self.log, f"{self.attempt} {word} {self.step} {time.time():.3f}\n".encode())

    def _tell(self, kind: str) -> None:
        line = {"kind": kind, "job_id": self.job_id, "attempt": self.attempt, "step": self.step}
        os.write(self.told, json.dumps(line | {"total_steps": self.total_steps}).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(Pod(Path(sys.argv[1])).run())
