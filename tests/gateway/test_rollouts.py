"""An endpoint's traffic and a model's aliases, as users change and see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def versions(house: House, count: int = 2) -> str:
    """Trained versions of Ann's model `bot`; her tenant."""
    tenant_id = str((await house.ann.get("/v1/keys")).json()["data"][0]["tenant_id"])
    for number in range(1, count + 1):
        await house.bus.publish(
            events.ModelVersionReady(
                model_id=f"model_of_{tenant_id}",
                tenant_id=tenant_id,
                version=number,
                name="bot",
                base_model_id="tiny-llama",
                base_uri="builtin://tiny-llama",
                method="lora",
                artifact_uri=f"s3://bucket/bot/{number}",
                ready_at=timestamp(NOW),
            )
        )
    await house.bus.settle()
    return tenant_id


async def endpoint(house: House, **fields: Any) -> str:
    made = await house.ann.post("/v1/endpoints", json={"name": "support", "model": "bot@1", **fields})
    assert made.status_code == 202, made.text
    return str(made.json()["id"])


async def test_a_canary_is_asked_for_and_its_promotion_is_seen(house: House) -> None:
    tenant_id = await versions(house)
    promotion = {"mode": "auto", "steps": [0.1, 1.0]}
    endpoint_id = await endpoint(house, promotion=promotion, canary="bot@2")
    (made,) = await house.told(events.EndpointRequested)
    assert made.promotion_mode == "auto"
    rules, canary = await house.told(events.EndpointTrafficRequested)
    assert (rules.action, list(rules.rules.steps)) == ("rules", [0.1, 1.0])
    assert (canary.action, canary.version, canary.artifact_uri) == ("canary", 2, "s3://bucket/bot/2")
    names = {"endpoint_id": endpoint_id, "tenant_id": tenant_id, "model_id": made.model_id}
    await house.bus.publish(
        events.EndpointReady(**names, version=1, name="support", ready_at=timestamp(NOW)),
        events.CanaryStarted(**names, version=2, traffic_fraction=0.1, started_at=timestamp(NOW)),
    )
    await house.bus.settle()
    shown = (await house.ann.get(f"/v1/endpoints/{endpoint_id}")).json()
    assert (shown["version"], shown["canary_version"], shown["canary_fraction"]) == (1, 2, 0.1)
    assert shown["traffic"] is None  # inference is away
    assert (await house.ann.get("/v1/models/bot@challenger")).json()["id"] == "bot@2"
    assert (await house.ann.get("/v1/models/bot@champion")).json()["id"] == "bot@1"
    later = timestamp(NOW + timedelta(minutes=1))
    await house.bus.publish(
        events.ModelPromoted(**names, version=2, alias="champion", previous_version=1, promoted_at=later)
    )
    await house.bus.settle()
    shown = (await house.ann.get(f"/v1/endpoints/{endpoint_id}")).json()
    assert (shown["version"], shown["model"], shown["canary_version"]) == (2, "bot@2", None)
    assert (await house.ann.get("/v1/models/bot@champion")).json()["id"] == "bot@2"
    assert (await house.ann.get("/v1/models/bot@challenger")).status_code == 404


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"promote": True}, 202),
        ({"roll_back": True}, 202),
        ({"promotion": {"minimum_requests": 5}}, 202),
        ({"canary": "bot@2"}, 202),
        ({"canary": "bot@1"}, 422),
        ({"canary": "bot@9"}, 422),
        ({"canary": "tiny-llama"}, 422),
        ({}, 422),
        ({"promote": True, "roll_back": True}, 422),
        ({"promotion": {"steps": [0.5, 0.1]}}, 422),
        ({"promotion": {"minimum_seconds": 10, "maximum_seconds": 1}}, 422),
    ],
)
async def test_one_change_at_a_time(house: House, form: dict[str, Any], status: int) -> None:
    await versions(house)
    endpoint_id = await endpoint(house)
    answer = await house.ann.patch(f"/v1/endpoints/{endpoint_id}", json=form)
    assert answer.status_code == status, answer.text
    assert len(await house.told(events.EndpointTrafficRequested)) == (status == 202)
    assert (await house.bob.patch(f"/v1/endpoints/{endpoint_id}", json={"promote": True})).status_code == 404


async def test_an_alias_is_moved_by_hand_and_names_a_version_in_a_job(house: House) -> None:
    await versions(house)
    moved = await house.ann.put("/v1/models/bot/aliases/champion", json={"version": 2})
    assert moved.json()["id"] == "bot@champion"
    assert [one["version"] for one in (await house.ann.get("/v1/models/bot/aliases")).json()["data"]] == [2]
    await endpoint(house, model="model://bot@champion")
    assert [one.version for one in await house.told(events.EndpointRequested)] == [2]
    assert [one.alias for one in await house.told(events.ModelPromoted)] == ["champion"]
    assert (await house.ann.put("/v1/models/bot/aliases/champion", json={"version": 9})).status_code == 404
    assert (await house.bob.get("/v1/models/bot@champion")).status_code == 404


async def test_feedback_needs_inference(house: House) -> None:
    answer = await house.ann.post("/v1/feedback", json={"id": "chatcmpl_1", "score": 1})
    assert answer.status_code == 503
    assert (await house.ann.post("/v1/feedback", json={"id": "chatcmpl_1", "score": 7})).status_code == 422


async def test_a_key_over_its_limit_is_told_when_to_come_again(house: House) -> None:
    house.world.settings.request_burst_per_key = 1
    house.world.settings.requests_per_second_per_key = 0.5
    house.world.settings.inference_retry_seconds = 0
    chat = {"model": "support", "messages": []}
    first, second = [await house.ann.post("/v1/chat/completions", json=chat) for _ in range(2)]
    assert first.status_code == 503
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(second.headers["retry-after"]) >= 1
    assert house.world.admission.under_way == 0


async def test_a_job_is_told_which_version_it_is_measured_against(house: House) -> None:
    tenant_id = await versions(house)

    async def champion(name: str) -> events.Champion:
        await house.job(house.ann, name=name)
        submitted: events.JobSubmitted = (await house.told(events.JobSubmitted))[-1]
        return submitted.spec.champion

    assert not (await champion("another")).version
    newest = await champion("bot")
    assert (newest.model_id, newest.version) == (f"model_of_{tenant_id}", 2)
    assert (newest.artifact_uri, newest.base_uri) == ("s3://bucket/bot/2", "builtin://tiny-llama")
    moved = await house.ann.put("/v1/models/bot/aliases/champion", json={"version": 1})
    assert moved.status_code == 200, moved.text
    assert (await champion("bot")).version == 1
