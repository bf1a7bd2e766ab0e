"""The life of the cloud's messages: two of an SQS queue and one of the simulated cloud's feed, until each is told once.

The queue keeps SQS's promise: what was received and not deleted comes again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from sqlalchemy.exc import OperationalError

from services.monitor.reading import Reader
from services.monitor.sources import Raw, Received, SourceAwayError
from sskai import contract, failpoints, faults
from sskai.bus import KafkaConnectionError
from sskai.delivery import Relay
from sskai.faults import Armed
from tests.monitor.test_interruptions import message
from tests.reliability.matrix import Crash, limit_seconds
from tests.reliability.stage import Stage

ROUNDS = 8
WARNING = "EC2 Spot Instance Interruption Warning"


@failpoints.boundary("queue", SourceAwayError)
class Mailbox:
    """What `sources.Queue` is to the reader; whatever was received comes again in the next round."""

    source = "eventbridge"
    name = "mailbox"

    def __init__(self, *bodies: Any) -> None:
        self.messages = {str(number): Raw(body) for number, body in enumerate(bodies)}
        self.times: Counter[str] = Counter()

    def receive(self, wait_seconds: int = 2) -> list[Received]:
        found = [handle for handle in self.messages if self.times[handle] <= min(self.times.values(), default=0)]
        self.times.update(found)
        return [Received(handle, self.messages[handle], 1) for handle in found]

    def delete(self, handles: Sequence[str]) -> int:
        for handle in handles:
            self.messages.pop(handle, None)
        return 0

    def hold(self, handles: Sequence[str]) -> None:
        """Nobody else receives here."""


@failpoints.boundary("cloud", SourceAwayError)
class Feed:
    """What `sources.LocalCloud` is to the reader."""

    source = name = "local"

    def __init__(self, *bodies: Any) -> None:
        self._messages = [(number, Raw(body, 120.0)) for number, body in enumerate(bodies, 1)]

    async def after(self, sequence: int) -> list[tuple[int, Raw]]:
        return [one for one in self._messages if one[0] > sequence]


@failpoints.boundary("broker", KafkaConnectionError)
class Listener:
    def __init__(self) -> None:
        self.told: dict[str, tuple[str, str]] = {}

    async def publish_all(self, envelopes: Iterable[contract.Envelope]) -> None:
        for one in envelopes:
            self.told[one.id] = (type(one.message).__name__, one.key)


async def notices_life(stage: Stage, plan: Armed) -> dict[str, Any]:
    """See `matrix.Life`."""
    mailbox = Mailbox(*(_warning(f"i-{number}") for number in (1, 2)))
    feed, listener = Feed(_warning("m-1")), Listener()
    database, limit = stage.databases["monitor"], limit_seconds(plan)
    async with database.transaction() as session:
        await Reader(database, 0.0).desk(session).is_ours(["i-1", "i-2"], "tenant_a")
    with faults.armed(plan):
        for _ in range(ROUNDS):
            mailbox.times.clear()
            for turn in (
                partial(Reader.read_queue, queue=mailbox, wait_seconds=0),
                partial(Reader.read_local_cloud, cloud=feed),
            ):
                # Each turn with a memory of its own: a process that died has none.
                await _survive(partial(turn, Reader(database, 1e9)), limit)
            await _survive(Relay(database, listener).publish_batch, limit)
    return {"told": sorted(listener.told.values()), "left": sorted(mailbox.messages)}


async def _survive(step: Callable[[], Awaitable[Any]], limit: float) -> None:
    others = asyncio.all_tasks()
    try:
        await asyncio.wait_for(step(), limit)
    except (Crash, TimeoutError, ConnectionError, OperationalError, KafkaConnectionError):
        left = asyncio.all_tasks() - others
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _warning(machine_id: str) -> dict[str, Any]:
    return message(WARNING, {"instance-id": machine_id, "instance-action": "terminate"}, id=f"message-{machine_id}")
