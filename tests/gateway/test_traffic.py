"""What traffic becomes: kept once in any order, cut into a version once whatever crashes, and nobody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import select, text, update

from services.gateway.cutting import Cut, Cutter, Order
from services.gateway.loops import forget
from services.gateway.retrains import MAX_TRIES, cut_for_retrains
from services.gateway.store import Store
from services.gateway.tables import CutRow, TrafficRow
from services.gateway.trafficrows import Exchange
from sskai import contract
from sskai.contract import timestamp
from sskai.events import v1 as events
from sskai.objects import NotFoundError, ObjectsUnavailableError
from tests.gateway.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHAT = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]} for n in range(30)
]


@dataclass
class Scene:
    """Ann's endpoint of a model that one job trained on `support`."""

    house: House
    parent: events.JobSubmitted
    endpoint_id: str
    asked_at: datetime
    retrain_id: str = field(default_factory=lambda: contract.new_id("retrain"))

    @property
    def tenant_id(self) -> str:
        return self.parent.tenant_id

    @property
    def cutter(self) -> Cutter:
        world = self.house.world
        return Cutter(world.database, world.objects, world.settings)

    def sample(self, number: int, **changes: Any) -> events.InferenceSampled:
        given = {
            "endpoint_id": self.endpoint_id,
            "tenant_id": self.tenant_id,
            "inference_id": f"chatcmpl-{number}",
            "input_text": f"question {number}",
            "output_text": f"answer {number}",
            "finish_reason": "stop",
            "at": timestamp(self.asked_at + timedelta(seconds=number)),
        }
        return events.InferenceSampled(**(given | changes))

    def feedback(self, number: int, after_seconds: int = 60, **said: Any) -> events.FeedbackGiven:
        given = {
            "endpoint_id": self.endpoint_id,
            "tenant_id": self.tenant_id,
            "inference_id": f"chatcmpl-{number}",
            "given_at": timestamp(self.asked_at + timedelta(seconds=number + after_seconds)),
        }
        return events.FeedbackGiven(**(given | said))

    def request(self, **changes: Any) -> events.RetrainRequested:
        given = {
            "endpoint_id": self.endpoint_id,
            "tenant_id": self.tenant_id,
            "retrain_id": self.retrain_id,
            "model_id": "model_1",
            "version": 1,
            "parent_job_id": self.parent.job_id,
            "data": "traffic",
            "requested_at": timestamp(self.house.world.now()),
        }
        return events.RetrainRequested(**(given | changes))

    async def tell(self, *facts: Any) -> None:
        await self.house.bus.publish(*facts)
        await self.house.bus.settle()

    async def exchanges(self) -> list[Exchange]:
        async with self.house.world.database.transaction() as session:
            found = await Store(session).traffic.exchanges(
                self.tenant_id, self.endpoint_id, since=None, until=self.house.world.now(), inputs=True, limit=100
            )
        return sorted(found, key=lambda each: each.at)

    async def judged(self, corrections: int, liked: int, unjudged: int = 5) -> None:
        """So many of each, one after the other."""
        await self.tell(*(self.sample(number) for number in range(corrections + liked + unjudged)))
        await self.tell(*(self.feedback(number, correction=f"better {number}") for number in range(corrections)))
        await self.tell(*(self.feedback(number, score=0.9) for number in range(corrections, corrections + liked)))

    async def retrained(self) -> Any:
        """The job that the retrain became."""
        _, *children = await self.house.told(events.JobSubmitted)
        (child,) = children
        return child.spec

    async def rows(self, version: int) -> list[Any]:
        dataset = (await self.house.ann.get(f"/v1/datasets/support@{version}")).json()
        uri = f"tenants/{self.tenant_id}/datasets/support/{dataset['sha256']}.jsonl"
        lines = (await asyncio.to_thread(self.house.world.objects.get_bytes, uri)).splitlines()
        return [json.loads(line) for line in lines]


async def scene_of(house: House, rows: list[Any] | None = None) -> Scene:
    await house.dataset(house.ann, rows=rows or CHAT)
    job = {"name": "bot", "model": {"base": "tiny-llama"}, "dataset": {"uri": "support"}}
    assert (await house.ann.post("/v1/jobs", json=job)).status_code == 202
    endpoint = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "tiny-llama"})
    (parent,) = await house.told(events.JobSubmitted)
    return Scene(house, parent, endpoint.json()["id"], house.world.now() - timedelta(hours=1))


