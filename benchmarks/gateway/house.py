"""The gateway as a process of its own, as it runs anywhere, with a durable PostgreSQL, a broker and an object store."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sskai import broker_admin, contract
from sskai.database import migrate
from sskai.local.kafka import Kafka
from sskai.local.objectstore import ObjectStore
from sskai.local.postgres import Postgres
from sskai.local.processes import Child, Program, Server, free_ports

ROOT = Path(__file__).parents[2]
KEY = "sskai_operators-key-of-the-benchmark"
BASE = "tiny-llama"
MIB = 2**20
LIMIT_SECONDS = 900


@dataclass(frozen=True)
class Parts:
    """What stands around the gateway, for several of them one after the other."""

    database_url: str
    environment: dict[str, str]
    folder: Path


@dataclass(frozen=True)
class House:
    """A gateway that is ready."""

    url: str
    process: psutil.Process
    database_url: str

    def request(
        self, method: str, path: str, body: bytes | None = None, media_type: str = "application/json", key: str = KEY
    ) -> Any:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": media_type}
        asked = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def parts() -> Iterator[Parts]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sskai-gateway-")))
        model = folder / "models" / BASE
        model.mkdir(parents=True)
        (model / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
        postgres = stack.enter_context(Postgres.start(durable=True))
        migrate(postgres.url, "gateway")
        broker = stack.enter_context(Kafka.start())
        asyncio.run(broker_admin.create_topics(broker.bootstrap, [*contract.TOPICS, contract.OTLP_TOPIC]))
        store = stack.enter_context(ObjectStore.start())
        environment = {
            "SSKAI_DATABASE_URL": postgres.url,
            "SSKAI_KAFKA_BOOTSTRAP": broker.bootstrap,
            "SSKAI_OBJECTS_URL": store.url,
            "SSKAI_OBJECTS_BUCKET": store.bucket,
            "SSKAI_OBJECTS_ACCESS_KEY": store.credentials.access_key,
            "SSKAI_OBJECTS_SECRET_KEY": store.credentials.secret_key,
            "SSKAI_ADMIN_KEY": KEY,
            "SSKAI_MODELS_DIR": str(folder / "models"),
            "SSKAI_SPOOL_DIR": str(folder),
            "PYTHONPATH": str(ROOT),
        }
        yield Parts(postgres.url, environment, folder)


@contextmanager
def gateway(around: Parts, **settings: str) -> Iterator[House]:
    """With these settings (SSKAI_*) beside the usual ones."""
    with serving(around, [sys.executable, "-m", "services", "gateway"], "/readyz", **settings) as house:
        yield house


@contextmanager
def serving(around: Parts, command: Sequence[str], ready: str, **settings: str) -> Iterator[House]:
    """A program that serves HTTP on SSKAI_PORT, until the block ends."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    program = Program(
        name="gateway",
        command=command,
        log=around.folder / "gateway.log",
        ready=lambda: _answers(url + ready),
        environment={**around.environment, "SSKAI_PORT": str(port), **settings},
        folder=ROOT,
    )
    child = Child.spawn(program)
    with Server(child, around.folder, folder_is_ours=False, started=time.monotonic()):
        yield House(url, psutil.Process(child.identity.pid), around.database_url)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


class Resident:
    """The largest resident memory of a process while the block lasts, in MiB, and the processor seconds it took."""

    def __init__(self, process: psutil.Process, every_seconds: float = 0.1) -> None:
        self._process, self._every_seconds = process, every_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before_mib = self.peak_mib = self._mib()
        self.cpu_seconds = 0.0

    def __enter__(self) -> Resident:
        self.before_mib = self.peak_mib = self._mib()
        self._cpu_before = self._cpu()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.cpu_seconds = self._cpu() - self._cpu_before

    def _watch(self) -> None:
        while not self._ended.wait(self._every_seconds):
            self.peak_mib = max(self.peak_mib, self._mib())

    def _mib(self) -> float:
        return float(self._process.memory_info().rss / MIB)

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def load(module: str, *arguments: object) -> Any:
    """Run a load generator of this package as a process of its own; the JSON object that it prints."""
    command = [sys.executable, "-m", f"benchmarks.gateway.{module}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True, timeout=LIMIT_SECONDS)
    return json.loads(done.stdout)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
