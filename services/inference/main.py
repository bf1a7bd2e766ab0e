"""Inference as a process: where settings, database, engine, API and loops meet. `python -m services inference`."""

from __future__ import annotations

import asyncio
from functools import partial

from google.protobuf.message import Message

from services.inference import api, loops, replicating
from services.inference.answering import Desk
from services.inference.artifacts import Artifacts
from services.inference.engine import Engine
from services.inference.fleet import Fleet
from services.inference.handlers import HANDLERS
from services.inference.own_models import Terms
from services.inference.promoting import Clock, advance_rollouts
from services.inference.remote_engine import RemoteEngine
from services.inference.replicas import Replicas
from services.inference.router import Router
from services.inference.samples import Samples
from services.inference.settings import Settings
from services.inference.shadows import Shadows
from services.inference.store import Store
from services.inference.tally import Tally, forget_answers
from services.inference.watching_replicas import watch_replicas
from sskai.cluster import Cluster
from sskai.cluster.choosing import NoCluster, cluster_of
from sskai.database import Database
from sskai.importing import without_garbage_collection
from sskai.objects import Objects
from sskai.sandbox import GIB
from sskai.service import Service, every


def new_engine(settings: Settings) -> Engine:
    """Imported here, at the first load: torch takes seconds, and the service answers before."""
    with without_garbage_collection():
        from services.inference import embedded

    return embedded.new_engine(settings)


def cluster(settings: Settings) -> Cluster:
    """Where replicas run. Without one the kinds that live in this process are served all the same."""
    return NoCluster() if settings.cluster == "local" and not settings.cloud_url else cluster_of(settings)


def own_model_terms(settings: Settings) -> Terms:
    return Terms(
        answer_seconds=settings.own_model_answer_seconds,
        start_seconds=settings.own_model_start_seconds,
        memory_bytes=round(settings.own_model_memory_gib * GIB),
        waiting=settings.own_model_waiting,
        models=settings.own_models,
        threads=settings.threads,
        walls=settings.sandbox_walls,
    )


def build(settings: Settings) -> Service:
    database = Database(settings.database_url.get_secret_value(), "inference")
    artifacts = Artifacts(
        Objects.from_settings(settings),
        settings.models_dir,
        settings.cache / "inference",
        settings.inference_cache_bytes,
    )
    replicas = Replicas(database)
    fleet = Fleet(partial(new_engine, settings), artifacts, RemoteEngine(replicas), own_model_terms(settings))
    wake_reader, wake_loader, wake_teller = asyncio.Event(), asyncio.Event(), asyncio.Event()
    router = Router(fleet, wake_reader, wake_loader)
    samples = Samples(settings.max_waiting_samples, wake_teller)
    world = loops.World(database, fleet, router, samples, settings.idle_seconds)
    settling = every(0.5, partial(loops.settle_endpoints, world))
    tally = Tally(router.rollout_of, settings.max_waiting_answers)
    shadows = Shadows(router, fleet, tally)
    desk = Desk(
        router, fleet, samples, settings.load_wait_seconds, settings.default_output_tokens, tally=tally, shadows=shadows
    )
    clock = Clock(settings.rollout_seconds, settings.rollout_clean_up_seconds)
    promoting = every(settings.rollout_seconds, partial(advance_rollouts, database, clock))

    keeper = replicating.World(database, cluster(settings), settings, replicas)

    def wake(_event: Message, _told: list[Message]) -> None:
        wake_reader.set()
        settling.wake.set()
        promoting.wake.set()

    return Service(
        "inference",
        settings,
        HANDLERS,
        Store,
        loops=[
            settling,
            every(1, partial(loops.read_routes, world), wake=wake_reader),
            every(0.5, partial(loops.keep_loaded, world), wake=wake_loader),
            every(min(5.0, settings.idle_seconds / 4), partial(loops.sleep_idle, world)),
            promoting,
            every(settings.replica_turn_seconds, partial(replicating.keep_replicas, keeper)),
            every(settings.replica_turn_seconds, partial(watch_replicas, keeper)),
            every(0.5, partial(replicating.wake_asked, keeper, router.to_wake)),
            every(0.5, replicas.read, name="read_replicas"),
            every(1, partial(tally.flush_all, database), name="write_tally"),
            every(600, partial(forget_answers, database, settings.feedback_retention_days)),
            every(1, partial(loops.tell_samples, world), wake=wake_teller),
        ],
        api=api.build(desk, database, settings.internal_token.get_secret_value(), replicas),
        after_event=wake,
        database=database,
    )


def main() -> None:
    build(Settings()).run()
