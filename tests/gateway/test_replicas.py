"""Endpoints of kind spot: replicas where a plan says, clear refusals, and what they have cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from services.gateway.api.replicas import ReplicasForm, count, placements
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import MODEL, House
from tests.gateway.test_plans import asked, endpoint_file, tell


def placement(instance_type: str, price: float, *, spot: bool = True) -> events.Placement:
    return events.Placement(
        cloud="aws",
        region="us-east-1",
        zone="use1-az1",
        instance_type=instance_type,
        capacity_type=events.CAPACITY_TYPE_SPOT if spot else events.CAPACITY_TYPE_ON_DEMAND,
        vcpus=4,
        memory_gib=16,
        price_usd_per_hour=price,
        on_demand_price_usd_per_hour=1.0,
    )


pytestmark = pytest.mark.asyncio(loop_scope="session")

OPTIONS = [
    events.EndpointOption(kind="serverless", placement=placement("t3.large", 0.01), replicas=1),
    events.EndpointOption(
        kind="spot",
        placement=placement("g6.xlarge", 0.3),
        alternatives=[placement("g5.xlarge", 0.2)],
        replicas=3,
        on_demand_floor=1,
    ),
    events.EndpointOption(kind="on-demand", placement=placement("g6.xlarge", 0.9, spot=False), replicas=3),
]


def named(found: list[events.Placement]) -> list[tuple[str, float]]:
    return [(one.instance_type, one.price_usd_per_hour) for one in found]


async def planned(house: House, asking: asyncio.Task[Any]) -> events.EndpointPlanRequested:
    request: events.EndpointPlanRequested = await asked(house, events.EndpointPlanRequested)
    await tell(
        house,
        events.EndpointPlanProposed(
            plan_id=request.plan_id,
            tenant_id=request.tenant_id,
            options=OPTIONS,
            proposed_at=request.requested_at,
        ),
    )
    await asking
    return request


async def test_spot_comes_before_on_demand_and_each_machine_has_a_stand_in() -> None:
    found = placements(OPTIONS)
    assert named(found) == [("g5.xlarge", 0.2), ("g6.xlarge", 0.3), ("g6.xlarge", 0.9), ("g5.xlarge", 1.0)]
    assert [one.capacity_type == events.CAPACITY_TYPE_SPOT for one in found] == [True, True, False, False]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (None, (1, 3, 1)),
        (ReplicasForm(), (1, 3, 0)),
        (ReplicasForm(minimum=5), (5, 5, 0)),
        (ReplicasForm(minimum=0, maximum=2, on_demand=1), (0, 2, 1)),
    ],
)
async def test_what_is_not_said_is_as_planned(form: ReplicasForm | None, expected: tuple[int, int, int]) -> None:
    found = count(form, OPTIONS)
    assert (found.minimum, found.maximum, found.on_demand) == expected


async def test_an_endpoint_is_planned_and_asked_for_in_one_request(house: House) -> None:
    form = {
        "name": "chat",
        "model": MODEL,
        "kind": "spot",
        "replicas": {"minimum": 2, "maximum": 4, "on_demand": 1, "tokens_per_second": 500},
        "resources": {"regions": ["us-east-1"]},
    }
    asking = asyncio.create_task(house.ann.post("/v1/endpoints", json=form))
    request = await planned(house, asking)
    assert list(request.spec.resources.regions) == ["us-east-1"]
    answer = asking.result()
    assert answer.status_code == 202, answer.text
    (told,) = await house.told(events.EndpointRequested)
    assert (told.kind, told.engine) == ("spot", "")
    assert named(list(told.placements))[0] == ("g5.xlarge", 0.2)
    assert (told.replicas.minimum, told.replicas.maximum, told.replicas.on_demand) == (2, 4, 1)
    assert told.replicas.tokens_per_second == 500


async def test_an_endpoint_goes_by_a_plan_that_there_is(house: House) -> None:
    asking = asyncio.create_task(house.ann.post("/v1/plans", json=endpoint_file()))
    request = await planned(house, asking)
    form = {"name": "chat", "model": MODEL, "kind": "spot", "plan": request.plan_id, "engine": "vllm"}
    assert (await house.bob.post("/v1/endpoints", json=form)).status_code == 404
    assert (await house.ann.post("/v1/endpoints", json=form)).status_code == 202
    (told,) = await house.told(events.EndpointRequested)
    assert (told.engine, len(told.placements), told.replicas.maximum) == ("vllm", 4, 3)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"kind": "adapter", "replicas": {}}, "replicas goes with kind: spot"),
        ({"kind": "spot", "replicas": {"minimum": 3, "maximum": 2}}, "maximum is below minimum"),
        ({"kind": "spot", "replicas": {"maximum": 2, "on_demand": 3}}, "on_demand is above maximum"),
        ({"kind": "spot", "replicas": {"maximum": 0}}, "replicas.maximum"),
        ({"kind": "spot", "replicas": {"minimum": 1000}}, "replicas.minimum"),
        ({"kind": "spot", "plan": "plan_1", "resources": {}}, "send plan, or resources and traffic"),
        ({"kind": "spot", "model": "nobodys"}, "'nobodys' is no model"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_its_reason(house: House, fields: dict[str, Any], word: str) -> None:
    answer = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": MODEL, **fields})
    assert answer.status_code == 422
    assert word in answer.text
    assert await house.told(events.EndpointRequested) == []


async def test_a_plan_that_takes_longer_is_named(house: House) -> None:
    house.world.settings.plan_wait_seconds = 0
    answer = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": MODEL, "kind": "spot"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["plan_id"] in answer.json()["detail"]


async def test_a_million_tokens_has_a_price(house: House) -> None:
    asking = asyncio.create_task(house.ann.post("/v1/endpoints", json={"name": "chat", "model": MODEL, "kind": "spot"}))
    request = await planned(house, asking)
    endpoint = asking.result().json()
    assert (endpoint["spent_usd"], endpoint["usd_per_million_tokens"]) == (0, None)
    now = timestamp(datetime.now(UTC))
    row = {"tenant_id": request.tenant_id, "endpoint_id": endpoint["id"], "started_at": now, "ended_at": now}
    first = events.SpendRecorded(
        job_id=endpoint["id"],
        interval=1,
        amount_nano_usd=2_000_000,
        on_demand_nano_usd=5_000_000,
        input_tokens=600,
        output_tokens=400,
        **row,
    )
    await tell(house, first)
    await tell(house, first)
    await tell(house, events.SpendRecorded(job_id=endpoint["id"], interval=2, amount_nano_usd=1_000_000, **row))
    shown = (await house.ann.get(f"/v1/endpoints/{endpoint['id']}")).json()
    assert (shown["spent_usd"], shown["on_demand_usd"]) == (0.003, 0.005)
    assert (shown["input_tokens"], shown["output_tokens"]) == (600, 400)
    assert shown["usd_per_million_tokens"] == pytest.approx(3.0)
    assert (await house.ann.get("/v1/jobs")).json()["data"] == []
