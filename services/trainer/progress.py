"""What the pod tells: heartbeats and facts, over Kafka, from a thread of its own. A dead broker never stops training.

Everything told is also appended to `events.jsonl` in the work folder. While the broker is away, events wait in memory:
facts always, heartbeats up to a limit, oldest dropped first. An id is given once, so a repeated send is the same event.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog
from google.protobuf.message import Message

from sskai import contract, telemetry
from sskai.broker import Broker
from sskai.bus import Publisher, backoff_seconds
from sskai.events import v1 as events

log = structlog.get_logger()

HEARTBEAT_SECONDS = 1.5  # 2 s are promised; importing libraries holds this thread up now and then
LOSS_SECONDS = 0.25  # at most four losses a second are told; the curve has them all
MAX_WAITING_HEARTBEATS = 1000
MAX_SPOOLED_HEARTBEATS = 20_000
SEND_SECONDS = 15.0


class Progress:
    """Tells for one attempt. Without a `broker` nobody listens, and only `events.jsonl` is written."""

    def __init__(self, broker: Broker | None, job_id: str, tenant_id: str, attempt: int, folder: Path) -> None:
        self._broker = broker
        self._state = events.AttemptProgressed(job_id=job_id, tenant_id=tenant_id, attempt=attempt, phase="starting")
        self._spool = (folder / "events.jsonl").open("a")
        self._spooled_heartbeats = 0
        self._waiting: deque[contract.Envelope] = deque()
        self._lock = threading.Condition()
        self._closing = self._silent = False
        self._told_at = 0.0
        self._traceparent = telemetry.current_traceparent()  # of the attempt: it is told whatever becomes of this pod
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._heartbeat()
        self._thread.start()

    def phase(self, name: str, *, step: int | None = None, total_steps: int | None = None) -> None:
        """The attempt does something else now: "starting", "standing-by", "evaluating", "training", "saving" or
        "publishing"."""
        with self._lock:
            self._state.phase = name
            if step is not None:
                self._state.step = step
            if total_steps is not None:
                self._state.total_steps = total_steps
        self._heartbeat()

    def stepped(
        self,
        step: int,
        *,
        loss: float,
        learning_rate: float,
        step_seconds: float,
        tokens_per_second: float,
        eta_seconds: float,
    ) -> None:
        """A step was made; `step_seconds` is the median of the last ones."""
        with self._lock:
            self._state.step = step
            self._state.loss = loss
            self._state.learning_rate = learning_rate
            self._state.step_seconds = step_seconds
            self._state.tokens_per_second = tokens_per_second
            self._state.eta_seconds = eta_seconds
        if time.monotonic() - self._told_at >= LOSS_SECONDS or step == self._state.total_steps:
            self._heartbeat()

    def tell(self, message: Message) -> None:
        """Tell a fact: it is kept until the broker has it."""
        envelope = contract.Envelope(message, contract.new_id("evt"), "trainer", datetime.now(UTC), self._traceparent)
        with self._lock:
            if self._silent:
                return
            self._write(envelope)
            self._waiting.append(envelope)
            self._drop_old_heartbeats()
            self._lock.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until the broker has everything; False if it still has not after so many seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._waiting, seconds)

    def silence(self) -> None:
        """Tell nothing more: somebody else speaks for the job now."""
        with self._lock:
            self._silent = True
            self._waiting.clear()
            self._lock.notify_all()

    def close(self) -> None:
        """Stop telling; what waits is dropped. Call `flush` before."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self._thread.join(SEND_SECONDS)
        self._spool.close()

    def _heartbeat(self) -> None:
        with self._lock:
            beat = events.AttemptProgressed()
            beat.CopyFrom(self._state)
            beat.at.CopyFrom(contract.timestamp(datetime.now(UTC)))
            self._told_at = time.monotonic()
        self.tell(beat)

    def _write(self, envelope: contract.Envelope) -> None:
        if isinstance(envelope.message, events.AttemptProgressed):
            self._spooled_heartbeats += 1
            if self._spooled_heartbeats > MAX_SPOOLED_HEARTBEATS:
                return
        self._spool.write(json.dumps(contract.to_cloudevent(envelope)) + "\n")
        self._spool.flush()

    def _drop_old_heartbeats(self) -> None:
        beats = [it for it in self._waiting if isinstance(it.message, events.AttemptProgressed)]
        for envelope in beats[: max(0, len(beats) - MAX_WAITING_HEARTBEATS)]:
            self._waiting.remove(envelope)

    def _run(self) -> None:
        asyncio.run(self._send_all())

    async def _send_all(self) -> None:
        publisher = Publisher(self._broker, "trainer") if self._broker else None
        failures = 0
        while not self._closing:
            batch = await asyncio.to_thread(self._next_batch)
            try:
                if publisher is not None and batch:
                    await asyncio.wait_for(publisher.publish_all(batch), SEND_SECONDS)
                self._sent(batch)
                failures = 0
            except Exception as error:  # whatever is wrong with the broker, training goes on
                failures += 1
                log.warning("broker is away, events wait", waiting=len(self._waiting), error=repr(error))
                await asyncio.to_thread(self._pause, backoff_seconds(failures), lambda: self._closing)
        if publisher is not None:
            await publisher.stop()

    def _next_batch(self) -> list[contract.Envelope]:
        """What waits; nothing for a heartbeat's time: one more heartbeat."""
        self._pause(HEARTBEAT_SECONDS, lambda: bool(self._waiting) or self._closing)
        if time.monotonic() - self._told_at >= HEARTBEAT_SECONDS and not self._closing:
            self._heartbeat()
        with self._lock:
            return list(self._waiting)

    def _pause(self, seconds: float, until: Callable[[], bool]) -> None:
        with self._lock:
            self._lock.wait_for(until, seconds)

    def _sent(self, batch: list[contract.Envelope]) -> None:
        with self._lock:
            sent = {envelope.id for envelope in batch}
            self._waiting = deque(envelope for envelope in self._waiting if envelope.id not in sent)
            self._lock.notify_all()
