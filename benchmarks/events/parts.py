"""What stands around the processes of this benchmark: a PostgreSQL that syncs, an Apache Kafka, and their upkeep."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from sskai import broker_admin, contract
from sskai.database import migrate, plain_url
from sskai.events import v1 as events
from sskai.local.kafka import Kafka
from sskai.local.postgres import Postgres
from sskai.local.processes import Child, Program, Server, free_ports

ROOT = Path(__file__).parents[2]
LOOK_SECONDS = 0.2  # between two looks at what the services have done
TOPICS = (contract.topic_of(events.JobRequeued), contract.topic_of(events.PlanProposed))
PARTITIONS = 12
EFFECTS = "CREATE TABLE optimizer.effects (job_id text PRIMARY KEY, handled bigint NOT NULL, total bigint NOT NULL)"


@dataclass(frozen=True)
class Parts:
    """Addresses, and the processes whose time is counted."""

    bootstrap: str
    database_url: str
    folder: Path
    broker: psutil.Process
    database: psutil.Process

    def ask(self, statement: str) -> Any:
        """The one value that a statement answers."""
        with self._connected() as connection:
            row = connection.execute(statement.encode()).fetchone()
        return row[0] if row else None

    def change(self, statement: str) -> None:
        """A statement that answers nothing."""
        with self._connected() as connection:
            connection.execute(statement.encode())

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(plain_url(self.database_url), autocommit=True)


@contextmanager
def parts() -> Iterator[Parts]:
    """A fresh broker whose topics have 12 partitions, and a fresh database with two services' schemas."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sskai-events-")))
        postgres = stack.enter_context(Postgres.start(durable=True))
        for service in ("scheduler", "optimizer"):
            migrate(postgres.url, service)
        broker = stack.enter_context(Kafka.start())
        asyncio.run(broker_admin.create_topics(broker.bootstrap, TOPICS, partitions=PARTITIONS))
        found = Parts(
            broker.bootstrap,
            postgres.url,
            folder,
            psutil.Process(broker.child.identity.pid),
            psutil.Process(postgres.child.identity.pid),
        )
        found.change(EFFECTS)
        yield found


@contextmanager
def process(
    around: Parts, module: str, *arguments: object, instance: str = "", package: str = "benchmarks.events"
) -> Iterator[psutil.Process]:
    """A service of a benchmark, ready, until the block ends; then it is stopped as any service is."""
    (port,) = free_ports(1)
    program = Program(
        name=module,
        command=[sys.executable, "-m", f"{package}.{module}", *map(str, arguments)],
        log=around.folder / f"{module}{instance}.log",
        ready=lambda: _answers(f"http://127.0.0.1:{port}/readyz"),
        environment={
            "SSKAI_DATABASE_URL": around.database_url,
            "SSKAI_KAFKA_BOOTSTRAP": around.bootstrap,
            "SSKAI_PORT": str(port),
            "SSKAI_INSTANCE": instance,
            "PYTHONPATH": str(ROOT),
        },
        folder=ROOT,
    )
    child = Child.spawn(program)
    with Server(child, around.folder, folder_is_ours=False, started=time.monotonic()):
        yield psutil.Process(child.identity.pid)


def load(module: str, *arguments: object) -> Any:
    """Run a program of this package to its end; the JSON that it prints."""
    command = [sys.executable, "-m", f"benchmarks.events.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=600)
    return json.loads(done.stdout)


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process and of all it has started; those that ended count as its children."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    ended = process.cpu_times()
    return float(total + ended.children_user + ended.children_system)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False
