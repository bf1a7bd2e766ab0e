"""Many event streams of one tenant in one process, as cheap as can be: it shares the machine with what it measures.

`python -m benchmarks.gateway.subscribers URL KEY STREAMS EVENTS FILE` prints `ready` when all are connected, then, when
each has `EVENTS` events or nothing has come for a while, what was measured. `FILE` gets for every event that a stream
got its number and the second when it came, by the clock that all processes of a machine share. Every stream must be the
same to the byte, and holds each event once and in order; so one is parsed, and the others are compared with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from array import array
from bisect import bisect_right
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

QUIET_SECONDS = 15.0
CONNECTING_AT_ONCE, CONNECT_SECONDS = 20, 30
BLOCK_END = b"\n\n"


class Reference:
    """What every stream must be, of each event where it ends; and what came when."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.ends: list[int] = []
        self.positions: list[int] = []
        self.different = 0
        self.numbers, self.came_at = array("l"), array("d")
        self.last_heard = time.monotonic()

    def extend(self, more: bytes) -> None:
        """The stream that is ahead brings something new."""
        begin = self.ends[-1] if self.ends else 0
        self.bytes += more
        while (end := self.bytes.find(BLOCK_END, begin)) >= 0:
            block = bytes(self.bytes[begin:end])
            begin = end + len(BLOCK_END)
            self.ends.append(begin)
            self.positions.append(int(block.rsplit(b"\nid: ", 1)[1]))


class Subscriber(asyncio.Protocol):
    """One stream: HTTP/1.1 in chunks."""

    def __init__(self, reference: Reference, host: str, key: str) -> None:
        self.connected = asyncio.get_running_loop().create_future()
        self.at = 0
        self._reference = reference
        self._host, self._key = host, key
        self._waiting = bytearray()
        self._in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        asked = f"GET /v1/events HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._key}\r\n\r\n"
        cast(asyncio.Transport, transport).write(asked.encode())

    def data_received(self, data: bytes) -> None:
        waiting = self._waiting
        waiting += data
        if not self._in_body:
            head, found, rest = bytes(waiting).partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self.connected.set_exception(RuntimeError(head.decode()))
                return
            self._in_body = True
            waiting[:] = rest
        while (at := waiting.find(b"\r\n")) >= 0:
            end = at + 2 + int(bytes(waiting[:at]), 16)
            if len(waiting) < end + 2:
                return
            body = bytes(waiting[at + 2 : end])
            del waiting[: end + 2]
            if body.startswith(b": "):
                if not self.connected.done():
                    self.connected.set_result(None)
            else:
                self._take(body)

    def _take(self, body: bytes) -> None:
        now, reference = time.monotonic(), self._reference
        before, self.at = self.at, self.at + len(body)
        if self.at > len(reference.bytes):
            reference.extend(body[len(reference.bytes) - before :])
        if reference.bytes[before : self.at] != body:
            reference.different += 1
        first, last = bisect_right(reference.ends, before), bisect_right(reference.ends, self.at)
        reference.numbers.extend(range(first, last))
        reference.came_at.extend([now] * (last - first))
        reference.last_heard = now


async def subscribe(url: str, key: str, streams: int, events: int, file: str) -> dict[str, object]:
    loop, reference = asyncio.get_running_loop(), Reference()
    address = urlsplit(url)
    subscribers: list[Subscriber] = []
    began = time.monotonic()
    for first in range(0, streams, CONNECTING_AT_ONCE):
        batch = range(first, min(first + CONNECTING_AT_ONCE, streams))
        made = [
            await loop.create_connection(
                lambda: Subscriber(reference, address.netloc, key), address.hostname or "", address.port or 80
            )
            for _ in batch
        ]
        subscribers += [subscriber for _, subscriber in made]
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.gather(*(subscriber.connected for _, subscriber in made))
    connected_seconds = time.monotonic() - began
    print("ready", flush=True)
    reference.last_heard = time.monotonic()
    while time.monotonic() - reference.last_heard < QUIET_SECONDS:
        await asyncio.sleep(0.2)
        if len(reference.ends) >= events and all(one.at == len(reference.bytes) for one in subscribers):
            break
    np.savez(file, numbers=np.array(reference.numbers), came_at=np.array(reference.came_at))
    return {
        "streams": streams,
        "connected_seconds": round(connected_seconds, 2),
        "events": len(reference.ends),
        "in_order": reference.positions == sorted(set(reference.positions)),
        "bytes_per_stream": len(reference.bytes),
        "streams_with_every_event": sum(one.at == len(reference.bytes) for one in subscribers),
        "pieces_that_differ": reference.different,
        "delivered": len(reference.numbers),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(subscribe(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))))
