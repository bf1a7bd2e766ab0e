"""What an endpoint promises, as users say and see it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Request

from sskai.events import v1 as events
from tests.gateway.conftest import MODEL, House, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

AVAILABLE = {"name": "availability", "target": 0.99}
QUICK = {"name": "time-to-first-token", "target": 0.95, "at_most_seconds": 0.8}


async def endpoint(house: House) -> str:
    made = await house.ann.post("/v1/endpoints", json={"name": "support", "model": MODEL})
    assert made.status_code == 202, made.text
    return str(made.json()["id"])


async def test_promises_are_set_by_name_or_id_and_taken_back(house: House) -> None:
    endpoint_id = await endpoint(house)
    for called, objectives in (("support", [AVAILABLE, QUICK]), (endpoint_id, [AVAILABLE])):
        answer = await house.ann.put(f"/v1/endpoints/{called}/objectives", json={"objectives": objectives})
        assert answer.status_code == 202, answer.text
    assert (await house.ann.delete("/v1/endpoints/support/objectives")).status_code == 202
    both, one, none = await house.told(events.EndpointObjectivesSet)
    assert {(told.endpoint_id, told.name) for told in (both, one, none)} == {(endpoint_id, "support")}
    assert [(told.name, told.target) for told in both.objectives] == [
        ("availability", 0.99), ("time-to-first-token", 0.95)
    ]  # fmt: skip
    assert [told.HasField("at_most_seconds") for told in both.objectives] == [False, True]
    assert (len(one.objectives), len(none.objectives)) == (1, 0)


@pytest.mark.parametrize(
    "objectives",
    [
        [],
        [{"name": "happiness", "target": 0.9}],
        [{**AVAILABLE, "target": 1.0}],
        [{**AVAILABLE, "at_most_seconds": 1}],
        [{"name": "latency", "target": 0.9}],
        [{**QUICK, "at_most_seconds": 0}],
        [AVAILABLE, AVAILABLE],
    ],
)
async def test_what_is_no_promise_is_refused(house: House, objectives: list[dict[str, Any]]) -> None:
    await endpoint(house)
    answer = await house.ann.put("/v1/endpoints/support/objectives", json={"objectives": objectives})
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert not await house.told(events.EndpointObjectivesSet)


async def test_only_its_owner_promises_for_an_endpoint(house: House) -> None:
    endpoint_id = await endpoint(house)
    for called in (endpoint_id, "support"):
        path = f"/v1/endpoints/{called}/objectives"
        assert (await house.bob.put(path, json={"objectives": [AVAILABLE]})).status_code == 404
        assert (await house.bob.get(path)).status_code == 404
        assert (await house.bob.delete(path)).status_code == 404


async def test_an_endpoint_that_goes_promises_nothing(house: House) -> None:
    endpoint_id = await endpoint(house)
    await house.ann.delete(f"/v1/endpoints/{endpoint_id}")
    path = f"/v1/endpoints/{endpoint_id}/objectives"
    assert (await house.ann.put(path, json={"objectives": [AVAILABLE]})).status_code == 409


async def test_how_promises_are_kept_is_the_monitors_to_tell(house: House) -> None:
    endpoint_id = await endpoint(house)
    app = FastAPI()

    @app.get("/v1/objectives/{of}")
    async def kept(of: str, request: Request) -> dict[str, Any]:
        return {"of": of, "internal": request.headers["x-sskai-internal"]}

    async with serving(app) as url:
        house.world.settings.otlp_url = url
        answer = await house.ann.get("/v1/endpoints/support/objectives")
    assert answer.json() == {"of": endpoint_id, "internal": "internal"}
