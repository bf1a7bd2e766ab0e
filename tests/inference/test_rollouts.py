"""New versions on a real database: they are tried, promoted, taken back, and nothing is done twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, text

from services.inference import api, loops
from services.inference.answering import Desk
from services.inference.artifacts import Artifacts
from services.inference.handlers import HANDLERS
from services.inference.loops import World
from services.inference.promoting import Clock, advance_rollouts
from services.inference.replicas import Replicas
from services.inference.shadows import Shadows
from services.inference.store import Store
from services.inference.tables import AnswerRow, EndpointRow, RolloutRow
from services.inference.tally import Tally, forget_answers
from services.inference.traffic import Asker
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.testing import envelope, handle, wait_for
from tests.inference.artefacts import Published
from tests.inference.fake_engine import FakeEngine
from tests.inference.test_loops import deletion, new_world, requested, told

SERVICE = "inference"
RULES = {"minimum_requests": 10, "minimum_seconds": 0.0, "steps": [0.5, 1.0]}


@pytest.fixture
def world(database: Database, objects: Objects, models_dir: Path, tmp_path: Path) -> World:
    return new_world(database, FakeEngine(), Artifacts(objects, models_dir, tmp_path / "cache", 10**9))


@pytest.fixture
def tally(world: World) -> Tally:
    return Tally(world.router.rollout_of, 1_000)


def version(number: int, uri: str) -> events.ModelVersionReady:
    return events.ModelVersionReady(
        model_id="model_1",
        tenant_id="tenant_a",
        version=number,
        name="bot",
        base_model_id="tiny",
        base_uri="builtin://tiny",
        artifact_uri=uri,
        ready_at=timestamp(datetime.now(UTC)),
    )


def wish(action: str, **changes: Any) -> events.EndpointTrafficRequested:
    return events.EndpointTrafficRequested(endpoint_id="end_support", tenant_id="tenant_a", action=action, **changes)


async def serve(world: World, published: dict[str, Published], mode: str = "auto") -> None:
    """Version 1 answers, and the rules are quick ones."""
    first = requested(model_id="model_1", version=1, artifact_uri=published["cats"].uri, promotion_mode=mode)
    await handle(HANDLERS, world.database, Store, first)
    await handle(HANDLERS, world.database, Store, wish("rules", rules=RULES))
    await loops.settle_endpoints(world)
    await told(world.database)


async def turn(world: World, count: int = 1) -> list[Any]:
    """What the loops do, one after the other; what was told meanwhile."""
    facts: list[Any] = []
    for _ in range(count):
        await loops.settle_endpoints(world)
        async with asyncio.timeout(5):
            row_due = await _due(world.database)
            if row_due:
                await _one_pass(world.database)
        await loops.read_routes(world)
        facts += await told(world.database)
    return facts


async def _due(database: Database) -> bool:
    async with database.transaction() as session:
        return await session.scalar(select(RolloutRow.rollout_id).where(RolloutRow.due_at.is_not(None))) is not None


async def _one_pass(database: Database) -> None:
    """Every rollout once: afterwards it is due much later, so that the loop comes to an end."""
    async with database.transaction() as session:
        await session.execute(text("UPDATE inference.rollouts SET due_at = now() WHERE due_at IS NOT NULL"))
    await advance_rollouts(database, Clock(3600, 3600))


async def ask(world: World, tally: Tally, count: int, *, failing: int = 0) -> dict[int, int]:
    """So many requests of as many users, counted; those of the version `failing` fail. How many each version had."""
    answered: dict[int, int] = {}
    for number in range(count):
        endpoint = await world.router.find("tenant_a", "support", 1, Asker("key", f"user {number}"))
        answered[endpoint.version] = answered.get(endpoint.version, 0) + 1
        tally.add(endpoint, f"chat_{number}", 0.1, answered=endpoint.version != failing, shadow=False)
    await tally.flush_all(world.database)
    return answered


async def stage(database: Database) -> str:
    async with database.transaction() as session:
        rows = list(await session.scalars(select(RolloutRow).order_by(RolloutRow.started_at.desc())))
    return rows[0].stage if rows else ""


async def test_a_good_version_gets_the_name_step_by_step(
    world: World, tally: Tally, published: dict[str, Published]
) -> None:
    await serve(world, published)
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    (started,) = await turn(world)
    assert (started.version, started.traffic_fraction) == (2, 0.5)
    counts = await ask(world, tally, 60)
    assert min(counts[1], counts[2]) > 15
    (second,) = await turn(world)
    assert isinstance(second, events.CanaryStarted)
    assert second.traffic_fraction == 1.0
    assert set(await ask(world, tally, 30)) == {2}
    (promoted,) = await turn(world)
    assert isinstance(promoted, events.ModelPromoted)
    assert (promoted.version, promoted.previous_version, promoted.alias) == (2, 1, "champion")
    assert promoted.endpoint_id == "end_support"
    # The name answers without a pause, and the canary gives way.
    found = await world.router.find("tenant_a", "support", 0.01)
    assert (found.endpoint_id, found.version, found.artifact_uri) == ("end_support", 2, published["dogs"].uri)
    assert await turn(world, 3) == []
    assert world.fleet.endpoint_ids == {"end_support"}
    engine = world.fleet.engine
    assert isinstance(engine, FakeEngine)
    assert engine.loaded == {("builtin://tiny", ""), ("builtin://tiny", published["dogs"].uri)}
    assert await world.router.find("tenant_a", "support", 0.01) == found


async def test_a_version_that_fails_is_taken_back_and_nobody_is_asked(
    world: World, tally: Tally, published: dict[str, Published]
) -> None:
    await serve(world, published)
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    await turn(world)
    await ask(world, tally, 60, failing=2)
    (back,) = await turn(world)
    assert isinstance(back, events.ModelRolledBack)
    assert (back.version, back.to_version) == (2, 1)
    assert back.reason.startswith("errors")
    assert set(await ask(world, tally, 30)) == {1}
    await turn(world, 3)
    assert world.fleet.endpoint_ids == {"end_support"}
    # It had its chance: the same version told again is not tried again.
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    assert await turn(world, 2) == []


async def test_a_version_that_cannot_be_loaded_is_taken_back(world: World, published: dict[str, Published]) -> None:
    await serve(world, published)
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri + "-gone"))
    (back,) = await turn(world)
    assert isinstance(back, events.ModelRolledBack)
    assert back.reason.startswith("the new version cannot be served")
    assert (await world.router.find("tenant_a", "support", 0.01)).version == 1


async def test_what_waits_for_approval_is_promoted_by_a_word(
    world: World, tally: Tally, published: dict[str, Published]
) -> None:
    await serve(world, published, mode="approve")
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    await turn(world)
    await ask(world, tally, 60)
    await turn(world)
    await ask(world, tally, 30)
    assert await turn(world, 2) == []
    assert await stage(world.database) == "approval"
    await handle(HANDLERS, world.database, Store, wish("promote"))
    (promoted,) = await turn(world)
    assert isinstance(promoted, events.ModelPromoted)
    # And back again, by another word: the version before is loaded first.
    await turn(world, 2)
    await handle(HANDLERS, world.database, Store, wish("roll-back"))
    assert (await world.router.find("tenant_a", "support", 0.01)).version == 2
    (again,) = await turn(world, 2)
    assert (again.version, again.previous_version) == (1, 2)
    assert (await world.router.find("tenant_a", "support", 0.01)).version == 1


async def test_a_suggestion_gets_no_traffic(world: World, tally: Tally, published: dict[str, Published]) -> None:
    await serve(world, published, mode="suggest")
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    assert await turn(world, 2) == []
    assert await stage(world.database) == "suggested"
    assert set(await ask(world, tally, 30)) == {1}


async def test_an_endpoint_that_follows_nothing_tries_nothing(world: World, published: dict[str, Published]) -> None:
    await serve(world, published, mode="")
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    assert await stage(world.database) == ""


async def test_a_newer_version_takes_the_place_of_the_one_that_is_tried(
    world: World, published: dict[str, Published]
) -> None:
    await serve(world, published)
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    await turn(world)
    (back,) = await handle(HANDLERS, world.database, Store, version(3, published["dogs"].uri))
    assert (back.version, back.reason) == (2, "version 3 took its place")
    await told(world.database)
    facts = await turn(world, 2)
    assert [one.version for one in facts if isinstance(one, events.CanaryStarted)] == [3]
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))  # late
    assert await turn(world, 2) == []


@pytest.mark.parametrize("before", [True, False])
async def test_a_bad_evaluation_ends_it_whenever_it_comes(
    world: World,
    published: dict[str, Published],
    before: bool,
) -> None:
    evaluated = events.ModelEvaluated(
        model_id="model_1",
        tenant_id="tenant_a",
        version=2,
        metric="eval_loss",
        value=3.0,
        champion_value=2.0,
        sample_size=400,
        difference_standard_error=0.05,
        evaluated_at=timestamp(datetime.now(UTC)),
    )
    ready = version(2, published["dogs"].uri)
    await serve(world, published)
    for event in (evaluated, ready) if before else (ready, evaluated):
        await handle(HANDLERS, world.database, Store, event)
    (back,) = await turn(world)
    assert isinstance(back, events.ModelRolledBack)
    assert back.reason.startswith("evaluation: eval_loss 3")


@pytest.mark.parametrize(("against", "after"), [(1, "rolled-back"), (0, "canary"), (7, "canary")])
async def test_only_a_comparison_with_the_champion_itself_gates(
    world: World, published: dict[str, Published], against: int, after: str
) -> None:
    await serve(world, published)
    worse = events.ModelEvaluated(
        model_id="model_1",
        tenant_id="tenant_a",
        version=2,
        metric="row_loss",
        value=3.0,
        champion_value=1.0,
        sample_size=20,
        difference_standard_error=0.1,
        champion_version=against,
        evaluated_at=timestamp(datetime.now(UTC)),
    )
    for event in (worse, version(2, published["dogs"].uri)):
        await handle(HANDLERS, world.database, Store, event)
    await turn(world)
    assert await stage(world.database) == after


async def test_a_deleted_endpoint_ends_its_rollout(world: World, published: dict[str, Published]) -> None:
    await serve(world, published)
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    await turn(world)
    await handle(HANDLERS, world.database, Store, deletion())
    facts = await turn(world, 4)
    assert [type(one) for one in facts] == [events.EndpointDeleted, events.ModelRolledBack]
    assert world.fleet.endpoint_ids == frozenset()


async def test_a_loop_that_lost_its_claim_changes_nothing(world: World, published: dict[str, Published]) -> None:
    """Somebody's word takes the row from the loop: its result is dropped."""
    await serve(world, published)
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    await loops.settle_endpoints(world)
    await handle(HANDLERS, world.database, Store, wish("roll-back"))
    facts = await turn(world, 3)
    assert [type(one) for one in facts] == [events.ModelRolledBack]
    assert await stage(world.database) == "rolled-back"


