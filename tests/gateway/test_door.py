"""The limits of the API itself: whoever asks too often waits, and the others do not notice."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from services.gateway.admission import Limits
from services.gateway.api.door import Door
from tests.gateway.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def narrow(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(house.world.settings, "api_request_burst", 3)
    monkeypatch.setattr(house.world.settings, "api_requests_per_second", 0.1)
    monkeypatch.setattr(house.world.settings, "inference_retry_seconds", 0)
    return house


async def test_who_asks_too_often_is_told_when_to_come_back(narrow: House) -> None:
    answers = [await narrow.ann.get("/v1/jobs") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 11
    assert refused.headers["ratelimit-policy"] == '"requests";q=3;w=30'
    assert refused.json()["code"] == "rate_limit_exceeded"
    assert refused.headers["x-content-type-options"] == "nosniff", "it is an answer like the others"
    assert (await narrow.bob.get("/v1/jobs")).status_code == 200, "another's key is not touched"


async def test_on_openais_paths_it_is_said_in_openais_words(narrow: House) -> None:
    for _ in range(3):
        await narrow.ann.get("/v1/models")
    error = (await narrow.ann.get("/v1/models")).json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "too_many_requests")


async def test_what_has_limits_of_its_own_is_not_counted(narrow: House) -> None:
    chat = {"model": "nobody", "messages": [{"role": "user", "content": "?"}]}
    for _ in range(5):
        assert (await narrow.ann.post("/v1/chat/completions", json=chat)).status_code != 429
    assert (await narrow.ann.get("/v1/jobs")).status_code == 200


async def test_whoever_shows_nothing_is_known_by_the_address(narrow: House) -> None:
    async with httpx2.AsyncClient(base_url=narrow.url) as stranger:
        answers = [(await stranger.get("/v1/jobs")).status_code for _ in range(4)]
    assert answers == [401, 401, 401, 429]


async def test_of_all_together_more_than_can_be_answered_are_refused_at_once_and_leave_no_trace() -> None:
    let_go, inside = asyncio.Event(), 0

    async def slow(scope, receive, send) -> None:
        nonlocal inside
        inside += 1
        await let_go.wait()

    door = Door(slow, lambda: Limits(1e6, 1_000_000, 2, 3))
    sent: list[Any] = []

    async def asked(key: bytes) -> None:
        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/v1/jobs", "headers": [(b"authorization", key)]}
        await door(scope, None, send)

    first = [asyncio.create_task(asked(key)) for key in (b"a", b"a", b"b")]
    await asyncio.sleep(0)
    assert inside == 3
    await asked(b"b")
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    let_go.set()
    await asyncio.gather(*first)
    sent.clear()
    await asyncio.gather(*(asked(b"a") for _ in range(2)))
    assert sent == []
