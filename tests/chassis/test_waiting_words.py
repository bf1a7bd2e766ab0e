"""Why a job waits, in the words that the command line prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from rich.console import Console
from typer.testing import CliRunner

from sskai import cli, waiting_words
from sskai.cli import common
from sskai.client import Client

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def waiting(rule: str = "waiting-for-spot", *, now: datetime = NOW, **seconds: float) -> dict[str, Any]:
    times = {name: (now + timedelta(seconds=value)).isoformat() for name, value in seconds.items()}
    return {"rule": rule, "detail": "", "position": 0, **times}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            waiting(since=-180, earliest_start=120, latest_start=660) | {"detail": "none in use1-az4"},
            "waiting for spot since 3 min; likely to start in 2 to 11 min: none in use1-az4",
        ),
        (
            waiting("quota", since=-10, earliest_start=0.4, latest_start=40) | {"position": 2},
            "waiting for its turn since 10 s; number 2 in line; likely to start within 40 s",
        ),
        (
            waiting("backoff", earliest_start=20, latest_start=20.2),
            "pausing before the next try; likely to start in 20 s",
        ),
        (
            waiting("priority", since=-7200, earliest_start=7200, latest_start=86_400),
            "waiting behind jobs of a higher class since 2 h; likely to start in 2 to 24 h",
        ),
        (
            waiting("no-capacity", since=-300_000, earliest_start=-9, latest_start=-1),
            "waiting for a machine since 3 d; later than was foretold",
        ),
        (waiting("budget", since=0), "held by its budget since 0 s"),
        (waiting("of-tomorrow"), "held by of-tomorrow"),
    ],
)
def test_in_words(document: dict[str, Any], words: str) -> None:
    assert waiting_words.in_words(document, NOW) == words


def test_in_short() -> None:
    assert waiting_words.in_short(None, NOW) == ""
    assert waiting_words.in_short(waiting("budget"), NOW) == "budget"
    assert waiting_words.in_short(waiting("quota", earliest_start=60, latest_start=600), NOW) == "quota, in 1 to 10 min"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A gateway with one job that waits: shown, listed, and followed to its end."""
    now = datetime.now(UTC)
    why = waiting("quota", now=now, since=-600, earliest_start=3600, latest_start=4 * 3600) | {"detail": "2 of 2 run"}
    job = {"id": "job_1", "name": "bot", "state": "held", "waiting": why}

    def event(position: int, kind: str, data: dict[str, Any]) -> str:
        cloudevent = {"type": f"sskai.events.v1.{kind}", "partitionkey": "job_1", "data": {"job_id": "job_1", **data}}
        return f"id: {position}\nevent: {kind}\ndata: {json.dumps(cloudevent)}\n\n"

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/events":
            return httpx2.Response(200, text=event(1, "JobHeld", why) + event(2, "JobSucceeded", {}))
        if request.url.path == "/v1/jobs":
            return httpx2.Response(200, json={"data": [job], "has_more": False, "next": None})
        return httpx2.Response(200, json=job)

    monkeypatch.setattr(common, "out", Console(width=200))
    monkeypatch.setattr(common, "err", Console(width=200, stderr=True))
    transport = httpx2.MockTransport(answer)
    monkeypatch.setattr(common, "connect", lambda: Client("http://gateway", "sskai_key", transport=transport))
    return job


def test_the_command_line_says_why_a_job_waits(held: dict[str, Any]) -> None:
    words = "waiting for its turn since 10 min; likely to start in 1 to 4 h: 2 of 2 run"
    shown = CliRunner().invoke(cli.app, ["jobs", "show", "job_1"])
    assert json.loads(shown.stdout) == held, "what is printed is still JSON"
    assert shown.stderr.strip() == words
    listed = CliRunner().invoke(cli.app, ["jobs", "list"])
    assert "quota, in 1 to 4 h" in listed.stdout
    as_json = CliRunner().invoke(cli.app, ["jobs", "list", "--json"])
    assert json.loads(as_json.stdout) == [held]
    followed = CliRunner().invoke(cli.app, ["jobs", "follow", "job_1"])
    assert followed.exit_code == 0
    assert words in followed.stdout
