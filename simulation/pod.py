"""A training pod without training: the order of the real one (services/trainer/README.md), with its real checkpoints.

Fences, manifests, verified reading, standing by and ends are the trainer's own code on the simulated object store.
What is trained is a chain of hashes, one link a step: two runs that made the same steps once each end with the same.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from services.trainer import domain
from services.trainer.checkpoints import Checkpoints, Restored
from services.trainer.domain import Awaited, Exit, FencedError, Outcome
from services.trainer.settings import PodSettings
from simulation import globals as simulated
from simulation.cluster import Standing
from simulation.objectstore import SimulatedObjects
from simulation.work import link, write_artifact
from sskai import contract
from sskai.bus import Publisher, backoff_seconds
from sskai.events import v1 as events
from sskai.objects import ObjectsUnavailableError

STATE = "state.json"
HEARTBEAT_SECONDS = 4.0  # of the real pod 1.5: fewer of them make a run shorter, and change nothing else
STANDBY_SECONDS = 0.5
RETRY_SECONDS = 2.0
DRAINED_FLUSH_SECONDS = 20.0


class NoticeError(Exception):
    """SIGTERM came: save and stop."""


@dataclass
class Weather:
    """Drawn from the seed."""

    start_seconds: tuple[float, float] = (2.0, 20.0)
    step_seconds: tuple[float, float] = (0.5, 2.0)
    fails: float = 0.0  # share of attempts that end with an error at some step
    mute_deaths: float = 0.0  # share of attempts whose process dies without a word
    hangs: float = 0.0
    hang_seconds: float = 60.0


@dataclass
class Observer:
    """What the invariants hear of pods, besides what those tell."""

    took_over: Callable[[str, int, int], None]
    committed: Callable[[str, int, int], None]
    finished: Callable[[str, int, str], None]


@dataclass
class Training:
    machine: Standing
    settings: PodSettings
    weather: Weather
    folder: Path
    observer: Observer
    state: str = ""
    step: int = 0
    saved_step: int = 0
    phase: str = "starting"
    silent: bool = False
    waiting: deque[contract.Envelope] = field(default_factory=deque)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        pod = self.settings
        self.checkpoints = Checkpoints(
            SimulatedObjects(), pod.work_key(), pod.job_id, pod.attempt, awaited=pod.awaited()
        )
        self.total_steps = pod.planned().total_steps
        self.interval = max(1, pod.planned().checkpoint_interval_steps)
        self.about: dict[str, Any] = {"job_id": pod.job_id, "tenant_id": pod.tenant_id, "attempt": pod.attempt}
        self.dice = simulated.SOURCES.dice
        self.step_seconds = self.dice.uniform(*self.weather.step_seconds)
        self.fails_at = self._draw(self.weather.fails)
        self.dies_at = self._draw(self.weather.mute_deaths)
        self.hangs_at = self._draw(self.weather.hangs)

    def _draw(self, share: float) -> int:
        return self.dice.randint(1, max(1, self.total_steps)) if self.dice.random() < share else -1

    async def run(self) -> int:
        """The exit code."""
        telling = [asyncio.create_task(self._send()), asyncio.create_task(self._beat())]
        try:
            return await self._attempt()
        finally:
            for task in telling:
                task.cancel()

    async def _attempt(self) -> int:
        pod = self.settings
        self._heartbeat()
        try:
            await self._load()
            if not await self._train():
                return Exit.INTERNAL if self.fails_at == self.step else KILLED
            await self._save("final")
            self.phase = "publishing"
            stored = await self._publish()
        except NoticeError:
            return await self._leave()
        except FencedError:
            self.silent = True
            self.waiting.clear()
            return Exit.FENCED
        except ObjectsUnavailableError:
            return Exit.UNAVAILABLE
        self.observer.finished(pod.job_id, pod.attempt, self.state)
        self.tell(
            events.AttemptFinished(
                **self.about,
                succeeded=True,
                artifact_uri=stored,
                steps=self.step,
                tokens=self.step * 100,
                median_step_seconds=self.step_seconds,
                eval_loss_before=2.0,
                eval_loss_after=1.0,
                at=self._now(),
            )
        )
        await self._end(Outcome.DONE)
        return Exit.DONE if await self._flush(pod.unavailable_seconds) else Exit.UNAVAILABLE

    async def _load(self) -> None:
        await self._pause(self.dice.uniform(*self.weather.start_seconds))
        awaited: Awaited | None = self.settings.awaited()
        if awaited is not None:
            self.phase = "standing-by"
        while awaited is not None:
            end = None
            with suppress(ObjectsUnavailableError):
                end = await asyncio.to_thread(self.checkpoints.end_of, awaited.attempt)
            awaited = domain.still_awaited(awaited, end, simulated.SimulatedDatetime.now(UTC))
            if awaited is not None:
                await self._pause(STANDBY_SECONDS)
        restored = await self._patiently(lambda: self.checkpoints.take_over(self.folder / "restored"))
        if isinstance(restored, Restored):
            saved = json.loads((restored.folder / STATE).read_text())
            self.step, self.state = saved["step"], saved["state"]
            self.saved_step = self.step
        self.observer.took_over(self.settings.job_id, self.settings.attempt, self.step)

    async def _train(self) -> bool:
        """False: the process broke."""
        self.phase = "training"
        first = True
        while self.step < self.total_steps:
            await self._pause(self.step_seconds)
            with suppress(ObjectsUnavailableError):
                await asyncio.to_thread(self.checkpoints.check_told)
            self.step += 1
            self.state = link(self.state, self.step)
            if first:
                first = False
                self._heartbeat()
                if self.settings.attempt > 1:
                    self.tell(events.AttemptResumed(**self.about, from_step=self.saved_step, at=self._now()))
            if self.step == self.hangs_at:
                await self._pause(self.weather.hang_seconds)
            if self.step == self.fails_at:
                self.tell(
                    events.AttemptFinished(
                        **self.about, succeeded=False, reason="error", detail="simulated", at=self._now()
                    )
                )
                await self._end(Outcome.FAILED)
                await self._flush(self.settings.unavailable_seconds)
                return False
            if self.step == self.dies_at:
                return False
            if domain.should_save(self.step, self.saved_step, self.interval, self.total_steps):
                with suppress(ObjectsUnavailableError):
                    await self._save("interval", tries=1)
        return True

    async def _leave(self) -> int:
        self.phase = "saving"
        try:
            if self.checkpoints.line or self.step:
                await self._save("notice")
        except FencedError:
            self.silent = True
            self.waiting.clear()
            return Exit.FENCED
        except ObjectsUnavailableError:
            return Exit.UNAVAILABLE
        self.tell(events.AttemptDrained(**self.about, step=self.step, at=self._now()))
        await self._end(Outcome.DRAINED)
        await self._flush(DRAINED_FLUSH_SECONDS)
        return Exit.DRAINED

    async def _save(self, cause: str, *, tries: int = 300) -> None:
        if self.step <= self.saved_step:
            return
        step, file = self.step, self.folder / STATE
        file.write_text(json.dumps({"step": step, "state": self.state}))
        stored = await self._patiently(lambda: self.checkpoints.commit(step, {STATE: file}, {}), tries=tries)
        self.saved_step = step
        self.observer.committed(self.settings.job_id, self.settings.attempt, step)
        self.tell(
            events.CheckpointCommitted(
                **self.about,
                step=step,
                uri=stored.uri,
                bytes=stored.bytes,
                save_seconds=0.2,
                cause=cause,
                at=self._now(),
            )
        )
        if cause != "notice":
            with suppress(ObjectsUnavailableError):
                await asyncio.to_thread(self.checkpoints.prune, 3)

    async def _publish(self) -> str:
        folder = write_artifact(self.folder / "artifact", self.state)
        stored = await self._patiently(lambda: self.checkpoints.publish(self.step, folder, {}))
        return str(stored.uri)

    async def _patiently(self, work: Callable[[], Any], *, tries: int = 300) -> Any:
        """While the object store is away it is tried again."""
        while True:
            try:
                return await asyncio.to_thread(work)
            except ObjectsUnavailableError:
                tries -= 1
                if tries <= 0:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _end(self, outcome: Outcome) -> None:
        with suppress(ObjectsUnavailableError):
            await asyncio.to_thread(self.checkpoints.tell_end, outcome)

    async def _pause(self, seconds: float) -> None:
        """Raises NoticeError as soon as one came."""
        if not self.machine.noticed.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.machine.noticed.wait(), seconds)
        if self.machine.noticed.is_set():
            raise NoticeError

    # What it tells

    def tell(self, message: Message) -> None:
        if not self.silent:
            now = simulated.SimulatedDatetime.now(UTC)
            self.waiting.append(contract.Envelope(message, contract.new_id("evt"), "trainer", now, None))
            self.empty.clear()
            self.told.set()

    def _heartbeat(self) -> None:
        self.tell(
            events.AttemptProgressed(
                **self.about,
                phase=self.phase,
                step=self.step,
                total_steps=self.total_steps,
                loss=1.0 / (1 + self.step),
                step_seconds=self.step_seconds if self.phase == "training" else 0.0,
                at=self._now(),
            )
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if not any(isinstance(one.message, events.AttemptProgressed) for one in self.waiting):
                self._heartbeat()

    async def _send(self) -> None:
        publisher, failures = Publisher("", "trainer"), 0
        while True:
            await self.told.wait()
            self.told.clear()
            batch = list(self.waiting)
            try:
                await asyncio.wait_for(publisher.publish_all(batch), 15)
                failures = 0
            except Exception:
                failures += 1
                self.told.set()
                await asyncio.sleep(backoff_seconds(failures))
                continue
            sent = {one.id for one in batch}
            self.waiting = deque(one for one in self.waiting if one.id not in sent)
            if self.waiting:
                self.told.set()
            else:
                self.empty.set()

    async def _flush(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.empty.wait(), seconds)
        return not self.waiting

    @staticmethod
    def _now() -> Any:
        return contract.timestamp(simulated.SimulatedDatetime.now(UTC))


KILLED = 137


def settings_of(machine: Standing) -> PodSettings:
    """What the pod reads in its environment."""
    names = {name.removeprefix("SSKAI_").lower(): value for name, value in machine.pod.env.items()}
    known: dict[str, Any] = {name: value for name, value in names.items() if name in PodSettings.model_fields}
    for name in ("previous", "awaits"):
        known[name] = json.loads(known[name]) if known.get(name) else None
    return PodSettings(**known)
