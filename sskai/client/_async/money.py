"""Costs, budgets and receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sskai.client._async.transport import AsyncResource
from sskai.client.documents import Budget, Document, Receipt
from sskai.client.wire import given


class AsyncCosts(AsyncResource):
    async def totals(self, *, group_by: str = "day", **filters: str | None) -> Document:
        """By day, kind, job, endpoint, project (commas between them); `since`, `until`, `kind`, ... narrow it."""
        params = given(group_by=group_by, **filters)
        return await self._client.ask(dict[str, Any], "GET", "/v1/costs", params=params)

    async def export(self, file: Path, *, since: str | None = None, until: str | None = None) -> int:
        """Write the ledger as FOCUS 1.2, by the file's ending .csv or .parquet; returns its bytes."""
        kind = file.suffix.removeprefix(".")
        return await self._client.save("/v1/costs/export", given(format=kind, since=since, until=until), file)

    async def endpoint(self, endpoint_id: str, *, month: str | None = None) -> Document:
        """An endpoint's receipt for a month ("2026-11")."""
        path = f"/v1/receipts/endpoints/{endpoint_id}"
        return await self._client.ask(dict[str, Any], "GET", path, params=given(month=month))


class AsyncBudgets(AsyncResource):
    async def put(self, scope: str, amount_usd: float, *, target: str | None = None, **options: Any) -> Budget:
        """Set, or change. `options`: period, thresholds, action."""
        body = given(scope=scope, target=target, amount_usd=amount_usd, **options)
        return await self._client.ask(Budget, "PUT", "/v1/budgets", json=body)

    async def get(self, budget_id: str) -> Budget:
        return await self._client.ask(Budget, "GET", f"/v1/budgets/{budget_id}")

    def list(self) -> AsyncIterator[Budget]:
        return self._client.pages(Budget, "/v1/budgets")

    async def delete(self, budget_id: str) -> None:
        await self._client.ask(dict[str, Any], "DELETE", f"/v1/budgets/{budget_id}")


class AsyncReceipts(AsyncResource):
    async def get(self, job_id: str) -> Receipt:
        return await self._client.ask(Receipt, "GET", f"/v1/receipts/{job_id}")

    def list(self) -> AsyncIterator[Receipt]:
        return self._client.pages(Receipt, "/v1/receipts")

    async def wait(self, job_id: str, *, limit_seconds: float = 60, poll_seconds: float = 0.5) -> Receipt:
        """The receipt, which comes a moment after the job's end. TimeoutError after the limit."""
        return await self._client.until(
            Receipt,
            f"/v1/receipts/{job_id}",
            bool,
            limit_seconds=limit_seconds,
            poll_seconds=poll_seconds,
            may_be_missing=True,
        )
