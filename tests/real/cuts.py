"""A wire that can be cut: a TCP proxy in front of a real part."""

from __future__ import annotations

import asyncio
from contextlib import suppress

CHUNK = 65_536


class Wire:
    """Passes bytes on between whoever connects to `port` and a port of the loopback."""

    def __init__(self, to_port: int) -> None:
        self.port = 0
        self._to_port = to_port
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port or None)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Every connection ends in the middle of whatever it said; new ones are taken."""
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def disconnect(self) -> None:
        """Nobody answers any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", self._to_port)
        ways = [asyncio.create_task(_pass_on(*way)) for way in ((reader, to_there), (there, writer))]
        for way in ways:
            self._passing.add(way)
            way.add_done_callback(self._passing.discard)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for each in (*ways, writer.transport, to_there.transport):
            each.cancel() if isinstance(each, asyncio.Task) else each.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
