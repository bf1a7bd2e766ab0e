"""Sends what webhooks wait for. A name is looked up when it is called, and only public addresses of it are taken: what
was checked is what is connected to, so that no name can lead into the operator's own network."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from prometheus_client import Counter

from services.gateway import webhooks
from services.gateway.settings import Settings
from services.gateway.tables import DeliveryRow, WebhookRow
from services.gateway.webhook_store import Webhooks
from services.gateway.webhooks import Network
from sskai import claims
from sskai.database import Database

log = structlog.get_logger()

DELIVERIES = Counter("sskai_gateway_webhook_deliveries", "Tries to deliver an event to a webhook", ["outcome"])
AT_ONCE = 20
GONE = 410
USER_AGENT = "SSKAI-Webhooks/1"


class PublicResolver(AbstractResolver):
    """Names to addresses that may be called. Raises OSError if a name has none."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        public = [one for one in found if webhooks.may_call(one["host"], self._allowed)]
        if not public:
            raise OSError(f"{host} has no public address")
        return public

    async def close(self) -> None:
        await self._resolver.close()


def public_socket(allowed: Sequence[Network], address: aiohttp.AddrInfoType) -> socket.socket:
    """The last gate, whatever led here: a socket towards an address that may be called. Raises OSError."""
    family, kind, protocol, _name, where = address
    if not webhooks.may_call(str(where[0]), allowed):
        raise OSError(f"{where[0]} is no public address")
    return socket.socket(family, kind, protocol)


def session_for(allowed: Sequence[Network], seconds: float) -> aiohttp.ClientSession:
    """Calls public addresses, and those that the operator allows, for at most so long; follows nobody's proxy."""
    connector = aiohttp.TCPConnector(
        resolver=PublicResolver(allowed), use_dns_cache=False, socket_factory=partial(public_socket, allowed)
    )
    timeout = aiohttp.ClientTimeout(total=seconds)
    return aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )


class Sender:
    """One turn of the loop after the other."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def send_due(self) -> None:
        """Until nothing is due."""
        lease = 3 * self._settings.webhook_seconds
        while claimed := await claims.claim(self._database, DeliveryRow, limit=AT_ONCE, lease_seconds=lease):
            async with session_for(self._settings.webhook_allowed, self._settings.webhook_seconds) as session:
                await asyncio.gather(*(self._send(session, row) for row in claimed))

    async def _send(self, session: aiohttp.ClientSession, row: DeliveryRow) -> None:
        async with self._database.transaction() as transaction:
            webhook = await Webhooks(transaction).get(row.tenant_id, row.webhook_id)
        if webhook is None:
            return  # it was removed meanwhile, and its deliveries with it
        if webhook.disabled_at is not None:
            async with self._database.transaction() as transaction:
                await claims.release(transaction, row, due_in_seconds=None, last_problem="the webhook is switched off")
            return
        status, problem = await self._post(session, webhook, row)
        tries, now = row.tries + 1, datetime.now(UTC)
        delivered = 200 <= status < 300
        DELIVERIES.labels(outcome="delivered" if delivered else "failed").inc()
        async with self._database.transaction() as transaction:
            again = None if delivered or status == GONE else webhooks.pause_seconds(tries)
            if not await claims.release(
                transaction,
                row,
                due_in_seconds=again,
                tries=tries,
                last_status=status or None,
                last_problem=problem[:500],
                delivered_at=now if delivered else None,
            ):
                return
            if status == GONE:
                await Webhooks(transaction).disable(row.webhook_id, now)
        if not delivered:
            log.info("webhook failed", webhook=row.webhook_id, status=status, problem=problem, again_in_seconds=again)

    async def _post(self, session: aiohttp.ClientSession, webhook: WebhookRow, row: DeliveryRow) -> tuple[int, str]:
        """The status (0: there was no answer) and what was wrong."""
        if problem := webhooks.url_problem(webhook.url, self._settings.webhook_allowed):
            return 0, problem  # allowed when it was made, and not any more
        body = json.dumps(row.event, separators=(",", ":"), ensure_ascii=False).encode()
        now, secrets = datetime.now(UTC), (webhook.secret, webhook.previous_secret)
        headers = {
            "Content-Type": "application/cloudevents+json",
            "User-Agent": USER_AGENT,
            "webhook-id": row.delivery_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": webhooks.signatures(
                secrets, webhook.previous_secret_until, row.delivery_id, now, body
            ),
        }
        try:
            async with session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status, "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except TimeoutError:
            return 0, f"no answer within {self._settings.webhook_seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return 0, f"{type(error).__name__}: {error}"
