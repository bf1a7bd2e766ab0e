"""What a machine relies on of EC2's metadata service, version 2: one text for the small service of the tests and for
AWS's own mock (tests/real)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sskai.cluster import ec2_requests
from sskai.testing import wait_for
from tests.scheduler.booted_machine import POD, BootedMachine

TOKEN_SECONDS = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"


class Metadata(ABC):
    """A service at `url`, as far as /latest, that says nothing of an end until it is told to. The machine is i-1."""

    url: str

    @abstractmethod
    def notice_spot(self, at: str) -> None:
        """The market takes the machine at this time."""

    @abstractmethod
    def recommend_rebalance(self, at: str) -> None:
        """The market may take it soon."""


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, ""


def token_of(url: str) -> str:
    status, token = ask(f"{url}/api/token", "PUT", **{TOKEN_SECONDS: "60"})
    assert status == 200
    return token


def soon() -> str:
    return (datetime.now(UTC) + timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M:%SZ")


class MetadataContract:
    """Subclasses have a fixture `metadata`."""

    @pytest.fixture
    def machine(self, metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BootedMachine]:
        monkeypatch.setattr(ec2_requests, "POLL_SECONDS", 0.05)
        machine = BootedMachine(tmp_path, metadata.url)
        yield machine
        machine.kill()

    def test_without_a_token_nothing_is_answered(self, metadata: Metadata) -> None:
        where = f"{metadata.url}/meta-data/instance-id"
        assert ask(where)[0] == 401
        assert ask(where, **{TOKEN: "made-up"})[0] == 401
        assert ask(where, **{TOKEN: token_of(metadata.url)}) == (200, "i-1")

    @pytest.mark.parametrize("seconds", ["0", "21601", "an hour"])
    def test_a_token_lives_for_one_second_to_six_hours(self, metadata: Metadata, seconds: str) -> None:
        assert ask(f"{metadata.url}/api/token", "PUT", **{TOKEN_SECONDS: seconds})[0] == 400

    def test_what_is_not_announced_is_not_there(self, metadata: Metadata) -> None:
        for path in ("spot/instance-action", "events/recommendations/rebalance"):
            assert ask(f"{metadata.url}/meta-data/{path}", **{TOKEN: token_of(metadata.url)})[0] == 404

    async def test_a_notice_has_its_action_and_its_time(self, metadata: Metadata) -> None:
        metadata.notice_spot(at := soon())
        answer = await self._said(metadata, "spot/instance-action")
        assert (answer["action"], answer["time"]) == ("terminate", at)

    async def test_a_recommendation_has_its_time(self, metadata: Metadata) -> None:
        metadata.recommend_rebalance(at := soon())
        assert (await self._said(metadata, "events/recommendations/rebalance"))["noticeTime"] == at

    async def test_a_spot_notice_becomes_a_sigterm_and_is_told(
        self, metadata: Metadata, machine: BootedMachine
    ) -> None:
        await machine.boot(POD)
        await machine.started()
        metadata.notice_spot(at := soon())
        assert await machine.exit_code() == 75
        await wait_for(lambda: f"Key=sskai:terminates-at,Value={at}" in machine.read("tags"))

    async def test_a_rebalance_recommendation_is_told_once_and_nothing_stops(
        self, metadata: Metadata, machine: BootedMachine
    ) -> None:
        await machine.boot(POD)
        await machine.started()
        metadata.recommend_rebalance(at := soon())
        await wait_for(lambda: f"Key=sskai:rebalance-at,Value={at}" in machine.read("tags"))
        metadata.notice_spot(end := soon())
        assert await machine.exit_code() == 75
        await wait_for(lambda: f"Key=sskai:terminates-at,Value={end}" in machine.read("tags"))
        assert machine.read("tags").count("rebalance-at") == 1

    @staticmethod
    async def _said(metadata: Metadata, path: str) -> dict[str, Any]:
        found: list[str] = []

        def said() -> bool:
            try:
                status, body = ask(f"{metadata.url}/meta-data/{path}", **{TOKEN: token_of(metadata.url)})
            except OSError:
                return False
            found.append(body)
            return status == 200

        await wait_for(said)
        answer: dict[str, Any] = json.loads(found[-1])
        return answer
