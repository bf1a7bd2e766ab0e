"""AWS's own mock of the metadata service keeps the contract that the small one of the tests keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sskai.local.processes import free_ports
from tests.real.programs import built, serving
from tests.scheduler.metadata_contract import TOKEN_SECONDS, Metadata, MetadataContract, ask

pytestmark = pytest.mark.real

NOT_YET = "2099-01-01T00:00:00Z"
LONG_AGO = "2020-01-01T00:00:00Z"


class Mock(Metadata):
    """It announces by a clock that it is started with: what is to be announced now takes a start with another one. A
    machine meets that as a metadata service that is away for a moment, and as a token that is no longer known."""

    def __init__(self, folder: Path) -> None:
        self._program = built("metadata-mock", "ec2-metadata-mock")
        self._folder = folder
        [self._port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/latest"
        self._triggers = {"mock": NOT_YET, "rebalance": NOT_YET}
        self._times: dict[str, str] = {}
        self._running = ExitStack()
        self._start()

    def notice_spot(self, at: str) -> None:
        self._triggers["mock"], self._times["time"] = LONG_AGO, at
        self._start()

    def recommend_rebalance(self, at: str) -> None:
        self._triggers["rebalance"], self._times["rebalance-rec-time"] = LONG_AGO, at
        self._start()

    def stop(self) -> None:
        self._running.close()

    def _start(self) -> None:
        self.stop()
        config = self._folder / "mock.json"
        config.write_text(json.dumps({"metadata": {"values": {"instance-id": "i-1"}}}))
        flags = {
            "config-file": str(config),
            "hostname": "127.0.0.1",
            "port": str(self._port),
            **{f"{name}-trigger-time": at for name, at in self._triggers.items()},
            **self._times,
        }
        command = [str(self._program), "spot", "--imdsv2", *(f"--{name}={value}" for name, value in flags.items())]
        self._running.enter_context(serving(command, self._folder, self._answers))

    def _answers(self) -> bool:
        return ask(f"{self.url}/api/token", "PUT", **{TOKEN_SECONDS: "60"})[0] == 200


class TestAmazonsMock(MetadataContract):
    @pytest.fixture
    def metadata(self, tmp_path: Path) -> Iterator[Metadata]:
        mock = Mock(tmp_path)
        yield mock
        mock.stop()
