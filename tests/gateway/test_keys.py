"""What is remembered of keys between requests."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import httpx2
import pytest
from sqlalchemy.exc import TimeoutError

from services.gateway.access import SCOPES_OF, Role
from services.gateway.api.world import World
from services.gateway.app import build_app
from services.gateway.hub import Hub
from services.gateway.keys import Actor, Keys, KnownKeys, Principal
from sskai.testing import wait_for
from tests.gateway.conftest import House, client_of, serving

ANN = Principal("tenant_a", "key_1", Actor("key", "key_1", "ci"), SCOPES_OF[Role.DEVELOPER])


def test_a_key_is_believed_for_a_while() -> None:
    known = KnownKeys(seconds=2)
    assert known.principal("sskai_1", 10) is None
    known.remember("sskai_1", ANN, 10)
    assert known.principal("sskai_1", 11.9) == ANN
    assert known.principal("sskai_2", 11.9) is None
    assert known.principal("sskai_1", 12) is None


def test_a_revoked_key_is_forgotten_at_once() -> None:
    known = KnownKeys()
    known.remember("sskai_1", ANN, 0)
    known.forget()
    assert known.principal("sskai_1", 0) is None


def test_the_memory_has_a_limit_and_old_ones_make_room() -> None:
    known = KnownKeys(seconds=2, most=2)
    for number in range(3):
        known.remember(f"sskai_{number}", ANN, 0)
    assert [known.principal(f"sskai_{number}", 1) for number in range(3)] == [ANN, ANN, None]
    known.remember("sskai_3", ANN, 5)
    assert known.principal("sskai_3", 6) == ANN


def test_no_key_lies_in_memory() -> None:
    known = KnownKeys()
    known.remember("sskai_secret", ANN, 0)
    assert "sskai_secret" not in repr(vars(known))


@pytest.mark.asyncio(loop_scope="session")
async def test_many_requests_at_once_ask_the_database_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    principal = Keys.principal

    async def counted(self: Keys, key: str, now: datetime) -> Principal | None:
        nonlocal asked
        asked += 1
        return await principal(self, key, now)

    monkeypatch.setattr(Keys, "principal", counted)
    monkeypatch.setattr(house.world.known_keys, "_seconds", 60)  # however slow the machine is
    house.world.known_keys.forget()
    answers = await asyncio.gather(*(house.ann.get("/v1/keys") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert asked == 1


@pytest.mark.asyncio(loop_scope="session")
async def test_a_busy_database_is_said_in_openais_shape(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(_self: Keys, _key: str, _now: datetime) -> Principal | None:
        raise TimeoutError("QueuePool limit")

    monkeypatch.setattr(Keys, "principal", busy)
    house.world.known_keys.forget()
    answer = await house.ann.post("/v1/completions", json={"model": "bot", "prompt": "hello"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_revoked_key_is_refused_by_the_other_processes_within_five_seconds(house: House) -> None:
    ours = house.world
    other = World(ours.database, ours.objects, ours.settings, ours.catalogue, Hub(), httpx2.AsyncClient())
    made = (await house.ann.post("/v1/keys", json={"name": "ci"})).json()
    async with serving(build_app(other)) as url, client_of(url, made["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        revoked_at = time.monotonic()
        assert (await house.ann.delete(f"/v1/keys/{made['id']}")).status_code == 204

        async def refused() -> bool:
            return (await client.get("/v1/jobs")).status_code == 401

        await wait_for(refused)
        assert time.monotonic() - revoked_at <= 5
        other.hub.close()
