"""`/v1/jobs/ID/logs` against a double of the scheduler: pages, streams that end, streams that go on elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from services.gateway.api import logs
from sskai.client import Client, LogLine, SskaiError
from sskai.http import PROBLEM_JSON
from sskai.testing import wait_for
from tests.gateway.conftest import House, client_of, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Scheduler:
    """Attempts with their lines, and which of them have ended."""

    attempts: dict[int, list[str]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)  # attempts whose log is gone
    job_ended: bool = False
    away: bool = False
    asked: list[tuple[str, dict[str, str], str]] = field(default_factory=list)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/jobs/{job_id}/logs")
        async def answer(job_id: str, request: Request) -> JSONResponse:
            query = dict(request.query_params)
            self.asked.append((job_id, query, request.headers["x-sskai-tenant"]))
            if self.away:
                problem = {"title": "The cluster is away", "detail": "timeout", "status": 503}
                return JSONResponse(problem, 503, media_type=PROBLEM_JSON)
            number = int(query.get("attempt") or max(self.attempts, default=0))
            if number and number not in self.attempts:
                problem = {"title": "No such attempt", "detail": "attempt: none", "status": 404, "field": "attempt"}
                return JSONResponse(problem, 404, media_type=PROBLEM_JSON)
            return JSONResponse(self._page(job_id, number, query))

        return app

    def _page(self, job_id: str, number: int, query: dict[str, str]) -> dict[str, Any]:
        lines, after = self.attempts.get(number, []), query.get("after")
        shown = [] if number in self.lost else lines[int(after) :] if after else lines[-int(query["tail"]) :]
        return {
            "job_id": job_id,
            "attempt": number,
            "attempts": sorted(self.attempts),
            "lines": [{"text": text} for text in shown],
            "truncated": not after and len(lines) > len(shown),
            "after": str(len(lines)),
            "missing": "the machine is gone" if number in self.lost else "",
            "ended": number in self.ended,
            "job_ended": self.job_ended,
        }


@pytest_asyncio.fixture(loop_scope="session")
async def scheduler(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scheduler]:
    monkeypatch.setattr(logs, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(logs, "LAST_PAUSE_SECONDS", 0.02)
    double = Scheduler()
    async with serving(double.app()) as url:
        house.world.settings.scheduler_url = url
        yield double


async def get(house: House, job_id: str, **params: Any) -> httpx2.Response:
    return await house.ann.get(f"/v1/jobs/{job_id}/logs", params=params)


async def test_the_last_lines_of_an_attempt(house: House, scheduler: Scheduler) -> None:
    job = await house.job(house.ann)
    assert (await get(house, job["id"])).json()["lines"] == [], "it waits for a machine"
    scheduler.attempts = {1: ["a"], 2: ["b", "c", "d"]}
    told = await get(house, job["id"], tail=2)
    assert told.json() == {
        "object": "job.logs",
        "job_id": job["id"],
        "attempt": 2,
        "lines": [{"text": "c"}, {"text": "d"}],
        "truncated": True,
    }
    assert (await get(house, job["id"], attempt=1)).json()["lines"] == [{"text": "a"}]
    tenant = {tenant for _, _, tenant in scheduler.asked}
    assert len(tenant) == 1
    assert (await get(house, job["id"], attempt=9)).json()["field"] == "attempt"


async def test_what_cannot_be_told_is_a_problem_with_its_reason(house: House, scheduler: Scheduler) -> None:
    job = await house.job(house.ann)
    scheduler.attempts, scheduler.lost, scheduler.ended = {1: ["a"]}, {1}, {1}
    gone = await get(house, job["id"])
    assert (gone.status_code, gone.json()["detail"]) == (404, "attempt 1: the machine is gone")
    assert (await get(house, job["id"], attempt=1, follow=True)).status_code == 404
    scheduler.away = True
    assert (await get(house, job["id"])).status_code == 503
    house.world.settings.scheduler_url = "http://127.0.0.1:9"
    away = await get(house, job["id"])
    assert (away.status_code, away.json()["title"]) == (503, "The scheduler is away")
    assert (await get(house, job["id"], tail=0)).status_code == 422
    assert (await get(house, job["id"], follow=True, after="nonsense")).status_code == 422


async def test_somebody_elses_log_does_not_exist(house: House, scheduler: Scheduler) -> None:
    job = await house.job(house.ann)
    for params in ({}, {"follow": True}):
        assert (await house.bob.get(f"/v1/jobs/{job['id']}/logs", params=params)).status_code == 404
    assert scheduler.asked == []


async def test_a_log_is_followed_over_attempts_to_the_jobs_end(house: House, scheduler: Scheduler) -> None:
    job = await house.job(house.ann)
    scheduler.attempts = {1: ["a", "b"]}
    seen: list[LogLine] = []
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")

    def collect() -> None:
        with Client(house.url, key) as sskai:
            for line in sskai.jobs.follow_logs(job["id"], tail=1):
                seen.append(line)  # noqa: PERF402 (seen while it goes on)

    following = asyncio.create_task(asyncio.to_thread(collect))
    await wait_for(lambda: seen == [LogLine(1, "b")])
    scheduler.attempts[1].append("last words of 1")
    await wait_for(lambda: len(seen) == 2)
    scheduler.away = True
    asked = len(scheduler.asked)
    await wait_for(lambda: len(scheduler.asked) > asked + 1)
    scheduler.away = False
    scheduler.ended, scheduler.attempts[2] = {1}, [str(n) for n in range(200)]
    await wait_for(lambda: len(seen) == 202)
    scheduler.ended, scheduler.lost, scheduler.attempts[3] = {1, 2, 3}, {3}, ["never read"]
    scheduler.job_ended = True
    await following
    assert seen[1:3] == [LogLine(1, "last words of 1"), LogLine(2, "0")]


async def test_a_stream_is_resumed_by_its_position(house: House, scheduler: Scheduler) -> None:
    job = await house.job(house.ann)
    scheduler.attempts, scheduler.ended, scheduler.job_ended = {1: ["a", "b", "c"], 2: ["d"]}, {1, 2}, True
    whole = (await get(house, job["id"], follow=True, attempt=1, tail=2)).text
    assert whole == (
        'event: line\ndata: {"attempt":1,"text":"b"}\n\n'
        'event: line\ndata: {"attempt":1,"text":"c"}\nid: 1:3\n\n'
        f'event: end\ndata: {{"job_id":"{job["id"]}"}}\n\n'
    )
    rest = await house.ann.get(f"/v1/jobs/{job['id']}/logs", params={"follow": True}, headers={"Last-Event-ID": "1:2"})
    assert [line for line in rest.text.splitlines() if line.startswith("data")] == [
        'data: {"attempt":1,"text":"c"}',
        'data: {"attempt":2,"text":"d"}',
        f'data: {{"job_id":"{job["id"]}"}}',
    ]


async def test_streams_have_a_limit_and_a_silent_one_gives_a_sign_of_life(house: House, scheduler: Scheduler) -> None:
    job = await house.job(house.ann)
    scheduler.attempts = {1: ["a"]}
    streams = [
        house.ann.stream("GET", f"/v1/jobs/{job['id']}/logs", params={"follow": True}, timeout=10) for _ in range(2)
    ]
    async with streams[0] as one, streams[1] as other:
        assert (one.status_code, other.status_code) == (200, 200)
        refused = await get(house, job["id"], follow=True)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        async for line in one.aiter_lines():
            if line == ": still here":
                break


async def test_a_refused_log_is_an_error_of_the_client(house: House, scheduler: Scheduler) -> None:
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")

    def ask() -> None:
        with Client(house.url, key) as sskai:
            with pytest.raises(SskaiError, match="No such job"):
                sskai.jobs.logs("job_of_nobody")
            with pytest.raises(SskaiError, match="No such job"):
                next(sskai.jobs.follow_logs("job_of_nobody"))

    await asyncio.to_thread(ask)


async def test_a_followed_log_ends_when_the_key_is_revoked(
    house: House, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RECHECK_SECONDS", 0.0)
    job = await house.job(house.ann)
    scheduler.attempts[1] = ["first"]
    made = (await house.ann.post("/v1/keys", json={"name": "short-lived"})).json()
    path = f"/v1/jobs/{job['id']}/logs"
    async with (
        client_of(house.url, made["key"]) as client,
        client.stream("GET", path, params={"follow": True}) as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == "event: line"
        await house.ann.delete(f"/v1/keys/{made['id']}")
        async with asyncio.timeout(10):
            rest = [line async for line in lines]
    assert "event: end" not in rest, "the job goes on"