async def test_requests_and_words_join_in_any_order_and_the_newest_word_counts(house: House) -> None:
    scene = await scene_of(house)
    facts = (
        scene.sample(0),
        scene.feedback(0, score=1.0),
        scene.feedback(0, after_seconds=120, score=0.0, correction="better"),
    )
    for round_, order in enumerate(permutations(facts)):
        for fact in order:
            fact.inference_id = f"chatcmpl-{round_}"
        await scene.tell(*order, *order)
    found = await scene.exchanges()
    assert len(found) == 6
    assert {(each.input_text, each.output_text, each.score, each.correction) for each in found} == {
        ("question 0", "answer 0", 0.0, "better")
    }


async def test_what_is_not_of_the_tenants_own_endpoint_is_not_kept(house: House) -> None:
    scene = await scene_of(house)
    await scene.tell(
        scene.sample(0, tenant_id="tenant_other"),
        scene.sample(1, endpoint_id="endpoint_nobodys"),
        scene.sample(2, inference_id=""),
        scene.sample(3, input_text="a\x00b" + "x" * 9_000),
    )
    (kept,) = await scene.exchanges()
    assert (kept.input_text[:3], len(kept.input_text)) == ("a\ufffdb", 2_000)
    async with house.world.database.transaction() as session:
        logged = await Store(session).event_log.after(scene.tenant_id, 0, [], None, 100)
    assert not [row for row in logged if "question" in str(row.event)], "users' words are not in the log"


async def test_an_endpoint_takes_its_traffic_along(house: House) -> None:
    scene = await scene_of(house)
    await scene.tell(scene.sample(0))
    gone = events.EndpointDeleted(
        endpoint_id=scene.endpoint_id, tenant_id=scene.tenant_id, deleted_at=timestamp(house.world.now())
    )
    await scene.tell(gone, scene.sample(1))
    assert await scene.exchanges() == []


async def test_traffic_is_bounded_in_number_and_age_and_words_alone_go_soon(house: House) -> None:
    scene = await scene_of(house)
    house.world.settings.traffic_rows_per_endpoint = 3
    for number in range(5):
        await scene.tell(scene.sample(number))
    await scene.tell(scene.feedback(77, correction="of a request that was not told"))
    await _age(scene, timedelta(days=2), TrafficRow.inference_id == "chatcmpl-77")
    await forget(house.world.database, house.world.settings)
    assert [each.input_text for each in await scene.exchanges()] == ["question 2", "question 3", "question 4"]
    assert await _count(scene) == 3
    await _age(scene, timedelta(days=31), TrafficRow.inference_id == "chatcmpl-2")
    await forget(house.world.database, house.world.settings)
    assert await _count(scene) == 2


async def _age(scene: Scene, by: timedelta, which: Any) -> None:
    async with scene.house.world.database.transaction() as session:
        mine = TrafficRow.endpoint_id == scene.endpoint_id
        await session.execute(update(TrafficRow).where(mine, which).values(kept_at=TrafficRow.kept_at - by))


async def _count(scene: Scene) -> int:
    async with scene.house.world.database.transaction() as session:
        rows = await session.scalars(select(TrafficRow).where(TrafficRow.endpoint_id == scene.endpoint_id))
        return len(rows.all())


async def test_a_retrain_on_traffic_cuts_a_version_and_becomes_one_job(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=12, liked=10)
    request = scene.request()
    await scene.tell(request, request)
    assert len(await house.told(events.JobSubmitted)) == 1, "nothing is submitted before there is a dataset"
    await cut_for_retrains(scene.cutter)
    await scene.tell(request)
    await cut_for_retrains(scene.cutter)
    spec = await scene.retrained()
    assert (spec.dataset.name, spec.dataset.version, spec.dataset.rows) == ("support", 2, 52)
    assert (spec.retrain_of.data, spec.retrain_of.retrain_id) == ("traffic", scene.retrain_id)
    _, validated = await house.told(events.DatasetValidated)
    lineage = validated.lineage
    assert (lineage.parent_version, lineage.corrections, lineage.liked, lineage.inputs) == (1, 12, 10, 0)
    assert (lineage.endpoint_id, lineage.retrain_id) == (scene.endpoint_id, scene.retrain_id)
    shown = (await house.ann.get("/v1/datasets/support@2")).json()
    assert (shown["lineage"]["corrections"], shown["lineage"]["since"]) == (12, None)
    assert (await house.ann.get("/v1/datasets/support@1")).json()["lineage"] is None
    rows = await scene.rows(2)
    assert rows[:30] == CHAT
    said = [[turn["content"] for turn in row["messages"]] for row in rows[30:]]
    assert said == [[f"question {n}", f"better {n}" if n < 12 else f"answer {n}"] for n in range(22)]


