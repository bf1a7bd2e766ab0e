"""The client with `await`: the same promises, and streams that end, break and go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from sskai.client import AsyncClient, LogLine, SskaiError, UnreachableError, patience

Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(patience, "LAST_PAUSE_SECONDS", 0.01)


def client_of(answer: Answer, retry_seconds: float = 5) -> AsyncClient:
    transport = httpx2.MockTransport(answer)
    return AsyncClient("http://gateway/", "sskai_key", retry_seconds=retry_seconds, transport=transport)


class _Cut(httpx2.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body
        raise httpx2.ReadError("cut")


def sse(*messages: tuple[str, str, object]) -> bytes:
    return "".join(
        f"event: {event}\nid: {position}\ndata: {json.dumps(data)}\n\n" for event, position, data in messages
    ).encode()


async def test_a_restart_of_the_gateway_goes_unnoticed() -> None:
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        return httpx2.Response(503) if len(keys) < 3 else httpx2.Response(202, json={"id": "job_1"})

    async with client_of(answer) as sskai:
        assert (await sskai.jobs.create({"name": "bot"}))["id"] == "job_1"
    assert (len(keys), len(set(keys))) == (3, 1)


async def test_a_pause_that_is_asked_for_is_made_or_told_if_it_is_too_long() -> None:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        headers = {"Retry-After": "60"}
        return httpx2.Response(429, json={"title": "Too many", "detail": "wait", "status": 429}, headers=headers)

    async with client_of(answer) as sskai:
        with pytest.raises(SskaiError, match="Too many: wait"):
            await sskai.models.list()


async def test_lists_uploads_and_waits_are_awaited(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 100_000)
    states = iter(["running", "succeeded"])
    told: list[tuple[int, int]] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            assert await request.aread() == path.read_bytes()
            assert request.headers["content-length"] == str(path.stat().st_size)
            return httpx2.Response(201, json={"id": "dataset_1"})
        if request.url.path == "/v1/jobs":
            page = {"data": [{"id": "job_1"}], "next": None if "after" in request.url.params else "job_1"}
            return httpx2.Response(200, json=page)
        return httpx2.Response(200, json={"id": "job_1", "state": next(states)})

    transport = httpx2.MockTransport(answer)
    async with AsyncClient("http://gateway", "key", transport=transport) as sskai:
        dataset = await sskai.datasets.upload(path, "support", progress=lambda *sent: told.append(sent))
        assert dataset["id"] == "dataset_1"
        assert [job["id"] async for job in sskai.jobs.list()] == ["job_1", "job_1"]
        assert (await sskai.jobs.wait("job_1", poll_seconds=0.001))["state"] == "succeeded"
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)


async def test_a_stream_that_breaks_goes_on_where_it_was_and_follow_ends_with_the_job() -> None:
    asked: list[str] = []

    def event(kind: str, position: int) -> tuple[str, str, object]:
        return kind, str(position), {"partitionkey": "job_1", "data": {"n": position}}

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.params["after"])
        assert request.url.params["subject"] == "job_1"
        if len(asked) == 1:
            return httpx2.Response(200, stream=_Cut(sse(event("JobSubmitted", 3)) + b"event: Job"))
        return httpx2.Response(200, content=sse(event("JobAdmitted", 5), event("JobSucceeded", 9), event("X", 10)))

    async with client_of(answer) as sskai:
        seen = [(event.type, event.position) async for event in sskai.jobs.follow("job_1")]
    assert seen == [("JobSubmitted", 3), ("JobAdmitted", 5), ("JobSucceeded", 9)]
    assert asked == ["0", "3"]


async def test_logs_are_followed_over_a_broken_connection_to_their_end() -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        if len(asked) == 1:
            return httpx2.Response(200, stream=_Cut(sse(("line", "1:10", {"attempt": 1, "text": "a"}))))
        return httpx2.Response(200, content=sse(("line", "2:4", {"attempt": 2, "text": "b"}), ("end", "2:4", {})))

    async with client_of(answer) as sskai:
        lines = [line async for line in sskai.jobs.follow_logs("job_1", tail=5)]
    assert lines == [LogLine(1, "a"), LogLine(2, "b")]
    assert asked == [{"follow": "true", "tail": "5"}, {"follow": "true", "tail": "5", "after": "1:10"}]


def chunk(**delta: str) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}) + "\n\n"


async def test_a_chat_streams_its_text() -> None:
    tries = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        assert json.loads(request.content)["stream"] is True
        if tries == 1:
            return httpx2.Response(503)
        body = chunk(role="assistant") + chunk(content="Hel") + chunk(content="lo") + "data: [DONE]\n\n"
        return httpx2.Response(200, content=body.encode())

    async with client_of(answer) as sskai:
        pieces = [piece async for piece in sskai.chat.stream("bot", [{"role": "user", "content": "Hi"}])]
    assert pieces == ["Hel", "lo"]


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (chunk(content="He") + 'data: {"error": {"message": "the replica went"}}\n\n', SskaiError, "the replica went"),
        (None, UnreachableError, "the answer broke off"),
    ],
)
async def test_a_chat_that_breaks_off_says_so_and_is_not_asked_again(
    body: str | None, error: type[Exception], said: str
) -> None:
    tries = 0

    def answer(_request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        if body is None:
            return httpx2.Response(200, stream=_Cut(chunk(content="He").encode()))
        return httpx2.Response(200, content=body.encode())

    got: list[str] = []

    async def listen(sskai: AsyncClient) -> None:
        async for piece in sskai.chat.stream("bot", []):
            got.append(piece)  # noqa: PERF401 (what came before the error counts)

    async with client_of(answer) as sskai:
        with pytest.raises(error, match=said):
            await listen(sskai)
    assert (got, tries) == (["He"], 1)


async def test_a_refusal_in_openais_shape_is_told_in_its_words() -> None:
    refused = {"error": {"message": "no endpoint is called bot", "type": "invalid_request_error", "code": None}}
    async with client_of(lambda _: httpx2.Response(404, json=refused)) as sskai:
        with pytest.raises(SskaiError, match="no endpoint is called bot") as raised:
            await sskai.chat.create("bot", [])
    assert raised.value.status == 404


async def test_openais_own_client_speaks_to_the_same_gateway_by_the_same_key() -> None:
    openai = pytest.importorskip("openai", reason="the extra `local` is not installed")
    async with AsyncClient("http://gateway/", "sskai_key") as sskai:
        theirs = sskai.openai(max_retries=7)
    assert isinstance(theirs, openai.AsyncOpenAI)
    assert (str(theirs.base_url), theirs.api_key, theirs.max_retries) == ("http://gateway/v1/", "sskai_key", 7)
