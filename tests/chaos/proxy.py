"""A TCP proxy in front of one part: late, silent, cut off, or with its connections reset."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress

CHUNK_BYTES = 64 * 1024
# SO_LINGER with a time of 0: closing sends RST, as a firewall or a machine that was reset does.
AT_ONCE = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on `port` of loopback, and passes all on to `target`. What it does is changed while it runs."""

    def __init__(self, port: int, target: int, dice: random.Random) -> None:
        self.port = port
        self.away = False  # nobody gets through, and who tries is refused
        self.delay_seconds = (0.0, 0.0)  # of each chunk, drawn anew; order is kept
        self.resets = 0
        self._target = target
        self._dice = dice
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """Ends of connections that stand."""
        return len(self._writers)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.heal()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Every connection ends at once, in the middle of whatever it was saying."""
        for writer in list(self._writers):
            connection = writer.get_extra_info("socket")
            if connection is not None:
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            writer.transport.abort()
            self.resets += 1

    def cut(self) -> None:
        """All connections end, and new ones are refused."""
        self.away = True
        self.reset()

    def fall_silent(self) -> None:
        """Connections stand and nothing gets through, as behind a broken route."""
        self._open.clear()

    def heal(self) -> None:
        """Pass everything on, at once."""
        self.away, self.delay_seconds = False, (0.0, 0.0)
        self._open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            return  # `stop`; asyncio would print it
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            return
        try:
            there, beyond = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return
        self._writers.add(beyond)
        try:
            await asyncio.gather(self._pass(reader, beyond), self._pass(there, writer))
        except OSError:
            return
        finally:
            beyond.transport.abort()
            self._writers.discard(beyond)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            await self._open.wait()
            if self.delay_seconds[1]:
                await asyncio.sleep(self._dice.uniform(*self.delay_seconds))
            writer.write(chunk)
            await writer.drain()
        with suppress(OSError):  # half closed: the other direction may go on
            writer.write_eof()
