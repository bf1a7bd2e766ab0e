"""Where the replicas of an endpoint of kind spot may run, and how many there are: by a plan, given or asked for."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from services.gateway.api.plans import ask_for_plan
from services.gateway.api.waiting import answered
from services.gateway.api.world import World, not_found
from services.gateway.endpointfile import EndpointFile, ServedModelForm, TrafficForm
from services.gateway.jobfile import Form, JobFileError, MachinesForm
from services.gateway.keys import Principal
from services.gateway.store import PlanKind, Store
from services.gateway.tables import PlanRow
from sskai.events import v1 as events
from sskai.http import Problem

MAX_REPLICAS = 100
Count = Annotated[int, Field(ge=0, le=MAX_REPLICAS)]
# What is planned for where nobody says: a request every ten seconds, of a short conversation.
USUAL_TRAFFIC = TrafficForm(requests_per_day=8640, input_tokens_per_request=500, output_tokens_per_request=200)


class ReplicasForm(Form):
    minimum: Count = 1  # 0: none while nobody asks
    maximum: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] | None = None  # absent: as planned, and at least the minimum
    on_demand: Count = 0  # of them on demand, always
    # That one replica gives at most before there is another; absent: scaled by sequences alone.
    tokens_per_second: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        most = self.maximum if self.maximum is not None else MAX_REPLICAS
        if self.minimum > most:
            raise ValueError("maximum is below minimum")
        if self.on_demand > most:
            raise ValueError("on_demand is above maximum")
        return self


def placements(options: list[events.EndpointOption]) -> list[events.Placement]:
    """Spot offers, the cheapest first; then their machines on demand, for when no spot is to be had."""
    spot: list[events.Placement] = []
    steady: list[events.Placement] = []
    for option in options:
        if option.kind in ("spot", "on-demand"):
            for one in (option.placement, *option.alternatives):
                (spot if one.capacity_type == events.CAPACITY_TYPE_SPOT else steady).append(one)
    known = {(one.region, one.zone, one.instance_type) for one in steady}
    for one in spot:
        if (one.region, one.zone, one.instance_type) not in known and one.on_demand_price_usd_per_hour > 0:
            stand_in = events.Placement()
            stand_in.CopyFrom(one)
            stand_in.capacity_type = events.CAPACITY_TYPE_ON_DEMAND
            stand_in.price_usd_per_hour = one.on_demand_price_usd_per_hour
            steady.append(stand_in)
    return [*sorted(spot, key=_price), *sorted(steady, key=_price)]


def _price(placement: events.Placement) -> float:
    return placement.price_usd_per_hour


def count(form: ReplicasForm | None, options: list[events.EndpointOption]) -> events.ReplicaCount:
    """As asked for; what is absent is as planned."""
    planned = next((one for one in options if one.kind == "spot"), events.EndpointOption(replicas=1))
    if form is None:
        return events.ReplicaCount(minimum=1, maximum=max(1, planned.replicas), on_demand=planned.on_demand_floor)
    maximum = form.maximum or max(1, form.minimum, form.on_demand, min(planned.replicas, MAX_REPLICAS))
    return events.ReplicaCount(
        minimum=form.minimum,
        maximum=maximum,
        on_demand=form.on_demand,
        tokens_per_second=form.tokens_per_second or 0.0,
    )


async def planned_options(
    *,
    name: str,
    model: str,
    plan_id: str | None,
    resources: MachinesForm | None,
    traffic: TrafficForm | None,
    here: World,
    caller: Principal,
) -> list[events.EndpointOption]:
    """The plan's ways to serve it, of which at least one rents machines. Raises JobFileError and Problem."""
    if plan_id is None:
        file = EndpointFile(
            kind="endpoint",
            name=name,
            model=ServedModelForm(base=model),
            traffic=traffic or USUAL_TRAFFIC,
            resources=resources or MachinesForm(),
        )
        asked = await ask_for_plan(file, b"", here, caller, None)
        row = await answered(here, asked, lambda store: store.plan(caller.tenant_id, asked))
    else:
        async with here.database.transaction() as session:
            row = await Store(session).plan(caller.tenant_id, plan_id)
    if row is None:
        raise not_found("plan", plan_id or "")
    found = _options(row)
    if not placements(found):
        raise JobFileError("resources", "no machine of the plan can be rented for it: ask for others")
    return found


def _options(row: PlanRow) -> list[events.EndpointOption]:
    if row.kind != PlanKind.ENDPOINT:
        raise JobFileError("plan", f"{row.id} is the plan of a job: POST /v1/plans with kind: endpoint makes one")
    if row.status == "pending":
        raise Problem(
            503,
            "The endpoint is still being planned",
            f"Ask again in a few seconds, with plan: {row.id}",
            headers={"Retry-After": "5"},
            plan_id=row.id,
        )
    body: dict[str, Any] = row.body
    if row.status == "refused":
        raise Problem(
            422,
            "Nothing meets the constraints",
            f"{body['detail']} {body['advice']}".strip(),
            plan_id=row.id,
            reason=body["reason"],
            advice=body["advice"],
        )
    return [_option(one) for one in body.get("options") or []]


def _option(told: dict[str, Any]) -> events.EndpointOption:
    """What of a stored plan's option replicas are chosen by."""
    return events.EndpointOption(
        kind=told["kind"],
        placement=_placement(told["placement"]),
        alternatives=[_placement(one) for one in told.get("alternatives") or []],
        replicas=told["replicas"],
        on_demand_floor=told["on_demand_floor"],
    )


def _placement(told: dict[str, Any]) -> events.Placement:
    spot = told["capacity_type"] == "spot"
    values = {name: value for name, value in told.items() if value is not None and name != "capacity_type"}
    return events.Placement(
        **values, capacity_type=events.CAPACITY_TYPE_SPOT if spot else events.CAPACITY_TYPE_ON_DEMAND
    )
