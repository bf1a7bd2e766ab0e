# Made by `python -m tools.sync_client` of ../_async: edit that.
"""Traces, figures and webhooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sskai.client._sync.transport import Resource
from sskai.client.documents import Delivery, Document, Webhook
from sskai.client.wire import given


class Traces(Resource):
    def get(self, trace_id: str, *, shape: str = "list") -> Document:
        """Its spans, parents before children; `shape="tree"`: children within their parents."""
        return self._client.ask(dict[str, Any], "GET", f"/v1/traces/{trace_id}", params={"shape": shape})


class Figures(Resource):
    def get(self, **query: str | None) -> Document:
        """Rates, errors, durations and tokens as they were counted: `window`, `group_by`, `since`, `job_id`, ..."""
        return self._client.ask(dict[str, Any], "GET", "/v1/figures", params=given(**query))


class Webhooks(Resource):
    def create(self, url: str, types: Sequence[str] = ()) -> Webhook:
        """Events from now on are sent there (of these types; none: all). `secret` is in this answer only."""
        return self._client.ask(Webhook, "POST", "/v1/webhooks", json={"url": url, "types": [*types]})

    def list(self) -> Iterator[Webhook]:
        return self._client.pages(Webhook, "/v1/webhooks")

    def get(self, webhook_id: str) -> Webhook:
        """One, and what became of the newest events for it."""
        return self._client.ask(Webhook, "GET", f"/v1/webhooks/{webhook_id}")

    def change(self, webhook_id: str, **change: Any) -> Webhook:
        """`url`, `types`, `enabled`."""
        return self._client.ask(Webhook, "PATCH", f"/v1/webhooks/{webhook_id}", json=change)

    def delete(self, webhook_id: str) -> None:
        self._client.ask(dict[str, Any], "DELETE", f"/v1/webhooks/{webhook_id}")

    def test(self, webhook_id: str) -> Document:
        """Send it an event of no meaning."""
        return self._client.ask(dict[str, Any], "POST", f"/v1/webhooks/{webhook_id}/test")

    def rotate_secret(self, webhook_id: str) -> Webhook:
        return self._client.ask(Webhook, "POST", f"/v1/webhooks/{webhook_id}/secret")

    def deliveries(self, webhook_id: str, state: str | None = None) -> Iterator[Delivery]:
        return self._client.pages(Delivery, f"/v1/webhooks/{webhook_id}/deliveries", state=state)

    def replay(self, webhook_id: str, *, after: int | str) -> Document:
        """Send again all that happened after a position or a time."""
        return self._client.ask(dict[str, Any], "POST", f"/v1/webhooks/{webhook_id}/replay", json={"after": after})

    def replay_delivery(self, webhook_id: str, delivery_id: str) -> Document:
        path = f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"
        return self._client.ask(dict[str, Any], "POST", path)
