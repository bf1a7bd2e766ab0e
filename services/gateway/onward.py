"""HTTP to inference, for answers that are passed on: by aiohttp, whose parser is C, since every token goes this way."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp

CONNECT_SECONDS = 3.0
IDLE_CONNECTION_SECONDS = 15.0


class Onward:
    """Connections that are kept. Their number is not limited here: the admission limits the requests."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str], silence_seconds: float
    ) -> aiohttp.ClientResponse:
        """The beginning of the answer; whoever has it closes it.

        Raises aiohttp.SocketTimeoutError after so much silence, aiohttp.ClientError or TimeoutError: it is away.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        return await self._opened().request(
            method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        # Not in __init__: it belongs to the loop that runs then.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session
