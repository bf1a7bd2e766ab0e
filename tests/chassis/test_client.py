"""The Python client against a double of the gateway: retries, idempotency keys, resumption, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from sskai.client import Client, SskaiError, UnreachableError, patience


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(patience, "LAST_PAUSE_SECONDS", 0.01)


def client_of(answer: Callable[[httpx2.Request], httpx2.Response], retry_seconds: float = 5) -> Client:
    return Client("http://gateway", "sskai_key", retry_seconds=retry_seconds, transport=httpx2.MockTransport(answer))


@pytest.mark.parametrize("failure", [429, 502, 503, 504, "refused", "cut"])
def test_a_restart_of_the_gateway_goes_unnoticed_and_makes_nothing_twice(failure: int | str) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if len(seen) <= 3:
            if failure == "refused":
                raise httpx2.ConnectError("refused")
            if failure == "cut":
                raise httpx2.RemoteProtocolError("the server went away")
            return httpx2.Response(int(failure))
        return httpx2.Response(202, json={"id": "job_1"})

    with client_of(answer) as sskai:
        assert sskai.jobs.create({"name": "bot"})["id"] == "job_1"
    assert len(seen) == 4
    assert len({request.headers["idempotency-key"] for request in seen}) == 1
    assert all(json.loads(request.content) == {"name": "bot"} for request in seen)
    assert seen[0].headers["authorization"] == "Bearer sskai_key"


def test_two_requests_have_two_keys_and_yours_is_taken() -> None:
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        return httpx2.Response(202, json={"id": "job_1"})

    with client_of(answer) as sskai:
        sskai.jobs.create({})
        sskai.jobs.create({})
        sskai.jobs.create({}, idempotency_key="mine")
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_what_is_wrong_with_a_request_is_told_at_once() -> None:
    tries = 0

    def answer(_request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        return httpx2.Response(422, json={"title": "Refused", "detail": "row 7: empty", "status": 422, "row": 7})

    with client_of(answer) as sskai, pytest.raises(SskaiError, match="row 7: empty") as refused:
        sskai.plans.create({})
    assert (tries, refused.value.status, refused.value.problem["row"]) == (1, 422, 7)


def test_there_is_a_limit_to_patience() -> None:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with client_of(answer, retry_seconds=0.05) as sskai:
        with pytest.raises(UnreachableError):
            sskai.models.list()
        with pytest.raises(UnreachableError):
            next(sskai.events())


def test_a_server_error_without_a_problem_document_is_one_all_the_same() -> None:
    with client_of(lambda _: httpx2.Response(500, text="oops")) as sskai, pytest.raises(SskaiError, match="oops"):
        sskai.jobs.get("job_1")


def test_an_upload_that_is_tried_again_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 1000)
    bodies: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.read())
        assert request.url.params["name"] == "support"
        assert request.headers["content-type"] == "application/jsonl"
        return httpx2.Response(503 if len(bodies) == 1 else 201, json={"id": "dataset_1"})

    with client_of(answer) as sskai:
        assert sskai.datasets.upload(path, name="support")["id"] == "dataset_1"
    assert bodies == [path.read_bytes()] * 2


def test_a_zip_is_uploaded_as_a_model_as_code(tmp_path: Path) -> None:
    (tmp_path / "digits.zip").write_bytes(b"PK-code")

    def gateway(request: httpx2.Request) -> httpx2.Response:
        content = request.read()
        assert b'name="code"; filename="digits.zip"' in content
        assert b"PK-code" in content
        return httpx2.Response(201, json={"id": "digits@1"})

    with client_of(gateway) as sskai:
        assert sskai.models.upload(tmp_path / "digits.zip", name="digits")["id"] == "digits@1"


def test_a_folder_is_uploaded_as_a_model(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(name)

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = request.read()
        assert body.count(b'name="files"') == 2
        assert b'filename="config.json"' in body
        return httpx2.Response(201, json={"id": "mine@1"})

    with client_of(answer) as sskai:
        assert sskai.models.upload(tmp_path, name="mine")["id"] == "mine@1"


def test_a_list_is_read_page_by_page() -> None:
    pages = {None: (["a", "b"], "b"), "b": (["c"], None)}

    def answer(request: httpx2.Request) -> httpx2.Response:
        names, following = pages[request.url.params.get("after")]
        return httpx2.Response(200, json={"data": [{"id": name} for name in names], "next": following})

    with client_of(answer) as sskai:
        assert [job["id"] for job in sskai.jobs.list()] == ["a", "b", "c"]


def test_waiting_ends_with_the_job_or_with_its_time() -> None:
    states = iter(["submitted", "running", "succeeded"])

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"id": "job_1", "state": next(states, "running")})

    with client_of(answer) as sskai:
        assert sskai.jobs.wait("job_1", poll_seconds=0.001)["state"] == "succeeded"
        with pytest.raises(TimeoutError, match="job_1 running"):
            sskai.jobs.wait("job_1", limit_seconds=0.01, poll_seconds=0.001)


def test_a_plan_that_takes_longer_is_waited_for() -> None:
    pending = {"id": "plan_1", "status": "pending"}
    answers = iter([pending, pending, {"id": "plan_1", "status": "proposed", "options": [{"kind": "spot"}]}])
    seen: list[tuple[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.method, request.url.path))
        return httpx2.Response(200, json=next(answers))

    with client_of(answer) as sskai:
        assert sskai.plans.create({"kind": "endpoint"}, poll_seconds=0.001)["options"] == [{"kind": "spot"}]
    assert seen == [("POST", "/v1/plans"), ("GET", "/v1/plans/plan_1"), ("GET", "/v1/plans/plan_1")]


def test_a_plan_that_is_refused_late_raises_as_one_that_is_refused_at_once() -> None:
    late = {"id": "plan_1", "status": "refused", "reason": "budget", "detail": "5 USD.", "advice": "Raise it."}
    answers = iter([{"id": "plan_1", "status": "pending"}, late])

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=next(answers))

    with client_of(answer) as sskai, pytest.raises(SskaiError, match=r"5 USD\. Raise it\.") as refused:
        sskai.plans.create({}, poll_seconds=0.001)
    assert (refused.value.status, refused.value.problem["reason"]) == (422, "budget")


def test_a_replay_is_asked_for_once_and_waited_for() -> None:
    replay = {"id": "replay_1", "plan_id": "plan_1", "status": "pending"}
    answers = iter([replay, replay, {**replay, "status": "replayed", "equal": False}])
    seen: list[tuple[str, str, bytes]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.method, request.url.path, request.read()))
        return httpx2.Response(200, json=next(answers))

    with client_of(answer) as sskai:
        assert sskai.plans.replay("plan_2", "fastest", poll_seconds=0.001)["equal"] is False
    looks = [("GET", "/v1/plans/plan_1/replays/replay_1", b"")] * 2
    assert seen == [("POST", "/v1/plans/plan_2/replay", b'{"policy":"fastest"}'), *looks]


def test_a_replay_that_fails_or_never_comes_is_an_error() -> None:
    failed = {"id": "replay_1", "plan_id": "plan_1", "status": "failed", "problem": "its inputs are gone"}
    with client_of(lambda _: httpx2.Response(200, json=failed)) as sskai, pytest.raises(SskaiError, match="inputs are"):
        sskai.plans.replay("plan_1")
    late = httpx2.Response(202, json={**failed, "status": "pending"})
    with client_of(lambda _: late) as sskai, pytest.raises(TimeoutError, match="replay_1 pending"):
        sskai.plans.replay("plan_1", wait_seconds=0, poll_seconds=0.001)


class _Cut(httpx2.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body
        raise httpx2.ReadError("cut")


def _sse(*positions: int) -> bytes:
    held = [(position, json.dumps({"partitionkey": "job_1", "data": {"n": position}})) for position in positions]
    return "".join(f"event: JobHeld\nid: {position}\ndata: {data}\n\n" for position, data in held).encode()


def test_a_lost_stream_goes_on_where_it_was() -> None:
    asked: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.params.get("after"))
        streams: list[httpx2.Response] = [
            httpx2.Response(200, stream=_Cut(b": connected\nid: 4\n\n")),
            httpx2.Response(503),
            httpx2.Response(200, stream=_Cut(_sse(5, 6) + b"event: JobHeld\nid: 7\nda")),
            httpx2.Response(200, content=_sse(7)),
        ]
        return streams[len(asked) - 1]

    with client_of(answer) as sskai:
        events = sskai.events(types=["JobHeld"])
        got = [next(events) for _ in range(3)]
    assert [(event.position, event.type, event.data["n"], event.subject) for event in got] == [
        (position, "JobHeld", position, "job_1") for position in (5, 6, 7)
    ]
    assert asked == [None, "4", "4", "6"]


def test_a_stream_that_may_not_be_read_is_an_error() -> None:
    refused = httpx2.Response(401, json={"title": "Unauthorized", "detail": "key", "status": 401})
    with client_of(lambda _: refused) as sskai, pytest.raises(SskaiError, match="Unauthorized"):
        next(sskai.events())
