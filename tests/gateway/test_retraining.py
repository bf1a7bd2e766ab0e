"""Policies of retraining and decisions, as users say them; and the loop on one timeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import retraining
from services.monitor import api as monitor_api
from services.monitor import handlers as monitor_handlers
from services.monitor.ingest import Ingest
from services.monitor.store import Store as MonitorStore
from sskai.contract import new_id, timestamp
from sskai.database import Database
from sskai.events import v1 as events
from tests.gateway.conftest import MODEL, ROWS, House, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
FULL = {
    "mode": "approve",
    "on": {"drift": True, "new_dataset": True, "schedule": "0 3 * * mon"},
    "data": "traffic",
    "budget_usd_per_month": 40.0,
    "cooldown": "6h",
    "confirmations": {"alarms": 2, "samples": 100},
    "max_job_budget_usd": 15.0,
}


def at(minutes: float) -> Any:
    return timestamp(NOW + timedelta(minutes=minutes))


async def endpoint(house: House) -> str:
    made = await house.ann.post("/v1/endpoints", json={"name": "support", "model": MODEL})
    assert made.status_code == 202, made.text
    return str(made.json()["id"])


async def suggested(house: House, endpoint_id: str, *, hours: float | None = 1) -> str:
    """The monitor suggests a retrain that waits for so many hours; None: for nobody."""
    (requested,) = await house.told(events.EndpointRequested)
    now = house.world.now()
    suggestion = events.RetrainSuggested(
        endpoint_id=endpoint_id,
        tenant_id=requested.tenant_id,
        retrain_id=new_id("retrain"),
        model_id="model_1",
        version=1,
        reason="drift",
        suggested_at=timestamp(now),
        expires_at=None if hours is None else timestamp(now + timedelta(hours=hours)),
    )
    await house.bus.publish(suggestion)
    await house.bus.settle()
    return suggestion.retrain_id


async def test_a_policy_is_set_by_name_or_id_and_taken_back(house: House) -> None:
    endpoint_id = await endpoint(house)
    full = await house.ann.put("/v1/endpoints/support/retraining", json=FULL)
    assert full.status_code == 202, full.text
    assert full.json()["policy"] == FULL
    assert (await house.ann.put(f"/v1/endpoints/{endpoint_id}/retraining", json={"mode": "auto"})).status_code == 202
    assert (await house.ann.delete("/v1/endpoints/support/retraining")).status_code == 202
    both = await house.told(events.RetrainingPolicySet)
    first, second = both
    assert {one.endpoint_id for one in both} == {endpoint_id}
    assert (first.mode, first.schedule, first.data, first.cooldown_seconds) == (
        "approve", "0 3 * * mon", "traffic", 21_600
    )  # fmt: skip
    assert (first.budget_usd_per_month, first.max_job_budget_usd) == (40, 15)
    assert (first.confirm_alarms, first.confirm_samples, first.on_drift, first.on_new_dataset) == (2, 100, True, True)
    assert (second.mode, second.schedule, second.data, second.on_drift) == ("auto", "", "dataset", True)
    for absent in ("budget_usd_per_month", "cooldown_seconds", "max_job_budget_usd"):
        assert not second.HasField(absent)
    (removed,) = await house.told(events.RetrainingPolicyRemoved)
    assert removed.endpoint_id == endpoint_id


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ({}, "mode"),
        ({"mode": "sometimes"}, "mode"),
        ({"mode": "auto", "on": {"schedule": "daily"}}, "write minute, hour"),
        ({"mode": "auto", "on": {"schedule": "0 25 * * *"}}, "hour: write"),
        ({"mode": "auto", "on": {"schedule": "*/5 * * * *"}}, "minute: name one"),
        ({"mode": "auto", "on": {"weather": True}}, "weather"),
        ({"mode": "auto", "cooldown": "soon"}, "cooldown"),
        ({"mode": "auto", "cooldown": "400d"}, "366d"),
        ({"mode": "auto", "budget_usd_per_month": 0}, "budget_usd_per_month"),
        ({"mode": "auto", "confirmations": {"alarms": 0}}, "alarms"),
        ({"mode": "auto", "data": "dreams"}, "data"),
    ],
)
async def test_what_is_no_policy_is_refused_with_its_field(house: House, policy: dict[str, Any], problem: str) -> None:
    await endpoint(house)
    answer = await house.ann.put("/v1/endpoints/support/retraining", json=policy)
    assert answer.status_code == 422
    assert problem in answer.text
    assert not await house.told(events.RetrainingPolicySet)


@pytest.mark.parametrize(("word", "approved"), [("approve", True), ("decline", False)])
async def test_somebody_decides_once(house: House, word: str, approved: bool) -> None:
    endpoint_id = await endpoint(house)
    path = f"/v1/endpoints/support/retraining/{await suggested(house, endpoint_id)}"
    answer = await house.ann.post(f"{path}/{word}")
    assert answer.status_code == 202, answer.text
    (decided,) = await house.told(events.RetrainDecided)
    assert (decided.endpoint_id, decided.approved) == (endpoint_id, approved)
    assert decided.decided_by.startswith("key_")
    for again in ("approve", "decline"):
        refused = await house.ann.post(f"{path}/{again}")
        assert refused.status_code == 409
        assert decided.decided_by in refused.json()["detail"]
    assert len(await house.told(events.RetrainDecided)) == 1


async def test_what_waits_for_nobody_cannot_be_decided(house: House) -> None:
    endpoint_id = await endpoint(house)
    for hours, title in ((None, "Nobody is asked"), (-1, "It is over")):
        retrain_id = await suggested(house, endpoint_id, hours=hours)
        answer = await house.ann.post(f"/v1/endpoints/support/retraining/{retrain_id}/approve")
        assert (answer.status_code, answer.json()["title"]) == (409, title)
    unknown = await house.ann.post("/v1/endpoints/support/retraining/retrain_x/approve")
    assert unknown.status_code == 404
    assert not await house.told(events.RetrainDecided)


async def test_an_endpoint_that_goes_has_no_policy(house: House) -> None:
    endpoint_id = await endpoint(house)
    await house.ann.delete(f"/v1/endpoints/{endpoint_id}")
    answer = await house.ann.put(f"/v1/endpoints/{endpoint_id}/retraining", json={"mode": "auto"})
    assert answer.status_code == 409


async def test_the_loop_is_shown_with_what_the_monitor_knows(house: House) -> None:
    endpoint_id = await endpoint(house)
    parent = await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    of = {"endpoint_id": endpoint_id, "tenant_id": submitted.tenant_id}
    await house.bus.publish(
        events.RetrainRequested(
            **of, retrain_id="retrain_1", model_id="model_1", version=1, parent_job_id=parent["id"], requested_at=at(1)
        )
    )
    _, job = await house.told(events.JobSubmitted)
    made = {"tenant_id": submitted.tenant_id, "model_id": "model_1", "version": 2}
    for message in (
        events.ModelVersionReady(**made, job_id=job.job_id, ready_at=timestamp(house.world.now())),
        events.ModelVersionReady(**{**made, "version": 1}, job_id=parent["id"], ready_at=at(0)),
    ):
        await house.bus.publish(message)
    await house.bus.settle()
    app = FastAPI()

    @app.get("/v1/retraining/{of}")
    async def known(of: str, request: Request) -> dict[str, Any]:
        return {"policy": {"mode": "auto"}, "asked_for": of, "internal": request.headers["x-sskai-internal"]}

    async with serving(app) as url:
        house.world.settings.otlp_url = url
        shown = (await house.ann.get("/v1/endpoints/support/retraining")).json()
    assert (shown["policy"], shown["asked_for"], shown["internal"]) == ({"mode": "auto"}, endpoint_id, "internal")
    loop = [(entry["kind"], entry["retrain_id"], entry["job_id"]) for entry in shown["timeline"]]
    assert loop == [
        ("trained", "retrain_1", job.job_id),
        ("job-submitted", "retrain_1", job.job_id),
        ("requested", "retrain_1", None),
    ]


@pytest_asyncio.fixture(loop_scope="session")
async def monitors(database_of: Callable[[str], AbstractAsyncContextManager[Database]]) -> AsyncIterator[Database]:
    """The monitor's database. Asked for before `house`, which delivers its last events when it goes."""
    async with database_of("monitor") as database:
        yield database


