"""Large files go in parts: what breaks off costs a part, and an upload that was left goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sskai.client import Client, SskaiError, UnreachableError, patience, wire
from sskai.client._sync import data

STEP = 1000
CONTENT = bytes(range(256)) * 18  # 4,608 bytes: four whole parts and a rest


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(data, "RESUMABLE_BYTES", STEP)
    monkeypatch.setattr(wire, "PART_BYTES", STEP)


@dataclass
class Gateway:
    """`/v1/uploads` as the contract has it, in memory."""

    form: dict[str, Any] = field(default_factory=dict)
    parts: dict[int, bytes] = field(default_factory=dict)  # by number
    checked: list[str] = field(default_factory=list)  # states of a whole file before it is completed
    fails: list[int | Exception] = field(default_factory=list)  # answers to the next parts
    whole: bytes = b""

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        route = (request.method, request.url.path.removeprefix("/v1/uploads"))
        if route == ("POST", ""):
            self.form = json.loads(request.read())
            return self._upload("pending")
        if route == ("GET", "/upload_1"):
            told = [
                {"id": f"part_{number}", "part_number": number, "bytes": len(part)}
                for number, part in sorted(self.parts.items())
            ]
            state = self.checked.pop(0) if self.whole and self.checked else "completed" if self.whole else "pending"
            return self._upload(state, parts=told)
        if route == ("POST", "/upload_1/parts"):
            return self._part(request)
        if route == ("POST", "/upload_1/complete"):
            wanted = json.loads(request.read())["part_ids"]
            self.whole = b"".join(self.parts[int(name.removeprefix("part_"))] for name in wanted)
            return self._upload(self.checked.pop(0) if self.checked else "completed")
        assert request.url.path == "/v1/datasets/dataset_1"
        return httpx2.Response(200, json={"id": "dataset_1", "bytes": len(self.whole)})

    def _part(self, request: httpx2.Request) -> httpx2.Response:
        content = request.read()
        if self.fails:
            failure = self.fails.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return httpx2.Response(failure, json={"title": "No", "detail": "not now", "status": failure})
        found = re.search(rb'name="data"; filename="part"\r\n[^\r]*\r\n\r\n(.*)\r\n--[0-9a-f]+--', content, re.DOTALL)
        assert found is not None
        number = re.search(rb'name="part_number"\r\n\r\n(\d+)', content)
        assert number is not None
        self.parts[int(number[1])] = found[1]
        return httpx2.Response(200, json={"id": f"part_{int(number[1])}", "object": "upload.part"})

    def _upload(self, status: str, **more: Any) -> httpx2.Response:
        document = {"id": "upload_1", "object": "upload", "status": status, "bytes": len(CONTENT), **more}
        document["part_bytes"] = self.form["part_bytes"]
        if status == "completed":
            document["file"] = {"id": "dataset_1"}
        if status == "failed":
            document["problem"] = {"row": 7, "column": "text", "reason": "is empty"}
        return httpx2.Response(200, json=document)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(CONTENT)
    return path


def client_of(answer: Callable[[httpx2.Request], httpx2.Response], retry_seconds: float = 5) -> Client:
    return Client("http://gateway", "sskai_key", retry_seconds=retry_seconds, transport=httpx2.MockTransport(answer))


def test_a_large_file_goes_in_parts_and_becomes_a_dataset(path: Path) -> None:
    gateway, told = Gateway(fails=[503, httpx2.WriteError("cut")]), list[tuple[int, int]]()
    with client_of(gateway) as sskai:
        dataset = sskai.datasets.upload(path, "support", progress=lambda *sent: told.append(sent))
    assert dataset["bytes"] == len(CONTENT)
    assert gateway.whole == CONTENT
    assert [len(part) for part in gateway.parts.values()] == [STEP, STEP, STEP, STEP, 608]
    assert gateway.form == {
        "filename": "chats.jsonl",
        "bytes": len(CONTENT),
        "purpose": "fine-tune",
        "mime_type": "application/jsonl",
        "name": "support",
        "part_bytes": STEP,
    }
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_an_upload_that_was_left_goes_on_with_what_is_missing(path: Path) -> None:
    gateway = Gateway()
    with client_of(gateway, retry_seconds=0.01) as sskai:
        upload = sskai.uploads.create(path.name, len(CONTENT), purpose="fine-tune", name="support")
        for number in (1, 3):
            gateway.parts[number] = CONTENT[(number - 1) * STEP : number * STEP]
        gateway.fails = [httpx2.ConnectError("away")] * 50
        with pytest.raises(UnreachableError) as broken:
            sskai.datasets.upload(path, "support", resume=upload["id"])
        assert broken.value.problem["upload_id"] == upload["id"]
        gateway.fails = []
        assert sskai.datasets.upload(path, "support", resume=upload["id"])["id"] == "dataset_1"
        assert gateway.whole == CONTENT
        assert len(gateway.parts) == 5
        assert sskai.uploads.send(path, purpose="fine-tune", resume=upload["id"])["status"] == "completed"


def test_a_large_file_that_is_checked_later_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "LOOK_SECONDS", 0.001)
    with client_of(Gateway(checked=["validating", "validating"])) as sskai:
        assert sskai.datasets.upload(path, "support")["id"] == "dataset_1"
    refusal = pytest.raises(SskaiError, match="row 7, text: is empty")
    with client_of(Gateway(checked=["validating", "failed"])) as sskai, refusal as refused:
        sskai.datasets.upload(path, "support")
    assert refused.value.problem["row"] == 7


def test_a_part_that_is_refused_is_told(path: Path) -> None:
    with client_of(Gateway(fails=[413])) as sskai, pytest.raises(SskaiError, match="not now"):
        sskai.datasets.upload(path, "support")


def test_parts_grow_with_the_file_so_that_there_are_never_too_many() -> None:
    assert wire.part_bytes(1) == STEP
    assert wire.part_bytes(STEP * wire.PARTS_AT_MOST * 3) == 3 * STEP
