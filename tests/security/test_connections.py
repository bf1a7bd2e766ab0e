"""S1, S3: what one connection asked before has no part in what it asks next."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.gateway.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_requests_that_are_sent_ahead_are_answered_each_for_its_own_tenant(house: House) -> None:
    """The server begins the second one in the context of the first: as a proxy that many tenants share would send."""
    await house.dataset(house.ann, "anns")
    await house.dataset(house.bob, "bobs")
    house.world.known_keys.forget()
    where = urlsplit(house.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(asked(house.ann, "keep-alive") + asked(house.bob, "close"))
    answers = (await reader.read()).decode().split("HTTP/1.1 ")[1:]
    writer.close()
    assert [one[:3] for one in answers] == ["200", "200"], answers
    assert ['"anns"' in answers[0], '"bobs"' in answers[1]] == [True, True]
    assert ['"bobs"' in answers[0], '"anns"' in answers[1]] == [False, False]


def asked(client: httpx2.AsyncClient, connection: str) -> bytes:
    key = client.headers["Authorization"]
    lines = ("GET /v1/datasets HTTP/1.1", "Host: gateway", f"Authorization: {key}", f"Connection: {connection}", "", "")
    return "\r\n".join(lines).encode()