async def test_from_new_data_by_a_yes_to_a_job_with_the_real_monitor(monitors: Database, house: House) -> None:
    endpoint_id = await endpoint(house)
    parent = await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    house.bus.connect(monitors, monitor_handlers.HANDLERS, MonitorStore)
    await house.bus.publish(
        submitted,
        events.ModelVersionReady(
            model_id="model_1", tenant_id=submitted.tenant_id, version=1, job_id=parent["id"], name="bot"
        ),
        events.EndpointReady(endpoint_id=endpoint_id, tenant_id=submitted.tenant_id, model_id="model_1", version=1),
    )
    policy = {**FULL, "on": {"new_dataset": True}, "data": "dataset", "confirmations": {"alarms": 1}}
    assert (await house.ann.put("/v1/endpoints/support/retraining", json=policy)).status_code == 202
    await house.bus.settle()
    newer = await house.dataset(house.ann, rows=[*ROWS, ROWS[0]])
    (suggestion,) = await house.told(events.RetrainSuggested)
    assert suggestion.detail == "support@2 is there; version 1 was trained on support@1"

    app = monitor_api.build(monitors, Ingest(monitors), "internal")
    async with serving(app) as url:
        house.world.settings.otlp_url = url
        waiting = (await house.ann.get("/v1/endpoints/support/retraining")).json()
        yes = f"/v1/endpoints/support/retraining/{suggestion.retrain_id}/approve"
        assert (await house.ann.post(yes)).status_code == 202
        *_, job = await house.told(events.JobSubmitted)
        shown = (await house.ann.get("/v1/endpoints/support/retraining")).json()
    assert [one["retrain_id"] for one in waiting["pending"]] == [suggestion.retrain_id]
    assert (job.spec.dataset.version, job.spec.budget_usd) == (newer["version"], 15)
    assert job.spec.retrain_of.endpoint_id == endpoint_id
    assert (shown["pending"], shown["set_by"], shown["policy"]["cooldown"]) == ([], "owner", "21600s")
    assert shown["in_flight"] == {"retrain_id": suggestion.retrain_id, "job_id": job.job_id}
    assert [entry["kind"] for entry in shown["timeline"]] == [
        "job-submitted", "requested", "decided", "suggested", "policy-set"
    ]  # fmt: skip