async def test_a_canary_by_hand_and_the_same_word_twice(
    world: World, tally: Tally, published: dict[str, Published]
) -> None:
    await serve(world, published, mode="")
    artefact = {
        "model_id": "model_1",
        "base_model_id": "tiny",
        "base_uri": "builtin://tiny",
        "artifact_uri": published["dogs"].uri,
    }
    event = envelope(wish("canary", version=7, rules={"mode": "auto", "steps": [0.25, 1.0]}, **artefact))
    await handle(HANDLERS, world.database, Store, event)
    await handle(HANDLERS, world.database, Store, event)
    (started,) = await turn(world)
    assert (started.version, started.traffic_fraction) == (7, 0.25)
    # The version that answers already is no canary.
    await handle(HANDLERS, world.database, Store, wish("canary", version=1, **artefact))
    assert await turn(world, 2) == []


async def test_feedback_finds_its_version_and_decides(
    world: World, tally: Tally, published: dict[str, Published]
) -> None:
    await serve(world, published)
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    await turn(world)
    shadows = Shadows(world.router, world.fleet, tally)
    desk = Desk(world.router, world.fleet, world.samples, 1.0, 8, tally=tally, shadows=shadows)
    headers = {"X-SSKAI-Internal": "secret", "X-SSKAI-Tenant": "tenant_a", "X-SSKAI-Key": "key_1"}
    transport = httpx2.ASGITransport(api.build(desk, world.database, "secret", Replicas(world.database)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://inference", headers=headers) as client:
        for number in range(120):
            body = {"model": "support", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
            answer = await client.post("/v1/chat/completions", json=body, headers={"X-SSKAI-Session": f"u{number}"})
            assert answer.status_code == 200
            second = (await world.router.find("tenant_a", "support", 1, Asker("key_1", f"u{number}"))).version == 2
            form = {"id": answer.json()["id"], "label": "down" if second else "up"}
            said = await client.post("/v1/feedback", json=form)
            assert (said.status_code, said.json()["version"]) == (200, 2 if second else 1)
        again = await client.post("/v1/feedback", json={**form, "score": 0.5})  # a second thought, counted once
        assert again.json()["score"] == 0.5
        shown = (await client.get("/v1/endpoints/end_support/traffic")).json()
        assert [one["fraction"] for one in shown["split"]] == [0.5, 0.5]
        assert sum(one["feedback"] for one in shown["versions"]) == 120
        assert shown["rollout"]["stage"] == "canary"
        for wrong, status in (({"id": "nobody", "score": 1}, 404), ({"id": "x"}, 400), ({"id": "x", "score": 2}, 400)):
            assert (await client.post("/v1/feedback", json=wrong)).status_code == status
        other = {"X-SSKAI-Tenant": "tenant_b"}
        assert (await client.post("/v1/feedback", json=form, headers=other)).status_code == 404
        assert (await client.get("/v1/endpoints/end_support/traffic", headers=other)).status_code == 404
        facts = await turn(world)
        given = [fact for fact in facts if isinstance(fact, events.FeedbackGiven)]
        assert len(given) == 121
        assert all(one.label == ("down" if one.version == 2 else "up") and one.model_id == "model_1" for one in given)
        assert [given[-1].inference_id, given[-1].score] == [form["id"], 0.5]
        (back,) = (fact for fact in facts if not isinstance(fact, events.FeedbackGiven))
        assert back.reason.startswith("quality")
        shown = (await client.get("/v1/endpoints/end_support/traffic")).json()
        assert shown["history"][0]["stage"] == "rolled-back"
        assert [one["fraction"] for one in shown["split"]] == [1.0]
    await forget_answers(world.database, retention_days=-1)
    async with world.database.transaction() as session:
        assert (await session.scalars(select(AnswerRow))).all() == []


async def test_a_shadow_answers_for_nobody_and_is_counted_apart(
    world: World, tally: Tally, published: dict[str, Published]
) -> None:
    await serve(world, published, mode="suggest")
    await handle(HANDLERS, world.database, Store, wish("rules", rules={"shadow_fraction": 1.0}))
    await handle(HANDLERS, world.database, Store, version(2, published["dogs"].uri))
    await turn(world)
    shadows = Shadows(world.router, world.fleet, tally)
    desk = Desk(world.router, world.fleet, world.samples, 1.0, 8, tally=tally, shadows=shadows)
    headers = {"X-SSKAI-Internal": "secret", "X-SSKAI-Tenant": "tenant_a"}
    transport = httpx2.ASGITransport(api.build(desk, world.database, "secret", Replicas(world.database)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://inference", headers=headers) as client:
        for _ in range(5):
            body = {"model": "support", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        shown = (await client.get("/v1/endpoints/end_support/traffic")).json()
    counted = {(one["version"], one["shadow"]): one["requests"] for one in shown["versions"]}
    assert counted == {(1, False): 5, (2, True): 5}


async def test_who_asks_for_what_is_being_written_waits_for_it(
    world: World, tally: Tally, published: dict[str, Published]
) -> None:
    """A user's word on an answer may come while the loop is writing whose it was."""
    await serve(world, published)
    endpoint = await world.router.find("tenant_a", "support", 1)
    tally.add(endpoint, "chat_1", 0.1, answered=True, shadow=False)
    async with world.database.transaction() as session:
        await session.execute(text("LOCK TABLE inference.answers IN EXCLUSIVE MODE"))
        loop = asyncio.create_task(tally.flush_all(world.database))
        await wait_for(lambda: not tally._answers)
        asked = asyncio.create_task(tally.flush_all(world.database))
        for _ in range(3):
            await asyncio.sleep(0)  # it has had every chance to return
        assert not asked.done()
    await asked
    async with world.database.transaction() as session:
        assert await session.get(AnswerRow, "chat_1") is not None
    await loop


async def test_counts_are_written_once_also_when_the_database_was_away(
    world: World, tally: Tally, published: dict[str, Published], postgres: str
) -> None:
    await serve(world, published)
    endpoint = await world.router.find("tenant_a", "support", 1)
    tally.add(endpoint, "chat_1", 0.1, answered=True, shadow=False)
    away = Database("postgresql+psycopg://nobody@127.0.0.1:9/nothing", "inference")
    with pytest.raises(Exception, match="onnect"):
        await tally.flush_all(away)
    tally.add(endpoint, "chat_2", 0.1, answered=False, shadow=False)
    for _ in range(2):
        await tally.flush_all(world.database)
    async with world.database.transaction() as session:
        counted = (await session.execute(text("SELECT bucket < 0, requests FROM inference.figures"))).all()
        assert sorted(map(tuple, counted)) == [(False, 1), (True, 1)]
        assert (await session.get(EndpointRow, "end_support")) is not None
        assert [one.inference_id for one in await session.scalars(select(AnswerRow))] == ["chat_1"]
