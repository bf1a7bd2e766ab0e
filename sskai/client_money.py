"""The client's costs and budgets: `client.costs.totals()`, `client.costs.export(path)`, `client.budgets.put(...)`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

Document = dict[str, Any]


class Asks(Protocol):
    """What these need of a client."""

    def request(self, method: str, path: str, **options: Any) -> Document: ...
    def pages(self, path: str, **filters: Any) -> Iterator[Document]: ...
    def save(self, path: str, params: Document, file: Path) -> int: ...


class Costs:
    def __init__(self, client: Asks) -> None:
        self._client = client

    def totals(self, *, group_by: str = "day", **filters: str | None) -> Document:
        """By day, kind, job, endpoint, project (commas between them); `since`, `until`, `kind`, ... narrow it."""
        return self._client.request("GET", "/v1/costs", params=_given(group_by=group_by, **filters))

    def export(self, file: Path, *, since: str | None = None, until: str | None = None) -> int:
        """Write the ledger as FOCUS 1.2, by the file's ending .csv or .parquet; returns its bytes."""
        kind = file.suffix.removeprefix(".")
        return self._client.save("/v1/costs/export", _given(format=kind, since=since, until=until), file)

    def endpoint(self, endpoint_id: str, *, month: str | None = None) -> Document:
        """An endpoint's receipt for a month ("2026-11")."""
        return self._client.request("GET", f"/v1/receipts/endpoints/{endpoint_id}", params=_given(month=month))


class Budgets:
    def __init__(self, client: Asks) -> None:
        self._client = client

    def put(self, scope: str, amount_usd: float, *, target: str | None = None, **options: Any) -> Document:
        """Set, or change. `options`: period, thresholds, action."""
        body = _given(scope=scope, target=target, amount_usd=amount_usd, **options)
        return self._client.request("PUT", "/v1/budgets", json=body)

    def get(self, budget_id: str) -> Document:
        return self._client.request("GET", f"/v1/budgets/{budget_id}")

    def list(self) -> Iterator[Document]:
        return self._client.pages("/v1/budgets")

    def delete(self, budget_id: str) -> None:
        self._client.request("DELETE", f"/v1/budgets/{budget_id}")


def _given(**values: Any) -> Document:
    return {name: value for name, value in values.items() if value is not None}
