"""Handlers and loops on a real database: what was asked for becomes real, also after a crash in between."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry import context as otel_context
from sqlalchemy import select, text, update

from services.inference import loops
from services.inference.artifacts import Artifacts
from services.inference.domain import State
from services.inference.engine import Engine
from services.inference.fleet import Fleet
from services.inference.handlers import HANDLERS
from services.inference.loops import World
from services.inference.router import FailedEndpointError, Router, StillLoadingError, UnknownEndpointError
from services.inference.samples import DROPPED, Samples
from services.inference.store import Store
from services.inference.tables import EndpointRow
from sskai import contract
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.failpoints import Action
from sskai.objects import Objects, ObjectsUnavailableError
from sskai.testing import envelope, handle, wait_for
from tests.inference.artefacts import Published
from tests.inference.fake_engine import FakeEngine
from tests.reliability.matrix import Crash
from tests.reliability.strikes import ENDS, SAYS_NO, each, struck

SERVICE = "inference"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


class SometimesAway(Objects):
    """The real object store, or an outage."""

    def __init__(self, objects: Objects) -> None:
        self.__dict__.update(objects.__dict__)
        self.away = False

    def get_bytes(self, key: str) -> bytes:
        if self.away:
            raise ObjectsUnavailableError("away")
        return super().get_bytes(key)


@pytest.fixture
def store_of_objects(objects: Objects) -> SometimesAway:
    return SometimesAway(objects)


@pytest.fixture
def world(
    database: Database, engine: FakeEngine, store_of_objects: SometimesAway, models_dir: Path, tmp_path: Path
) -> World:
    return new_world(database, engine, Artifacts(store_of_objects, models_dir, tmp_path / "cache", 10**9))


def new_world(database: Database, engine: Engine, artifacts: Artifacts, idle_seconds: float = 300) -> World:
    fleet = Fleet(lambda: engine, artifacts)
    router = Router(fleet, asyncio.Event(), asyncio.Event())
    return World(database, fleet, router, Samples(3, asyncio.Event()), idle_seconds)


def requested(name: str = "support", **changes: Any) -> events.EndpointRequested:
    values = {
        "endpoint_id": f"end_{name}",
        "tenant_id": "tenant_a",
        "name": name,
        "kind": "adapter",
        "model_id": "tiny",
        "base_model_id": "tiny",
        "base_uri": "builtin://tiny",
    }
    return events.EndpointRequested(**{**values, **changes})


def deletion(name: str = "support") -> events.EndpointDeletionRequested:
    return events.EndpointDeletionRequested(endpoint_id=f"end_{name}", tenant_id="tenant_a")


async def told(database: Database) -> list[Message]:
    """What waits in the outbox, taken out."""
    async with database.transaction() as session:
        rows = (await session.execute(text("DELETE FROM inference.outbox RETURNING id, type, value"))).all()
    return [contract.MESSAGES[row.type].FromString(row.value) for row in sorted(rows)]


async def row(database: Database, name: str = "support") -> EndpointRow:
    async with database.transaction() as session:
        return (await session.scalars(select(EndpointRow).where(EndpointRow.name == name))).one()


async def find(world: World, name: str = "support", limit_seconds: float = 0.05) -> str:
    return (await world.router.find("tenant_a", name, limit_seconds)).endpoint_id


async def test_a_requested_endpoint_becomes_ready_and_tells_it(
    world: World, database: Database, engine: FakeEngine, published: dict[str, Published]
) -> None:
    event = requested(model_id="model_1", version=2, artifact_uri=published["cats"].uri)
    assert await handle(HANDLERS, database, Store, event, datetime.now(UTC) - timedelta(seconds=2)) == []
    await loops.settle_endpoints(world)
    (ready,) = await told(database)
    assert isinstance(ready, events.EndpointReady)
    assert (ready.endpoint_id, ready.name, ready.model_id, ready.version) == ("end_support", "support", "model_1", 2)
    assert 2 <= ready.load_seconds < 10
    assert engine.loaded == {("builtin://tiny", ""), ("builtin://tiny", published["cats"].uri)}
    assert await find(world) == "end_support"


async def test_the_same_request_again_changes_nothing(world: World, database: Database) -> None:
    event = envelope(requested())
    await handle(HANDLERS, database, Store, event)
    await loops.settle_endpoints(world)
    await told(database)
    await handle(HANDLERS, database, Store, event)
    await handle(HANDLERS, database, Store, requested())  # told anew, with another event id
    await loops.settle_endpoints(world)
    assert await told(database) == []
    assert (await row(database)).state == State.READY


async def test_deletion_gives_the_memory_back_and_tells_it(
    world: World, database: Database, engine: FakeEngine, published: dict[str, Published]
) -> None:
    await handle(HANDLERS, database, Store, requested("base"))
    await handle(HANDLERS, database, Store, requested("cats", artifact_uri=published["cats"].uri))
    await loops.settle_endpoints(world)
    await told(database)
    await handle(HANDLERS, database, Store, deletion("cats"))
    await loops.settle_endpoints(world)
    assert [type(one) for one in await told(database)] == [events.EndpointDeleted]
    assert engine.loaded == {("builtin://tiny", "")}
    with pytest.raises(UnknownEndpointError):
        await asyncio.gather(find(world, "cats", 5), read_twice(world))
    await handle(HANDLERS, database, Store, deletion("base"))
    await handle(HANDLERS, database, Store, deletion("base"))
    await loops.settle_endpoints(world)
    assert engine.loaded == set()
    assert len(await told(database)) == 1


async def read_twice(world: World) -> None:
    await asyncio.sleep(0)
    await loops.read_routes(world)
    await loops.read_routes(world)


async def test_a_stranger_cannot_delete_it(world: World, database: Database) -> None:
    await handle(HANDLERS, database, Store, requested())
    await handle(
        HANDLERS, database, Store, events.EndpointDeletionRequested(endpoint_id="end_support", tenant_id="tenant_b")
    )
    assert (await row(database)).state == State.REQUESTED


async def test_an_endpoint_that_is_deleted_while_it_loads_does_not_come_back(
    world: World, database: Database, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await handle(HANDLERS, database, Store, requested())
    load = world.fleet.load

    async def load_slowly(*arguments: Any) -> None:
        await load(*arguments)
        await handle(HANDLERS, database, Store, deletion())

    monkeypatch.setattr(world.fleet, "load", load_slowly)
    await loops.settle_endpoints(world)
    assert [type(one) for one in await told(database)] == [events.EndpointDeleted]
    assert engine.loaded == set()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_uri": "builtin://absent"}, "not-found"),
        ({"artifact_uri": "s3://sskai/nowhere"}, "not-found"),
        ({"kind": "dedicated"}, "unsupported-kind"),
    ],
)
async def test_what_cannot_be_loaded_fails_with_advice(
    world: World, database: Database, changes: dict[str, Any], reason: str
) -> None:
    await handle(HANDLERS, database, Store, requested(**changes))
    await loops.settle_endpoints(world)
    (failed,) = await told(database)
    assert isinstance(failed, events.EndpointFailed)
    assert failed.reason.startswith(reason)
    assert failed.advice
    with pytest.raises(FailedEndpointError, match=reason):
        await find(world)


async def test_weights_that_the_engine_refuses_fail(world: World, database: Database, engine: FakeEngine) -> None:
    engine.refuses.add("builtin://tiny")
    await handle(HANDLERS, database, Store, requested())
    await loops.settle_endpoints(world)
    (failed,) = await told(database)
    assert "not for me" in failed.reason  # type: ignore[attr-defined]


async def test_the_manifest_must_be_the_published_versions(
    world: World, database: Database, published: dict[str, Published]
) -> None:
    cats, dogs = published["cats"], published["dogs"]
    for version, sha256 in ((1, cats.manifest_sha256), (2, dogs.manifest_sha256)):
        ready = events.ModelVersionReady(
            model_id="model_1",
            tenant_id="tenant_a",
            version=version,
            artifact_uri=cats.uri,
            manifest_sha256=sha256,
            ready_at=timestamp(NOW),
        )
        await handle(HANDLERS, database, Store, ready)
        event = requested(f"v{version}", model_id="model_1", version=version, artifact_uri=cats.uri)
        await handle(HANDLERS, database, Store, event)
    await loops.settle_endpoints(world)
    assert [type(one) for one in await told(database)] == [events.EndpointReady, events.EndpointFailed]


async def test_an_outage_of_the_object_store_is_waited_out(
    world: World, database: Database, store_of_objects: SometimesAway, published: dict[str, Published]
) -> None:
    store_of_objects.away = True
    await handle(HANDLERS, database, Store, requested(artifact_uri=published["cats"].uri))
    await loops.settle_endpoints(world)
    assert await told(database) == []
    with pytest.raises(StillLoadingError):
        await find(world)
    store_of_objects.away = False
    async with database.transaction() as session:
        await session.execute(update(EndpointRow).values(due_at=text("now()")))
    await loops.settle_endpoints(world)
    assert [type(one) for one in await told(database)] == [events.EndpointReady]


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS, Action.SKIP))
async def test_weights_that_do_not_come_are_waited_for(
    world: World, database: Database, published: dict[str, Published], tmp_path: Path, action: Action
) -> None:
    """The endpoint neither fails nor is ready with a part of them."""
    await handle(HANDLERS, database, Store, requested(artifact_uri=published["cats"].uri))
    with struck("objects.download", action), suppress(Crash):
        await loops.settle_endpoints(world)
    assert await told(database) == []
    assert (await row(database)).state == State.LOADING
    assert [
        path for path in (tmp_path / "cache").iterdir() if path.is_file() or not path.name.startswith("part-")
    ] == []
    async with database.transaction() as session:
        await session.execute(update(EndpointRow).values(due_at=text("now()"), lease_until=None))
    await loops.settle_endpoints(world)
    assert [type(one) for one in await told(database)] == [events.EndpointReady]


async def test_after_a_restart_everything_that_was_ready_is_loaded_again_and_requests_wait(
    world: World, database: Database, models_dir: Path, objects: Objects, tmp_path: Path
) -> None:
    await handle(HANDLERS, database, Store, requested())
    await loops.settle_endpoints(world)
    await told(database)
    again = new_world(database, FakeEngine(), Artifacts(objects, models_dir, tmp_path / "other", 10**9))
    waiting = asyncio.create_task(find(again, limit_seconds=10))
    await loops.read_routes(again)
    await loops.keep_loaded(again)
    assert await waiting == "end_support"
    assert await told(database) == [], "it was ready all the time"


async def test_a_load_that_was_cut_off_by_a_kill_is_taken_up_again(world: World, database: Database) -> None:
    await handle(HANDLERS, database, Store, requested())
    async with database.transaction() as session:
        await session.execute(
            update(EndpointRow).values(
                state=State.LOADING, tries=1, lease_token="of the dead", lease_until=text("now() - interval '1 s'")
            )
        )
    await loops.settle_endpoints(world)
    assert [type(one) for one in await told(database)] == [events.EndpointReady]


async def test_a_ready_endpoint_whose_weights_are_gone_fails(
    world: World, database: Database, models_dir: Path, objects: Objects, tmp_path: Path
) -> None:
    await handle(HANDLERS, database, Store, requested())
    await loops.settle_endpoints(world)
    await told(database)
    elsewhere = Artifacts(objects, tmp_path / "no-models", tmp_path / "other", 10**9)
    again = new_world(database, FakeEngine(), elsewhere)
    await loops.read_routes(again)
    await loops.keep_loaded(again)
    assert [type(one) for one in await told(database)] == [events.EndpointFailed]
    await loops.read_routes(again)
    with pytest.raises(FailedEndpointError, match="not-found"):
        await find(again)


async def test_a_serverless_endpoint_sleeps_when_idle_and_wakes_for_a_request(
    database: Database, engine: FakeEngine, objects: Objects, models_dir: Path, tmp_path: Path
) -> None:
    world = new_world(database, engine, Artifacts(objects, models_dir, tmp_path / "cache", 10**9), idle_seconds=0)
    await handle(HANDLERS, database, Store, requested(kind="serverless"))
    await loops.settle_endpoints(world)
    assert [type(one) for one in await told(database)] == [events.EndpointReady]
    await loops.sleep_idle(world)
    (down,) = await told(database)
    assert isinstance(down, events.EndpointScaled)
    assert (down.replicas, down.previous_replicas, down.reason) == (0, 1, "idle")
    assert down.cold_start_seconds == 0
    assert engine.loaded == set()
    await loops.keep_loaded(world)
    assert engine.loaded == set(), "nobody has asked"

    waiting = asyncio.create_task(find(world, limit_seconds=10))
    await wait_for(world.router.to_load)
    await loops.keep_loaded(world)
    assert await waiting == "end_support"
    (up,) = await told(database)
    assert isinstance(up, events.EndpointScaled)
    assert (up.replicas, up.previous_replicas, up.reason) == (1, 0, "request")
    assert 0 < up.cold_start_seconds < 10


async def test_an_ordinary_endpoint_never_sleeps(world: World, database: Database) -> None:
    await handle(HANDLERS, database, Store, requested())
    await loops.settle_endpoints(world)
    assert world.fleet.idle(0) == []


def sample(number: int) -> events.InferenceSampled:
    return events.InferenceSampled(endpoint_id="end_1", tenant_id="tenant_a", inference_id=f"inf_{number}")


async def test_samples_are_told_in_order_and_too_many_are_dropped_and_counted(world: World, database: Database) -> None:
    dropped_before = DROPPED._value.get()
    for number in range(5):
        world.samples.add(sample(number), otel_context.get_current())
    await loops.tell_samples(world)
    assert [one.inference_id for one in await told(database)] == ["inf_0", "inf_1", "inf_2"]  # type: ignore[attr-defined]
    assert DROPPED._value.get() - dropped_before == 2


async def test_samples_wait_while_the_database_is_away(world: World, database: Database) -> None:
    world.samples.add(sample(1), otel_context.get_current())
    elsewhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none", "inference")
    with pytest.raises(Exception, match=r"refused|failed"):
        await world.samples.tell(elsewhere)
    await elsewhere.close()
    assert await world.samples.tell(database) == 1


async def test_what_becomes_of_an_endpoint_is_told_in_the_trace_of_its_request(
    world: World, database: Database
) -> None:
    asked = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await handle(HANDLERS, database, Store, envelope(requested(), traceparent=asked))
    await loops.settle_endpoints(world)
    async with database.transaction() as session:
        told_in = (await session.scalars(text("SELECT traceparent FROM inference.outbox"))).all()
    assert [traceparent.split("-")[1] for traceparent in told_in] == [asked.split("-")[1]]
