"""A job's timeline: from events in any order to lanes, waits, events and prices, by the real API."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete

from services.gateway import timelines
from services.gateway.domain import JobView, follow
from services.gateway.loops import forget
from services.gateway.tables import PriceRow
from services.gateway.timeline import Job, Mark, Notice, PricePoint, assemble, machines, mark_of, thinned
from sskai.client import Client
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import House

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
SPOT = "aws/us-east-1/use1-az1/g5.xlarge/spot"
HOURLY, ON_DEMAND = 0.4, 1.006


def at(seconds: float) -> Timestamp:
    return timestamp(START + timedelta(seconds=seconds))


def iso(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


PLACEMENT = events.Placement(
    cloud="aws",
    region="us-east-1",
    zone="use1-az1",
    instance_type="g5.xlarge",
    capacity_type=events.CAPACITY_TYPE_SPOT,
    price_usd_per_hour=HOURLY,
    on_demand_price_usd_per_hour=ON_DEMAND,
)


def life(job_id: str = "job_1", tenant_id: str = "tenant_a") -> list[Message]:
    """Waits for spot; runs, is warned, saves and goes; waits; goes on from the checkpoint."""
    j: dict[str, Any] = {"job_id": job_id, "tenant_id": tenant_id}

    def progressed(attempt: int, phase: str, step: int, seconds: float) -> events.AttemptProgressed:
        return events.AttemptProgressed(
            **j, attempt=attempt, phase=phase, step=step, total_steps=900, loss=2.0, at=at(seconds)
        )

    return [
        events.PlanProposed(
            **j,
            plan_id=f"plan_of_{job_id}",
            cause="submitted",
            candidates=[events.Candidate(placement=PLACEMENT)],
            point_of_no_return=at(9000),
            proposed_at=at(2),
        ),
        events.JobHeld(**j, rule="waiting-for-spot", detail="no spot in 3 zones", held_at=at(5)),
        events.JobHeld(**j, rule="waiting-for-spot", detail="no spot in 3 zones", held_at=at(65)),
        events.AttemptStarted(**j, attempt=1, machine_id="i-1", placement=PLACEMENT, started_at=at(100)),
        progressed(1, "starting", 0, 110),
        progressed(1, "training", 1, 130),
        progressed(1, "training", 50, 200),
        events.CheckpointCommitted(**j, attempt=1, step=300, bytes=4096, cause="interval", save_seconds=2, at=at(400)),
        progressed(1, "training", 420, 590),
        events.CheckpointCommitted(**j, attempt=1, step=420, bytes=4096, cause="notice", at=at(602)),
        events.AttemptDrained(**j, attempt=1, step=420, at=at(604)),
        events.JobRequeued(**j, attempt=1, reason="spot-interrupted", steps_done=420, requeued_at=at(605)),
        events.JobHeld(**j, rule="no-capacity", detail="the market has none", held_at=at(610)),
        events.AttemptStarted(**j, attempt=2, machine_id="i-2", placement=PLACEMENT, started_at=at(700)),
        progressed(2, "training", 421, 720),
        events.AttemptResumed(**j, attempt=2, from_attempt=1, from_step=420, lost_steps=3, gap_seconds=130, at=at(720)),
        events.BudgetThresholdReached(**j, fraction=0.5, spent_usd=5, budget_usd=10, at=at(900)),
        progressed(2, "training", 500, 1000),
    ]


NOTICED = events.InterruptionNoticed(
    machine_id="i-1", action="terminate", notice_seconds=120, noticed_at=at(600), terminates_at=at(720)
)
JOB = Job("job_1", "bot", "running", START, None, None, 10.0, 1.5, 3.0, {1: 420, 2: 500})


def marks_of(told: list[Message]) -> dict[str, Mark]:
    view = JobView()
    marks: dict[str, Mark] = {}
    for event in told:
        mark = mark_of(view, event)
        view = follow(view, event)
        if mark is not None:
            marks.setdefault(mark.key, mark)
    return marks


def test_a_life_becomes_lanes_waits_and_events() -> None:
    notice = Notice("i-1", START + timedelta(seconds=600), "terminate", START + timedelta(seconds=720))
    prices = [PricePoint(SPOT, START + timedelta(seconds=seconds), usd) for seconds, usd in ((-50, 0.4), (300, 0.5))]
    now = START + timedelta(seconds=1000)
    told = assemble(JOB, list(marks_of(life()).values()), [notice], prices, now)
    first, second = told["attempts"]
    assert (first["started_at"], first["ended_at"], first["outcome"]) == (iso(100), iso(604), "drained")
    assert (first["reason"], first["from_step"], first["to_step"], first["lost_steps"]) == (
        "spot-interrupted",
        0,
        420,
        3,
    )
    assert [(one["phase"], one["started_at"], one["ended_at"]) for one in first["phases"]] == [
        ("starting", iso(100), iso(130)),
        ("training", iso(130), iso(604)),
    ]
    assert (second["ended_at"], second["outcome"], second["from_step"], second["to_step"]) == (
        None,
        "running",
        420,
        500,
    )
    assert second["offer"] == SPOT
    assert [(wait["from"], wait["until"], wait["rule"]) for wait in told["waits"]] == [
        (iso(0), iso(100), "waiting-for-spot"),
        (iso(604), iso(700), "no-capacity"),
    ]
    kinds = ["plan", "hold", "checkpoint", "notice", "checkpoint", "requeue", "hold", "budget"]
    assert [event["kind"] for event in told["events"]] == kinds, "a rule that holds on is told once"
    (noticed,) = [event for event in told["events"] if event["kind"] == "notice"]
    assert (noticed["attempt"], noticed["terminates_at"]) == (1, iso(720))
    assert told["point_of_no_return"] == iso(9000)
    (series,) = told["prices"]
    assert series["on_demand_usd_per_hour"] == ON_DEMAND
    assert series["points"] == [{"at": iso(0), "usd_per_hour": 0.4}, {"at": iso(300), "usd_per_hour": 0.5}]


def test_without_observed_prices_an_offer_costs_what_it_was_launched_at() -> None:
    told = assemble(JOB, list(marks_of(life()).values()), [], [], START + timedelta(seconds=1000))
    assert told["prices"][0]["points"] == [
        {"at": iso(100), "usd_per_hour": HOURLY},
        {"at": iso(700), "usd_per_hour": HOURLY},
    ]


def lanes(told: list[Message], notices: list[Notice], now: float) -> list[tuple[str | None, str]]:
    """(end, outcome) of each."""
    document = assemble(JOB, list(marks_of(told).values()), notices, [], START + timedelta(seconds=now))
    return [(lane["ended_at"], lane["outcome"]) for lane in document["attempts"]]


def test_an_attempt_that_did_not_tell_its_end_is_over_when_others_say_so() -> None:
    told = [event for event in life() if not isinstance(event, events.AttemptDrained)]
    assert lanes(told, [], 1000) == [(iso(605), "ended"), (None, "running")]
    told = [event for event in told if not isinstance(event, events.JobRequeued)]
    assert lanes(told, [], 1000) == [(iso(720), "ended"), (None, "running")]
    silent = [event for event in told if getattr(event, "attempt", 0) != 1 or isinstance(event, events.AttemptStarted)]
    silent = [event for event in silent if not isinstance(event, events.AttemptResumed)]
    assert lanes(silent, [], 1000) == [(iso(700), "ended"), (None, "running")]


def test_an_attempt_that_drains_is_shown_beside_its_successor() -> None:
    notice = Notice("i-1", START + timedelta(seconds=600), "terminate", START + timedelta(seconds=720))
    told = [event for event in life()[:9] if not isinstance(event, events.AttemptDrained)]
    told.append(
        events.AttemptStarted(
            job_id="job_1", tenant_id="tenant_a", attempt=2, machine_id="i-2", placement=PLACEMENT, started_at=at(605)
        )
    )
    assert lanes(told, [notice], 610) == [(None, "running"), (None, "running")]
    assert lanes(told, [notice], 730) == [(iso(720), "ended"), (None, "running")]


def test_a_notice_to_any_machine_of_a_gang_is_one_to_its_attempt() -> None:
    notice = Notice("i-1b", START + timedelta(seconds=600), "terminate", START + timedelta(seconds=720))
    told = life()
    next(event for event in told if isinstance(event, events.AttemptStarted)).member_ids.extend(["i-1", "i-1b"])
    marks = list(marks_of(told).values())
    assert machines(marks) == ["i-1", "i-1b", "i-2"]
    document = assemble(JOB, marks, [notice], [], START + timedelta(seconds=1000))
    (shown,) = [event for event in document["events"] if event["kind"] == "notice"]
    assert (shown["attempt"], shown["machine_id"]) == (1, "i-1b")


@given(st.integers())
def test_the_lanes_are_the_same_in_whichever_order_topics_are_read(seed: int) -> None:
    told, chance = life(), random.Random(seed)
    topics: dict[str, list[Message]] = {}
    for event in told:
        topics.setdefault(event.DESCRIPTOR.file.name, []).append(event)
    order = [topic for topic, waiting in topics.items() for _ in waiting]
    chance.shuffle(order)
    shuffled = [topics[topic].pop(0) for topic in order]
    now = START + timedelta(seconds=1000)
    ordered, other = (assemble(JOB, list(marks_of(one).values()), [], [], now) for one in (told, shuffled))
    assert other["attempts"] == ordered["attempts"]


@given(st.lists(st.floats(0.01, 9), min_size=1, max_size=900))
def test_thinned_prices_keep_their_extremes(prices: list[float]) -> None:
    points = [(START + timedelta(seconds=number), usd) for number, usd in enumerate(prices)]
    kept = thinned(points, 100)
    assert len(kept) <= 100
    assert kept == sorted(kept)
    assert {min(prices), max(prices)} <= {usd for _, usd in kept}


@pytest.mark.asyncio(loop_scope="session")
async def test_the_gateway_shows_what_events_told(house: House) -> None:
    job = await house.job(house.ann, budget={"total_usd": 10})
    tenant = (await house.told(events.JobSubmitted))[-1].tenant_id
    denied = events.CapacityDenied(offer=SPOT, job_id=job["id"], detail="none left", denied_at=at(20))
    price = events.PriceObserved(
        offer=SPOT,
        cloud="aws",
        region="us-east-1",
        zone="use1-az1",
        instance_type="g5.xlarge",
        capacity_type=events.CAPACITY_TYPE_SPOT,
        price_usd_per_hour=0.41,
    )
    told = [denied, NOTICED, *life(job["id"], tenant)]
    for seconds, usd in ((-50, 0.41), (-40, 0.41)):
        told.append(events.PriceObserved(**{field.name: value for field, value in price.ListFields()}))
        told[-1].price_usd_per_hour = usd
        told[-1].observed_at.CopyFrom(timestamp(datetime.now(UTC) + timedelta(seconds=seconds)))
    await house.bus.publish(*told)
    await house.bus.settle()

    def by_client() -> dict[str, Any]:
        key = house.ann.headers["Authorization"].removeprefix("Bearer ")
        with Client(house.url, key) as sskai:
            return sskai.jobs.timeline(job["id"])

    document = await asyncio.to_thread(by_client)
    assert (document["object"], document["budget_usd"], document["deadline"]) == ("job.timeline", 10, None)
    assert [lane["machine_id"] for lane in document["attempts"]] == ["i-1", "i-2"]
    assert {"denial", "notice", "checkpoint", "hold", "requeue", "plan", "budget"} == {
        event["kind"] for event in document["events"]
    }
    (series,) = document["prices"]
    assert (series["offer"], [point["usd_per_hour"] for point in series["points"]]) == (SPOT, [0.41])
    assert (await house.bob.get(f"/v1/jobs/{job['id']}/timeline")).status_code == 404
    assert (await house.ann.get("/v1/jobs/job_unknown/timeline")).status_code == 404


@pytest.mark.asyncio(loop_scope="session")
async def test_of_prices_only_changes_are_kept_and_what_is_old_is_forgotten(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = "aws/us-east-1/use1-az2/g5.xlarge/spot"
    now = datetime.now(UTC)
    async with house.world.database.transaction() as session:
        await session.execute(delete(PriceRow))  # other tests'
    told = [(-20 * 86_400, 0.3), (-30, 0.4), (-20, 0.4), (-10, 0.5), (-10, 0.5)]
    for seconds, usd in told:
        at_ = timestamp(now + timedelta(seconds=seconds))
        await house.bus.publish(events.PriceObserved(offer=offer, price_usd_per_hour=usd, observed_at=at_))
    await house.bus.settle()

    async def kept() -> list[float]:
        async with house.world.database.transaction() as session:
            points = await timelines.Timelines(session).prices([offer], now - timedelta(days=30), now)
        return [point.usd_per_hour for point in sorted(points, key=lambda point: point.at)]

    assert await kept() == [0.3, 0.4, 0.5]
    await forget(house.world.database, house.world.settings)
    assert await kept() == [0.4, 0.5]
    monkeypatch.setattr(house.world.settings, "max_prices", 1)
    await forget(house.world.database, house.world.settings)
    assert await kept() == [0.5]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_job_that_never_ends_keeps_a_bounded_number_of_marks_and_all_of_its_lanes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timelines, "MAX_MARKS", 20)
    monkeypatch.setattr(timelines, "MARKS_SPARE", 5)
    job = await house.job(house.ann)
    tenant = (await house.told(events.JobSubmitted))[-1].tenant_id
    j: dict[str, Any] = {"job_id": job["id"], "tenant_id": tenant, "attempt": 1}
    await house.bus.publish(events.AttemptStarted(**j, machine_id="i-9", placement=PLACEMENT, started_at=at(1)))
    for step in range(60):
        await house.bus.publish(events.CheckpointCommitted(**j, step=step, at=at(2 + step)))
    await house.bus.settle()
    document = (await house.ann.get(f"/v1/jobs/{job['id']}/timeline")).json()
    assert len(document["attempts"]) == 1
    steps = [event["step"] for event in document["events"] if event["kind"] == "checkpoint"]
    assert 15 <= len(steps) <= 25
    assert steps[-1] == 59
