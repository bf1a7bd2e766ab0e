"""Replicas on a real database and a small real cluster: kept, replaced before they go, scaled, metered, given back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from google.protobuf.message import Message
from sqlalchemy import select

from services.inference import replica_api
from services.inference.domain import State
from services.inference.handlers import HANDLERS
from services.inference.replica_set import Reason, ReplicaState
from services.inference.replicas import Heard, Replicas, Report
from services.inference.replicating import World, keep_replicas, wake_asked
from services.inference.settings import Settings
from services.inference.store import Store
from services.inference.tables import EndpointRow, ReplicaRow, ReplicaSetRow
from services.inference.watching_replicas import watch_replicas
from sskai.cluster import Pod, PodState, offer_of
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle
from tests.fake_cluster import FakeCluster
from tests.inference.replicating import CHEAP, OTHER, START, STEADY
from tests.inference.test_loops import deletion, requested, told

SERVICE = "inference"


class Stage:
    """The loops, a clock that is moved by hand, and replicas that speak when they are told to."""

    def __init__(self, database: Database) -> None:
        self.now = START
        self.database = database
        self.cluster = FakeCluster(clock=lambda: self.now)
        self.replicas = Replicas(database, clock=lambda: self.now)
        settings = Settings(replica_turn_seconds=0.001, inference_url="http://home:8005")
        self.world = World(database, self.cluster, settings, self.replicas, clock=lambda: self.now)
        self.quiet: set[str] = set()

    async def ask(self, **changes: Any) -> None:
        values: dict[str, Any] = {
            "kind": "spot",
            "placements": [CHEAP, OTHER, STEADY],
            "replicas": events.ReplicaCount(minimum=1, maximum=3),
        }
        await self.handle(requested(**(values | changes)))

    async def handle(self, event: Message) -> None:
        await handle(HANDLERS, self.database, Store, event, self.now)

    async def turn(self, seconds: float = 1, *, beats: bool = True) -> None:
        """Time passes, replicas say how they are, and both loops look."""
        self.now += timedelta(seconds=seconds)
        if beats:
            for row in await self.rows(ReplicaState.READY):
                if row.replica_id not in self.quiet:
                    await self.says(row, active=row.active, waiting=row.waiting)
        await watch_replicas(self.world)
        await asyncio.sleep(0.002)  # until the set is due again
        await keep_replicas(self.world)
        await self.replicas.read()

    async def rows(self, *states: ReplicaState) -> list[ReplicaRow]:
        async with self.database.transaction() as session:
            statement = select(ReplicaRow).where(ReplicaRow.state.in_(states or list(ReplicaState)))
            return list(await session.scalars(statement.order_by(ReplicaRow.number)))

    async def says(self, row: ReplicaRow, state: str = "ready", **words: Any) -> Heard:
        url = f"http://10.0.0.{row.number}:8080"
        return await self.replicas.hear(row.replica_id, row.token, Report(state, url, 7.5, **words))

    async def load(self) -> None:
        """All that were launched are ready."""
        for row in await self.rows(ReplicaState.LAUNCHING):
            assert await self.says(row) is Heard.TAKEN
        await self.turn()

    async def endpoint(self, name: str = "support") -> EndpointRow:
        async with self.database.transaction() as session:
            return (await session.scalars(select(EndpointRow).where(EndpointRow.name == name))).one()

    async def told(self, *kinds: type[Message]) -> list[Any]:
        return [one for one in await told(self.database) if not kinds or isinstance(one, kinds)]


@pytest.fixture
async def stage(database: Database) -> Stage:
    return Stage(database)


async def test_an_endpoint_is_ready_with_its_first_replica(stage: Stage) -> None:
    await stage.ask(replicas=events.ReplicaCount(minimum=2, maximum=3, on_demand=1))
    await stage.turn()
    assert {pod.placement.capacity_type for pod in stage.cluster.pods.values()} == {
        CHEAP.capacity_type,
        STEADY.capacity_type,
    }
    assert (await stage.endpoint()).state == State.LOADING
    assert stage.replicas.ready("end_support") == []
    first, second = await stage.rows(ReplicaState.LAUNCHING)
    await stage.says(first)
    await stage.turn()
    ready, scaled = await stage.told()
    assert isinstance(ready, events.EndpointReady)
    assert (scaled.replicas, scaled.previous_replicas, scaled.reason) == (1, 0, "ready")
    assert [one.url for one in stage.replicas.ready("end_support")] == ["http://10.0.0.1:8080"]
    await stage.says(second)
    await stage.turn()
    (scaled,) = await stage.told()
    assert (scaled.replicas, scaled.previous_replicas) == (2, 1)


async def test_a_pod_is_told_what_it_needs(stage: Stage) -> None:
    await stage.ask(engine="embedded")
    await stage.turn()
    (pod,), (row,) = stage.cluster.pods.values(), await stage.rows()
    assert pod.env["SSKAI_REPLICA_ID"] == row.replica_id == "end_support-1"
    assert pod.env["SSKAI_REPLICA_HOME"] == "http://home:8005"
    assert pod.env["SSKAI_REPLICA_TOKEN"] == row.token
    assert '"engine": "embedded"' in pod.env["SSKAI_REPLICA_ENDPOINT"]
    assert pod.keep_ready == 1
    assert len(row.token) >= 32


async def test_capacity_is_looked_for_offer_by_offer_and_on_demand_holds_the_floor(stage: Stage) -> None:
    stage.cluster.denied = {offer_of(CHEAP), offer_of(OTHER)}
    await stage.ask()
    for _ in range(3):
        await stage.turn()
    assert [row.reason for row in await stage.rows(ReplicaState.ENDED)] == ["no-capacity", "no-capacity"]
    (row,) = await stage.rows(ReplicaState.LAUNCHING)
    assert row.capacity == "on-demand"
    await stage.load()
    stage.cluster.denied = set()
    await stage.turn(seconds=61)
    await stage.load()
    await stage.turn()
    assert stage.cluster.drained == [row.machine_id], "spot is back, and answers"


async def test_a_notice_brings_another_one_first(stage: Stage) -> None:
    await stage.ask()
    await stage.turn()
    await stage.load()
    (first,) = await stage.rows()
    await stage.handle(events.InterruptionNoticed(machine_id=first.machine_id, action="terminate", notice_seconds=120))
    await stage.turn()
    _, second = await stage.rows()
    assert second.state == ReplicaState.LAUNCHING
    assert stage.cluster.drained == []
    assert [one.replica_id for one in stage.replicas.ready("end_support")] == [first.replica_id]
    await stage.load()
    assert stage.cluster.drained == [first.machine_id]
    assert [one.replica_id for one in stage.replicas.ready("end_support")] == [second.replica_id]
    stage.cluster.exit(first.machine_id, 0)
    await stage.turn()
    await stage.turn()
    assert stage.cluster.running() == [second.machine_id]
    assert (await stage.rows(ReplicaState.ENDED))[0].reason == Reason.INTERRUPTED


async def test_the_clusters_own_notice_and_a_loss_without_any(stage: Stage) -> None:
    await stage.ask()
    await stage.turn()
    await stage.load()
    (first,) = await stage.rows()
    stage.cluster.says(first.machine_id, terminates_at=stage.now + timedelta(seconds=120))
    await stage.turn()
    await stage.load()
    second = (await stage.rows(ReplicaState.READY))[0]
    stage.cluster.interrupt(second.machine_id)
    await stage.turn()
    assert len(await stage.rows(ReplicaState.LAUNCHING)) == 1
    assert (await stage.endpoint()).state == State.READY, "it waits for the next one"


async def test_what_the_cluster_knows_of_a_replicas_machine_is_told(stage: Stage) -> None:
    await stage.ask()
    await stage.turn()
    await stage.load()
    (first,) = await stage.rows()
    words = {"source": "kubernetes", "why": "karpenter.sh/disrupted"}
    stage.cluster.says(first.machine_id, terminates_at=stage.now + timedelta(seconds=120), **words)
    await stage.turn()
    await stage.turn()
    [noticed] = await stage.told(events.InterruptionNoticed)
    assert (noticed.machine_id, noticed.source, noticed.reason) == (first.machine_id, *words.values())
    stage.cluster.says(first.machine_id, state=PodState.GONE, ended_at=stage.now, **words)
    await stage.turn()
    [lost] = await stage.told(events.MachineLost)
    assert (lost.machine_id, lost.reason) == (first.machine_id, words["why"])


async def test_what_exits_is_started_again_with_pauses_until_it_makes_no_sense(stage: Stage) -> None:
    await stage.ask()
    launches = []
    for _ in range(400):
        await stage.turn()
        for row in await stage.rows(ReplicaState.LAUNCHING):
            launches.append(stage.now)
            stage.cluster.exit(row.machine_id, 70)
        if (await stage.endpoint()).state == State.FAILED:
            break
    pauses = [(other - one).total_seconds() for one, other in pairwise(launches)]
    assert pauses == sorted(pauses)
    assert len(launches) == 6
    (failed,) = await stage.told(events.EndpointFailed)
    assert "6 replicas in a row failed: its program ended with 70" in failed.reason
    assert failed.advice
    await stage.turn()
    assert stage.cluster.running() == []


async def test_weights_that_cannot_be_served_are_tried_once(stage: Stage) -> None:
    await stage.ask()
    await stage.turn()
    (row,) = await stage.rows()
    await stage.says(row, "failed", reason="unusable-weights", detail="shapes differ")
    await stage.turn()
    (failed,) = await stage.told(events.EndpointFailed)
    assert "unusable-weights: shapes differ" in failed.reason
    assert "safetensors" in failed.advice
    await stage.turn()
    assert stage.cluster.running() == []
    assert await stage.says(row) is Heard.ENDED


async def test_a_silent_replica_is_not_asked_and_then_replaced(stage: Stage) -> None:
    await stage.ask()
    await stage.turn()
    await stage.load()
    (row,) = await stage.rows()
    stage.replicas.report_failure(row.replica_id)
    assert stage.replicas.ready("end_support") == []
    await stage.turn()
    assert len(stage.replicas.ready("end_support")) == 1, "it has spoken since"
    stage.quiet = {row.replica_id}
    await stage.turn(seconds=11)
    assert stage.replicas.ready("end_support") == []
    assert (await stage.rows(ReplicaState.READY))[0].replica_id == row.replica_id
    await stage.turn(seconds=20)
    assert [one.reason for one in await stage.rows(ReplicaState.ENDED)] == [Reason.SILENT]
    assert len(await stage.rows(ReplicaState.LAUNCHING, ReplicaState.REQUESTED)) == 1


async def test_a_queue_brings_more_and_silence_none(stage: Stage) -> None:
    await stage.ask(replicas=events.ReplicaCount(minimum=0, maximum=3))
    await stage.turn()
    await stage.load()
    (row,) = await stage.rows()
    await stage.says(row, active=32, waiting=40)
    for _ in range(20):
        await stage.turn()
    await stage.load()
    assert len(await stage.rows(ReplicaState.READY)) == 3
    for row in await stage.rows():
        await stage.says(row)
    for _ in range(3):
        await stage.turn(seconds=301)
    for machine_id in stage.cluster.drained:
        stage.cluster.exit(machine_id, 0)
    await stage.turn()
    await stage.turn()
    assert stage.cluster.running() == []
    assert (await stage.endpoint()).replicas == 0
    await wake_asked(stage.world, lambda: ["end_support"])
    await stage.turn()
    assert len(await stage.rows(ReplicaState.LAUNCHING)) == 1


async def test_a_deleted_endpoint_leaves_nothing_behind(stage: Stage) -> None:
    await stage.ask(replicas=events.ReplicaCount(minimum=2, maximum=2))
    await stage.turn()
    first, _ = await stage.rows()
    await stage.says(first)
    await stage.turn()
    await stage.told()
    await stage.handle(deletion())
    await stage.turn()
    assert stage.cluster.drained == [first.machine_id]
    stage.cluster.exit(first.machine_id, 0)
    await stage.turn()
    assert stage.cluster.running() == []
    assert len(await stage.told(events.EndpointDeleted)) == 1
    assert (await stage.endpoint()).state == State.DELETED
    await stage.turn()
    async with stage.database.transaction() as session:
        assert (await session.scalars(select(ReplicaSetRow.due_at))).one() is None


async def test_every_second_of_a_machine_is_paid_once(stage: Stage) -> None:
    await stage.ask()
    await stage.turn()
    await stage.load()
    for _ in range(5):
        await stage.turn(seconds=25)
    (row,) = await stage.rows()
    stage.cluster.interrupt(row.machine_id)
    ended, launched = stage.now, row.launched_at
    assert launched is not None
    await stage.turn(seconds=7)
    rows = [one for one in await stage.told(events.SpendRecorded) if one.attempt == 1]
    assert [one.interval for one in rows] == list(range(1, len(rows) + 1))
    edges = [(one.started_at.ToDatetime(), one.ended_at.ToDatetime()) for one in rows]
    assert all(one[1] == other[0] for one, other in pairwise(edges))
    assert (edges[-1][1] - edges[0][0]) == ended - launched
    seconds = (ended - launched).total_seconds()
    assert sum(one.amount_nano_usd for one in rows) == pytest.approx(0.4e9 * seconds / 3600, abs=len(rows))
    assert {one.endpoint_id for one in rows} == {"end_support"}


async def test_a_crash_after_a_launch_repeats_it_and_makes_no_second_machine(stage: Stage) -> None:
    stage.cluster.launch_lies = ConnectionError("the answer was lost")
    await stage.ask()
    with pytest.raises(ConnectionError):
        await stage.turn()
    assert [row.state for row in await stage.rows()] == [ReplicaState.REQUESTED]
    await watch_replicas(stage.world)
    assert len(stage.cluster.running()) == 1, "a pod whose launch is not recorded is nobody's stray"
    stage.cluster.launch_lies = None
    async with stage.database.transaction() as session:
        row = (await session.scalars(select(ReplicaSetRow))).one()
        row.lease_until = None  # the lease of the process that died has run out
    await stage.turn()
    assert len(stage.cluster.pods) == 1
    assert [row.state for row in await stage.rows()] == [ReplicaState.LAUNCHING]


async def test_a_pod_that_nobody_knows_is_deleted_until_it_is_gone(stage: Stage) -> None:
    await stage.cluster.launch(Pod("end_other", "tenant_a", 4, CHEAP, {}))
    stage.cluster.failing_deletes = 1
    await watch_replicas(stage.world)
    assert len(stage.cluster.running()) == 1
    stage.now += timedelta(seconds=6)
    await watch_replicas(stage.world)
    assert stage.cluster.running() == []


async def test_a_cluster_that_is_away_says_nothing(stage: Stage) -> None:
    await stage.ask()
    await stage.turn()
    await stage.load()
    stage.cluster.away = True
    await stage.turn(seconds=100)
    assert [row.state for row in await stage.rows()] == [ReplicaState.READY]
    stage.cluster.away = False
    (row,) = await stage.rows()
    stage.cluster.hidden = {row.machine_id}
    await stage.turn()
    assert [row.state for row in await stage.rows()] == [ReplicaState.READY], "one list may lag"
    await stage.turn(seconds=4)
    assert stage.cluster.observations[row.machine_id].state is PodState.GONE
    assert (await stage.rows(ReplicaState.ENDED))[0].reason == Reason.INTERRUPTED


@pytest.mark.parametrize(
    ("body", "token", "status"),
    [
        ({"state": "ready", "url": "http://10.0.0.1:8080"}, None, 204),
        ({"state": "ready", "url": "http://10.0.0.1:8080", "of": "a newer replica"}, None, 204),
        ({"state": "ready", "url": "http://10.0.0.1:8080"}, "guess", 401),
        ({"state": "ready", "url": "https://elsewhere/path"}, None, 422),
        ({"state": "ready"}, None, 422),
        ({"state": "asleep"}, None, 422),
        ({"state": "ready", "url": "http://10.0.0.1:8080", "active": -1}, None, 422),
    ],
)
async def test_a_replica_proves_who_it_is(stage: Stage, body: dict[str, Any], token: str | None, status: int) -> None:
    await stage.ask()
    await stage.turn()
    (row,) = await stage.rows()
    app = FastAPI()
    app.include_router(replica_api.routes(stage.replicas))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://home") as client:
        headers = {"Authorization": f"Bearer {token or row.token}"}
        answer = await client.post(f"/internal/replicas/{row.replica_id}", json=body, headers=headers)
        assert answer.status_code == status
        unknown = await client.post("/internal/replicas/end_9-1", json={"state": "draining"}, headers=headers)
        assert unknown.status_code == 404
