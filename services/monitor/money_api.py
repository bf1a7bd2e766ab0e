"""What the gateway may ask about money: totals, the FOCUS export, budgets with what is left, an endpoint's month."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select

from services.monitor import budgets, costs, focus_files
from services.monitor.budget_store import BudgetStore
from services.monitor.budgets import Account
from services.monitor.costs import Between, CostQuery
from services.monitor.focus import Charge
from services.monitor.spend_store import SpendStore
from services.monitor.tables import ReceiptRow
from sskai.database import Database
from sskai.http import Problem
from sskai.internal import Tenant

PAGE = 1000


class ExportQuery(Between):
    format: Literal["csv", "parquet"] = "csv"


def add(app: FastAPI, database: Database) -> None:
    """The routes."""

    @app.get("/v1/costs")
    async def totals(tenant_id: Tenant, query: Annotated[CostQuery, Query()]) -> dict[str, Any]:
        """Totals of a span's days (the whole days that it touches), in groups, and of the month to date."""
        now = datetime.now(UTC)
        since, until = query.span(now)
        first, last = costs.days_of(since, until)
        async with database.transaction() as session:
            spends = SpendStore(session)
            groups = query.groups
            found = await spends.totals(tenant_id, first, last, groups, costs.MAX_GROUPS + 1, **query.filters)
            month = await spends.totals(tenant_id, now.date().replace(day=1), now.date(), [], 1, **query.filters)
            saved = await _time_saved_seconds(spends, tenant_id, since, until)
        if len(found) > costs.MAX_GROUPS:
            raise Problem(422, "Too many groups", f"over {costs.MAX_GROUPS}: ask for a shorter span", field="group_by")
        return {
            "object": "costs",
            "since": first,
            "until": last,
            "group_by": groups,
            "groups": costs.answer(groups, found),
            "total": costs.sums(costs.added(found)),
            "month_to_date": costs.sums(costs.added(month)),
            "time_saved_seconds": saved,
        }

    @app.get("/v1/costs/export")
    async def export(tenant_id: Tenant, query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        """Every row of the ledger that begins in the span, as FOCUS 1.2."""
        since, until = query.span(datetime.now(UTC))
        pages = _pages(database, tenant_id, since, until)
        name = f"sskai-costs-{since:%Y%m%d}-{until:%Y%m%d}.{query.format}"
        return StreamingResponse(
            focus_files.WRITERS[query.format](pages),
            media_type=focus_files.MEDIA_TYPES[query.format],
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    @app.get("/v1/budgets")
    async def list_budgets(tenant_id: Tenant) -> dict[str, Any]:
        """What is spent, reserved and left of each budget in its period now."""
        now = datetime.now(UTC)
        async with database.transaction() as session:
            of = BudgetStore(session)
            accounts = [await of.account(one, now) for one in await of.of_tenant(tenant_id)]
        return {"budgets": [_shown(account, now) for account in accounts]}

    @app.get("/v1/receipts/endpoints/{endpoint_id}")
    async def endpoints_month(endpoint_id: str, tenant_id: Tenant, month: str | None = None) -> dict[str, Any]:
        """What an endpoint's replicas cost in a calendar month (by default this one), to date or whole."""
        now = datetime.now(UTC)
        name = month or f"{now:%Y-%m}"
        try:
            first, after = budgets.month_days(name)
        except ValueError as error:
            raise Problem(422, "No such month", "month: is written as 2026-11", field="month") from error
        last = (after - timedelta(days=1)).date()
        async with database.transaction() as session:
            spends = SpendStore(session)
            days = await spends.totals(tenant_id, first.date(), last, ["day"], 31, endpoint=endpoint_id)
        if not days:
            raise Problem(404, "No such receipt", f"{endpoint_id} is not known here, not yours, or cost nothing then")
        return {
            "object": "endpoint.receipt",
            "endpoint_id": endpoint_id,
            "month": name,
            "final": now >= after + _SETTLED,
            **costs.sums(costs.added(days)),
            "days": costs.answer(["day"], days),
        }


# The last rows of a month may still be on their way when it is over.
_SETTLED = timedelta(days=1)


async def _time_saved_seconds(spends: SpendStore, tenant_id: str, since: datetime, until: datetime) -> float:
    """Of the jobs whose receipts were issued in the span, against the naive choice."""
    told = ReceiptRow.body["time_saved_seconds"].as_float()
    statement = select(func.sum(told)).where(
        ReceiptRow.tenant_id == tenant_id, ReceiptRow.issued_at >= since, ReceiptRow.issued_at < until
    )
    return float(await spends.session.scalar(statement) or 0.0)


async def _pages(
    database: Database, tenant_id: str, since: datetime, until: datetime
) -> AsyncIterator[Sequence[Charge]]:
    """A page at a time, each by a transaction of its own: a slow reader holds none open."""
    after: tuple[Any, ...] | None = None
    while True:
        async with database.transaction() as session:
            rows = await SpendStore(session).page(tenant_id, since, until, after, PAGE)
            page = [Charge(row, name, project) for row, name, project in rows]
            session.expunge_all()
        yield page
        if len(page) < PAGE:
            return
        last = page[-1].row
        after = (last.started_at, last.job_id, last.kind, last.interval)


def _shown(account: Account, now: datetime) -> dict[str, Any]:
    budget = account.budget
    return {
        "budget_id": budget.budget_id,
        "period_name": budgets.period_of(budget, now),
        "spent_nano_usd": account.spent,
        "reserved_nano_usd": account.reserved,
        "left_nano_usd": max(0, account.left),
    }
