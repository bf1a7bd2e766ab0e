"""How a replica tells the service of itself."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import httpx2
import structlog

from services.inference.replica.words import Report

log = structlog.get_logger()

# The service's answers that mean: nobody wants this replica.
NOT_WANTED = frozenset({401, 403, 404, 410})
# So many of them in a row: one may come from a service that is just being replaced.
MOST_REFUSALS = 5
LAST_WORD_TRIES = 20
LAST_WORD_PAUSE_SECONDS = 1.0


class Home:
    """The service, from a replica's side. A service that is away stops no answer."""

    def __init__(self, url: str, replica_id: str, token: str) -> None:
        self._url = f"{url.rstrip('/')}/internal/replicas/{replica_id}"
        self._client = httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=5)
        self._refusals = 0

    @property
    def wants_us(self) -> bool:
        return self._refusals < MOST_REFUSALS

    async def tell(self, report: Report) -> bool:
        """Whether it was heard."""
        try:
            answer = await self._client.post(self._url, json=report.model_dump(mode="json"))
        except httpx2.HTTPError as error:
            log.warning("the service is away", error=repr(error))
            return False
        if answer.is_success:
            self._refusals = 0
            return True
        self._refusals += answer.status_code in NOT_WANTED
        log.warning("the service refuses the report", status=answer.status_code, detail=answer.text[:200])
        return False

    async def tell_at_last(self, report: Report) -> None:
        """The last word: tried until it is heard or nobody wants it, for a while."""
        for _ in range(LAST_WORD_TRIES):
            if await self.tell(report) or not self.wants_us:
                return
            await asyncio.sleep(LAST_WORD_PAUSE_SECONDS)
        log.warning("the last report was not heard", state=report.state)

    async def close(self) -> None:
        await self._client.aclose()


def address_towards(url: str) -> str:
    """This machine's own address on the way to a URL's host. Nothing is sent."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as way:
        way.connect(address)
        return str(way.getsockname()[0])
