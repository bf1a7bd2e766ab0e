"""`/v1/budgets`: how much a tenant, a project, an endpoint or a job may cost, and what happens when it does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Response
from pydantic import Field, StringConstraints, model_validator

from services.gateway import budgets
from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.etags import NOT_MODIFIED, Conditions, IfMatch, require_match, tagged
from services.gateway.api.world import ID_PATTERN, Here, Id, World, not_found
from services.gateway.budgets import MAX_BUDGETS, Budgets
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from services.gateway.plain import iso
from services.gateway.store import Store
from services.gateway.tables import BudgetRow
from sskai.delivery import tell
from sskai.http import Problem
from sskai.money import NANO_PER_USD

router = APIRouter(prefix="/v1/budgets", tags=["budgets"])

Threshold = Annotated[float, Field(gt=0, le=10)]


class BudgetForm(Form):
    scope: Literal["tenant", "project", "endpoint", "job"]
    # The project's name, the endpoint's id or the job's; of a tenant it is left out.
    target: Annotated[str, StringConstraints(pattern=ID_PATTERN)] | None = None
    amount_usd: Annotated[float, Field(gt=0, le=1e9)]
    period: Literal["month", "total"] = "month"  # a calendar month (UTC), or all time
    thresholds: Annotated[tuple[Threshold, ...], Field(max_length=10)] = (0.5, 0.8, 1.0)  # BudgetThresholdReached
    action: Literal["warn", "stop"] = "warn"  # stop: nothing is launched, and nothing goes on, beyond it

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.target is None) != (self.scope == "tenant"):
            raise ValueError("target goes with scope project, endpoint or job, and with them it must be there")
        if self.scope == "job" and self.period != "total":
            raise ValueError("period of a job's budget is total: write period: total")
        return self


@router.put("")
async def put_budget(form: BudgetForm, here: Here, caller: Caller, if_match: IfMatch) -> dict[str, Any]:
    """Set a budget. There is one for each scope, target and period: put again, it is changed."""
    now = here.now()
    target = form.target or caller.tenant_id
    row = BudgetRow(
        budget_id=budgets.budget_id(caller.tenant_id, form.scope, target, form.period),
        tenant_id=caller.tenant_id,
        scope=form.scope,
        target=target,
        amount_nano_usd=round(form.amount_usd * NANO_PER_USD),
        period=form.period,
        thresholds=sorted(set(form.thresholds)),
        action=form.action,
        set_at=now,
    )
    async with here.database.transaction() as session:
        await _require_target(form, Store(session), caller)
        kept = Budgets(session)
        before = await kept.get(caller.tenant_id, row.budget_id, lock=bool(if_match))
        require_match(if_match, shown(before, None) if before else None)
        if before is None and await kept.count(caller.tenant_id) >= MAX_BUDGETS:
            raise Problem(409, "Too many budgets", f"A tenant has at most {MAX_BUDGETS}: delete one")
        await kept.set(row)
        await tell(session, budgets.told(row))
    return shown(row, None)


@router.get("")
async def list_budgets(here: Here, caller: Caller) -> dict[str, Any]:
    """The tenant's budgets, with what is spent, reserved and left in the period now (null: the monitor is away)."""
    async with here.database.transaction() as session:
        rows = await Budgets(session).of_tenant(caller.tenant_id)
    data = await with_accounts(here, caller, rows)
    return {"object": "list", "data": data, "has_more": False, "next": None}


@router.get("/{budget_id}", response_model=dict[str, Any], responses=NOT_MODIFIED)
async def get_budget(budget_id: Id, here: Here, caller: Caller, conditions: Conditions) -> Response:
    """One budget and its account."""
    async with here.database.transaction() as session:
        row = await Budgets(session).get(caller.tenant_id, budget_id)
    if row is None:
        raise not_found("budget", budget_id)
    document = shown(row, (await accounts(here, caller)).get(budget_id))
    return tagged(document, conditions, state=shown(row, None))


@router.delete("/{budget_id}", status_code=204)
async def delete_budget(budget_id: Id, here: Here, caller: Caller, if_match: IfMatch) -> None:
    """It holds nobody any more. A job's hard budget stays as it was set last."""
    async with here.database.transaction() as session:
        kept = Budgets(session)
        if if_match and (row := await kept.get(caller.tenant_id, budget_id, lock=True)) is not None:
            require_match(if_match, shown(row, None))
        if not await kept.remove(caller.tenant_id, budget_id):
            raise not_found("budget", budget_id)
        await tell(session, budgets.removed(caller.tenant_id, budget_id, here.now()))


async def with_accounts(here: World, caller: Principal, rows: Sequence[BudgetRow]) -> list[dict[str, Any]]:
    """Budgets as they are shown, with their accounts as far as the monitor tells them."""
    known = await accounts(here, caller) if rows else {}
    return [shown(row, known.get(row.budget_id)) for row in rows]


def shown(row: BudgetRow, account: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": row.budget_id,
        "object": "budget",
        "scope": row.scope,
        "target": row.target,
        "amount_usd": row.amount_nano_usd / NANO_PER_USD,
        "amount_nano_usd": row.amount_nano_usd,
        "period": row.period,
        "thresholds": row.thresholds,
        "action": row.action,
        "set_at": iso(row.set_at),
        **_account(account),
    }


def _account(account: dict[str, Any] | None) -> dict[str, Any]:
    names = ("spent", "reserved", "left")
    exact = {f"{name}_nano_usd": account[f"{name}_nano_usd"] if account else None for name in names}
    in_usd = {f"{name}_usd": account[f"{name}_nano_usd"] / NANO_PER_USD if account else None for name in names}
    return {**exact, **in_usd, "period_name": account["period_name"] if account else None}


async def accounts(here: World, caller: Principal) -> dict[str, dict[str, Any]]:
    """By budget; none while the monitor is away: what was set can still be read."""
    try:
        answer = await monitor.ask(here, caller, "/v1/budgets", {})
    except Problem as problem:
        if problem.status < 500:
            raise
        return {}
    return {one["budget_id"]: one for one in json.loads(bytes(answer.body))["budgets"]}


async def _require_target(form: BudgetForm, store: Store, caller: Principal) -> None:
    """What is named must be the tenant's own. A project is whatever jobs and endpoints say that they belong to."""
    target = form.target or ""
    if form.scope == "job" and await store.job(caller.tenant_id, target) is None:
        raise not_found("job", target)
    if form.scope == "endpoint" and await store.endpoint(caller.tenant_id, target) is None:
        raise not_found("endpoint", target)