async def test_too_little_traffic_trains_on_the_newest_version_and_says_so(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=3, liked=2)
    await scene.tell(scene.request())
    await cut_for_retrains(scene.cutter)
    spec = await scene.retrained()
    assert (spec.dataset.version, spec.retrain_of.data) == (1, "dataset")
    assert spec.retrain_of.data_detail == "5 new rows could be made of requests, and 20 are the least"


@pytest.mark.parametrize("rows", [[{"text": "a", "label": n % 2} for n in range(40)]])
async def test_a_format_that_requests_do_not_fill_trains_on_the_newest_version(house: House, rows: list[Any]) -> None:
    scene = await scene_of(house)
    await house.dataset(house.ann, rows=rows)
    await scene.judged(corrections=30, liked=0)
    await scene.tell(scene.request())
    await cut_for_retrains(scene.cutter)
    spec = await scene.retrained()
    assert (spec.dataset.version, spec.retrain_of.data) == (2, "dataset")
    assert "'classification' cannot be made of requests" in spec.retrain_of.data_detail


class Crashing(Cutter):
    """The process dies when the object is there and nothing says so yet."""

    async def make(self, order: Order) -> Cut:
        await super().make(order)
        raise asyncio.CancelledError


async def test_a_crash_between_the_upload_and_the_commit_makes_no_second_version_and_no_second_job(
    house: House,
) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=25, liked=0)
    await scene.tell(scene.request())
    world = house.world
    with pytest.raises(asyncio.CancelledError):
        await cut_for_retrains(Crashing(world.database, world.objects, world.settings))
    await cut_for_retrains(scene.cutter)
    assert len(await house.told(events.JobSubmitted)) == 1, "the claim of the dead one still stands"
    async with world.database.transaction() as session:
        past = text("now() - interval '1 second'")
        await session.execute(update(CutRow).where(CutRow.retrain_id == scene.retrain_id).values(lease_until=past))
    await asyncio.gather(cut_for_retrains(scene.cutter), cut_for_retrains(scene.cutter))
    assert (await scene.retrained()).dataset.version == 2
    assert len(await house.told(events.DatasetValidated)) == 2
    keys = await asyncio.to_thread(world.objects.list, f"tenants/{scene.tenant_id}/datasets/")
    assert len(keys) == 2, "the second try wrote the same object"


class Interrupted(Cutter):
    """Something happens between the upload and the commit, once."""

    happens: Callable[[], Any]
    done = False

    async def make(self, order: Order) -> Cut:
        cut = await super().make(order)
        if not Interrupted.done:
            Interrupted.done = True
            await Interrupted.happens()
        return cut


async def test_a_version_that_somebody_uploads_meanwhile_is_not_lost(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=25, liked=0)
    await scene.tell(scene.request())
    newer = [*CHAT, {"messages": [{"role": "user", "content": "new?"}, {"role": "assistant", "content": "new!"}]}]
    Interrupted.happens, Interrupted.done = lambda: house.dataset(house.ann, rows=newer), False
    world = house.world
    await cut_for_retrains(Interrupted(world.database, world.objects, world.settings))
    spec = await scene.retrained()
    assert (spec.dataset.version, spec.dataset.rows) == (3, 31 + 25)
    assert newer[-1] in await scene.rows(3)


class Away(Cutter):
    async def make(self, order: Order) -> Cut:
        raise ObjectsUnavailableError("away")


async def test_a_cut_that_fails_again_and_again_trains_on_the_newest_version(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=25, liked=0)
    await scene.tell(scene.request())
    world = house.world
    for _ in range(MAX_TRIES):
        async with world.database.transaction() as session:
            mine = CutRow.retrain_id == scene.retrain_id
            await session.execute(update(CutRow).where(mine).values(due_at=text("now()")))
        await cut_for_retrains(Away(world.database, world.objects, world.settings))
    spec = await scene.retrained()
    assert spec.retrain_of.data_detail == "the cut failed 8 times, at last by ObjectsUnavailableError"


async def test_a_retrain_of_somebody_elses_job_cuts_nothing(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=25, liked=0)
    bobs = (await house.bob.get("/v1/keys")).json()["data"][0]["tenant_id"]
    await scene.tell(scene.request(tenant_id=bobs))
    await cut_for_retrains(scene.cutter)
    assert len(await house.told(events.JobSubmitted)) == 1
    assert (await house.bob.get("/v1/datasets")).json()["data"] == []
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(house.world.objects.get_bytes, f"tenants/{bobs}/datasets/support/x.jsonl")