# The timeline as a function

E1 = {"endpoint_id": "endpoint_1", "tenant_id": "t"}
V2 = {"model_id": "model_1", "tenant_id": "t", "version": 2}
LOOP: list[Message] = [
    events.RetrainingPolicySet(**E1, mode="approve", set_at=at(0)),
    events.DriftDetected(**E1, signal="input-content", version=1, explanation="Other subjects.", detected_at=at(1)),
    events.RetrainSuggested(**E1, retrain_id="r1", reason="drift", suggested_at=at(2), expires_at=at(99)),
    events.RetrainDecided(**E1, retrain_id="r1", approved=True, decided_by="key_1", decided_at=at(3)),
    events.RetrainRequested(**E1, retrain_id="r1", model_id="model_1", version=1, requested_at=at(4)),
    events.JobSubmitted(job_id="job_2", tenant_id="t", submitted_at=at(5)),
    events.RetrainDeclined(**E1, retrain_id="r2", rule="in-flight", declined_at=at(6)),
    events.JobSucceeded(job_id="job_2", tenant_id="t", ended_at=at(7)),
    events.ModelVersionReady(**V2, job_id="job_2", ready_at=at(8)),
    events.ModelEvaluated(**V2, metric="loss", value=1.0, champion_value=2.0, evaluated_at=at(9)),
    events.CanaryStarted(**E1, model_id="model_1", version=2, traffic_fraction=0.1, started_at=at(10)),
    events.ModelPromoted(**V2, endpoint_id="endpoint_1", previous_version=1, promoted_at=at(11)),
]
OTHERS: list[Message] = [
    events.JobSubmitted(job_id="job_1", tenant_id="t", submitted_at=at(0)),
    events.ModelVersionReady(model_id="model_1", tenant_id="t", version=1, job_id="job_1", ready_at=at(0)),
    events.ModelEvaluated(model_id="model_1", tenant_id="t", version=3, evaluated_at=at(9)),
    events.ModelPromoted(**V2, endpoint_id="endpoint_2", promoted_at=at(11)),
    events.DriftDetected(endpoint_id="endpoint_2", tenant_id="t", detected_at=at(1)),
    events.AttemptLost(job_id="job_2", tenant_id="t", at=at(6)),
]
WORDS = [
    "policy-set", "drift", "suggested", "decided", "requested", "job-submitted", "declined", "job-succeeded", "trained",
    "evaluated", "canary", "promoted",
]  # fmt: skip


async def test_a_loop_from_drift_to_promotion() -> None:
    shown = retraining.timeline("endpoint_1", LOOP, {"job_2": "r1"})
    assert [entry["kind"] for entry in shown] == WORDS[::-1]
    assert [entry["retrain_id"] for entry in shown[::-1]] == [
        None, None, "r1", "r1", "r1", "r1", "r2", "r1", "r1", "r1", "r1", "r1"
    ]  # fmt: skip
    assert shown[0] == {
        "at": "2026-11-15T12:11:00Z",
        "kind": "promoted",
        "retrain_id": "r1",
        "job_id": "job_2",
        "version": 2,
        "previous_version": 1,
    }


@given(st.permutations([*LOOP, *OTHERS]))
async def test_order_and_what_is_of_others_change_no_timeline(told: list[Message]) -> None:
    assert retraining.timeline("endpoint_1", told, {"job_2": "r1"}) == retraining.timeline(
        "endpoint_1", LOOP, {"job_2": "r1"}
    )


async def test_every_kind_shows_fields_that_its_event_has() -> None:
    for message, kind in retraining.KINDS.items():
        assert {kind.at, *kind.fields} <= set(message.DESCRIPTOR.fields_by_name), kind.word
