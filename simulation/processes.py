"""The services as processes of the simulation: each is built by its own `main.build`, on simulated parts.

A process that crashes loses its memory and its open transactions; the next incarnation begins with what was committed.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from pydantic import SecretStr

import services.trainer.checkpoints
import sskai.bus
import sskai.delivery
from services.optimizer.catalogue import Catalogue
from simulation import broker, cluster, objectstore
from simulation import globals as simulated
from simulation.loop import ACTOR, Actor
from simulation.postgres import Server, SimulatedDatabase
from sskai.service import Service

SERVICES = ("gateway", "optimizer", "scheduler", "trainer", "monitor")
MODEL = "simulated-model"
# What can be rented in a run: a tiny market decides as the whole one does, only faster.
OFFERED_TYPES = ("g5.xlarge", "g6.xlarge")
OFFERED_REGIONS = ("us-east-1",)
RELAY_POLL_SECONDS = 5.0  # for notifications that were missed; in production more often, which only costs time here
COMMIT_SECONDS = 1.0
PROFILE = Path(__file__).with_name("profile.json")


class Process(Actor):
    """One incarnation of one replica of one service."""

    def __init__(self, service: str, replica: int, incarnation: int, skew_seconds: float) -> None:
        super().__init__(f"{service}/{replica}.{incarnation}", skew_seconds)
        self.service = service
        self.built: Any = None
        self.tasks: list[asyncio.Task[Any]] = []

    def run(self, work: Any) -> asyncio.Task[Any]:
        """Something that this process does."""
        context = contextvars.copy_context()
        context.run(ACTOR.set, self)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.tasks.append(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self.tasks.remove(task)
        if self.alive and not task.cancelled() and (error := task.exception()) is not None:
            self.failed(task, error)

    def failed(self, task: asyncio.Task[Any], error: BaseException) -> None:
        """A part ended by itself; requests answer whoever asked."""


@dataclass
class Tempo:
    """How often loops turn, as a share of what the services ask for: fewer turns make a run shorter."""

    often: float = 4.0  # loops that carry jobs
    seldom: float = 12.0  # housekeeping


HOUSEKEEPING = {
    *("forget_old", "send_webhooks", "check_uploads", "check_large_uploads", "purge_deleted", "cut_for_retrains"),
    *("fetch_references", "follow_schedules", "end_suggestions", "watch_objectives", "show_figures", "roll_up"),
    *("forget", "forget_notices", "forget_suggestions", "forget_reserves", "meter_things", "keep_profiler_warm"),
    *("replan_where_prices_moved", "forget_old_plans", "forget_old_waits_and_offers", "forget_old_events"),
    "tell_due",
}


def start(process: Process, settings: dict[str, Any], tempo: Tempo) -> None:
    """Build the service as its `main` does and begin all its parts."""
    module = importlib.import_module(f"services.{process.service}.main")

    async def begin() -> None:
        service: Service = module.build(settings[process.service])
        process.built = service
        service.loops = [
            replace(loop, seconds=loop.seconds * (tempo.seldom if loop.name in HOUSEKEEPING else tempo.often))
            for loop in service.loops
        ]
        for _name, part in service.parts():
            process.run(part)

    process.run(begin()).add_done_callback(asyncio.Task.result)


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """By service."""
    (folder / "models" / MODEL).mkdir(parents=True, exist_ok=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048}
    (folder / "models" / MODEL / "config.json").write_text(json.dumps(config))
    shared = {
        "models_dir": folder / "models",
        "objects_bucket": objectstore.BUCKET,
        "instance": "0",
        "cloud_url": "simulated",
        "cloud_token": SecretStr("simulated"),
        "internal_token": SecretStr("simulated"),
    }
    special: dict[str, dict[str, Any]] = {
        "optimizer": {"offered_instance_types": OFFERED_TYPES, "machine_start_seconds": 20.0},
        "scheduler": {},
        "monitor": {"interruption_poll_seconds": 1.0},
    }
    made = {}
    for service in SERVICES:
        module = importlib.import_module(f"services.{service}.settings")
        known = module.Settings.model_fields
        values = shared | special.get(service, {}) | {name: value for name, value in changes.items() if name in known}
        made[service] = module.Settings(**{name: value for name, value in values.items() if name in known})
    return made


class _Profiler:
    """The profiling worker's answer, counted once for all runs."""

    def __init__(self, **_limits: Any) -> None:
        self._answer = json.loads(PROFILE.read_text())

    async def start(self) -> None:
        """There is no process to start."""

    async def profile(self, _request: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(simulated.SOURCES.dice.uniform(0.1, 3.0))
        return dict(self._answer)


class _InlineExecutor:
    """Threads that take turns: what is submitted is done."""

    def __init__(self, *_limits: Any, **_named: Any) -> None:
        """However many there should be."""

    def __enter__(self) -> _InlineExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def submit(self, work: Any, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def map(self, work: Any, *iterables: Any) -> Iterator[Any]:
        return map(work, *iterables)


@dataclass
class Parts:
    """Names of the services' modules that stand for something real, and what stands there instead."""

    replaced: list[tuple[ModuleType, str, Any]] = field(default_factory=list)

    def put(self, module: ModuleType, name: str, value: Any) -> None:
        self.replaced.append((module, name, getattr(module, name)))
        setattr(module, name, value)


def _market(whole: Catalogue) -> Catalogue:
    offers = tuple(one for one in whole.offers if one.instance_type in OFFERED_TYPES and one.region in OFFERED_REGIONS)
    return Catalogue({name: whole.machines[name] for name in OFFERED_TYPES}, offers)


@contextmanager
def simulated_parts(server: Server) -> Iterator[None]:
    """Everything that leads out of the process leads into the simulation."""
    parts = Parts()
    mains = {name: importlib.import_module(f"services.{name}.main") for name in SERVICES}
    SimulatedDatabase.server = server
    for module in mains.values():
        parts.put(module, "Database", SimulatedDatabase)
        if hasattr(module, "Objects"):
            parts.put(module, "Objects", objectstore.SimulatedObjects)
    parts.put(mains["gateway"], "build_app", lambda _world: None)
    parts.put(mains["scheduler"], "cluster_of", cluster.SimulatedCluster)
    parts.put(mains["monitor"], "LocalCloud", cluster.SimulatedFeed)
    parts.put(mains["optimizer"], "Profiler", _Profiler)
    parts.put(mains["optimizer"], "UserProfiler", SimpleNamespace(from_settings=lambda _settings: None))
    catalogue = importlib.import_module("services.optimizer.catalogue")
    tiny = _market(catalogue.snapshot())
    parts.put(catalogue, "snapshot", lambda: tiny)
    parts.put(sskai.bus, "AIOKafkaConsumer", broker.SimulatedConsumer)
    parts.put(sskai.bus, "AIOKafkaProducer", broker.SimulatedProducer)
    parts.put(sskai.bus, "COMMIT_SECONDS", COMMIT_SECONDS)
    parts.put(sskai.delivery, "RELAY_POLL_SECONDS", RELAY_POLL_SECONDS)
    parts.put(services.trainer.checkpoints, "ThreadPoolExecutor", _InlineExecutor)
    try:
        yield
    finally:
        for module, name, value in reversed(parts.replaced):
            setattr(module, name, value)