async def test_a_person_looks_first_and_then_cuts(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=12, liked=12)
    url, body = "/v1/datasets/support/cut", {"endpoint": "chat"}
    look = (await house.ann.post(url, params={"dry_run": "true"}, json=body)).json()
    assert (look["dataset"], look["rows_after"], look["refusal"], len(look["rows"])) == ("support@1", 54, None, 20)
    assert (look["lineage"]["corrections"], look["lineage"]["liked"], look["lineage"]["retrain_id"]) == (12, 12, "")
    assert len((await house.ann.get("/v1/datasets")).json()["data"]) == 1, "a look keeps nothing"
    headers = {"Idempotency-Key": "cut"}
    answers = [await house.ann.post(url, json=body, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    cut = answers[0].json()
    assert (cut["version"], cut["rows"], cut["lineage"]["parent_version"]) == (2, 54, 1)
    again = await house.ann.post(url, json=body)
    assert (again.status_code, again.json()["counts"]["duplicates"]) == (422, 24)


async def test_a_system_message_that_all_rows_have_stands_before_the_new_ones(house: House) -> None:
    first = {"role": "system", "content": "Be kind."}
    scene = await scene_of(house, rows=[{"messages": [first, *row["messages"]]} for row in CHAT])
    await scene.judged(corrections=1, liked=0)
    body = {"endpoint": scene.endpoint_id, "minimum_rows": 1}
    assert (await house.ann.post("/v1/datasets/support@1/cut", json=body)).status_code == 201
    *_, row = await scene.rows(2)
    assert row["messages"][0] == first
    assert row["messages"][1]["content"] == "question 0"


async def test_only_what_was_asked_since_and_a_share_of_all(house: House) -> None:
    scene = await scene_of(house, rows=[*CHAT, {"messages": _said("QUESTION  9", "better 9")}])
    await scene.judged(corrections=20, liked=0)
    house.world.settings.traffic_share = 0.2
    since = (scene.asked_at + timedelta(seconds=5)).isoformat()
    body = {"endpoint": "chat", "since": since, "minimum_rows": 1}
    answer = await house.ann.post("/v1/datasets/support/cut", json=body)
    assert answer.status_code == 201, answer.text
    lineage = answer.json()["lineage"]
    assert (lineage["corrections"], lineage["over_limit"], lineage["duplicates"]) == (7, 7, 1)
    assert answer.json()["rows"] == 31 + 7
    rows = await scene.rows(2)
    assert [row["messages"][0]["content"] for row in rows[31:]] == [f"question {n}" for n in range(13, 20)]


def _said(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "endpoint"),
        ({"endpoint": "nothing"}, "endpoint"),
        ({"endpoint": "chat", "since": "2026-01-01T00:00:00"}, "since"),
        ({"endpoint": "chat", "since": [7]}, "since"),
        ({"endpoint": "chat", "minimum_rows": 0}, "minimum_rows"),
        ({"endpoint": "chat", "rows": 1}, "rows"),
    ],
)
async def test_a_bad_cut_is_refused_with_its_field(house: House, body: dict[str, Any], field: str) -> None:
    await scene_of(house)
    answer = await house.ann.post("/v1/datasets/support/cut", json=body)
    assert answer.status_code == 422, answer.text
    assert (answer.json().get("field") or answer.json()["errors"][0]["field"]) == field


async def test_nobody_cuts_from_somebody_elses_endpoint(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=25, liked=0)
    await house.dataset(house.bob, rows=CHAT)
    for name in ("chat", scene.endpoint_id):
        answer = await house.bob.post("/v1/datasets/support/cut", json={"endpoint": name})
        assert (answer.status_code, answer.json()["field"]) == (422, "endpoint")


async def test_what_ends_without_a_line_end_or_in_blank_lines_is_gone_on_with(house: House) -> None:
    scene = await scene_of(house)
    await scene.judged(corrections=0, liked=1, unjudged=3)
    for content in (b'{"text": "a"}\n{"text": "b"}', b'{"text": "a"}\n{"text": "b"}\n\n \n'):
        name = f"lines{len(content)}"
        headers = {"Content-Type": "application/jsonl"}
        await house.ann.post("/v1/datasets", params={"name": name}, content=content, headers=headers)
        cut = await house.ann.post(f"/v1/datasets/{name}/cut", json={"endpoint": "chat", "minimum_rows": 1})
        assert cut.status_code == 201, cut.text
        assert (cut.json()["rows"], cut.json()["lineage"]["inputs"], cut.json()["lineage"]["liked"]) == (4, 1, 1)
