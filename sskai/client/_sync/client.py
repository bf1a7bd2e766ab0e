# Made by `python -m tools.sync_client` of ../_async: edit that.
"""The client's names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx2

from sskai.client._sync.accounts import (
    Audit,
    Keys,
    Limits,
    Members,
    SignIn,
    Tenants,
)
from sskai.client._sync.data import Datasets, Models, Uploads
from sskai.client._sync.money import Budgets, Costs, Receipts
from sskai.client._sync.serving import Chat, Endpoints, Objectives, Retraining
from sskai.client._sync.training import Jobs, Plans
from sskai.client._sync.transport import Transport
from sskai.client._sync.watching import Figures, Traces, Webhooks
from sskai.client.documents import Document
from sskai.client.patience import RETRY_SECONDS
from sskai.client.wire import Event, given
from sskai.profiles import find

if TYPE_CHECKING:
    import openai


class Client:
    """Safe to share. Close it, or use it in a `with`.

    Without an address it takes SSKAI_GATEWAY_URL and SSKAI_API_KEY, else the profile that `sskai login` stored, else
    the embedded stack of this machine; NotConfiguredError if there is none.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        profile: str | None = None,
        retry_seconds: float = RETRY_SECONDS,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        if base_url is None or api_key is None:
            found = find(profile)
            base_url, api_key = base_url or found.url, api_key or found.key
        self.base_url = base_url.rstrip("/")
        self._key = api_key
        self._transport = Transport(base_url, api_key, retry_seconds=retry_seconds, transport=transport)
        self.uploads = Uploads(self._transport)
        self.datasets = Datasets(self._transport, self.uploads)
        self.models = Models(self._transport)
        self.plans = Plans(self._transport)
        self.jobs = Jobs(self._transport)
        self.endpoints = Endpoints(self._transport)
        self.objectives = Objectives(self._transport)
        self.retraining = Retraining(self._transport)
        self.chat = Chat(self._transport)
        self.costs = Costs(self._transport)
        self.budgets = Budgets(self._transport)
        self.receipts = Receipts(self._transport)
        self.traces = Traces(self._transport)
        self.figures = Figures(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.keys = Keys(self._transport)
        self.members = Members(self._transport)
        self.tenants = Tenants(self._transport)
        self.session = SignIn(self._transport)
        self.audit = Audit(self._transport)
        self.limits = Limits(self._transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def request(self, method: str, path: str, **options: Any) -> Document:
        """Any request of the HTTP API, with the client's retries. `options`: json, params, headers, timeout."""
        return self._transport.ask(dict[str, Any], method, path, **options)

    def events(
        self, *, after: int | None = None, types: Iterable[str] = (), subject: str | None = None
    ) -> Iterator[Event]:
        """Facts as they happen, without end; `after=0` begins with the oldest. A lost connection is resumed."""
        filters = given(types=",".join(types) or None, subject=subject)
        begin = None if after is None else str(after)
        for message in self._transport.follow("/v1/events", filters, after=begin):
            yield Event.of(message)

    def past_events(self, *, order: str = "desc", types: Iterable[str] = ()) -> Iterator[Document]:
        """CloudEvents that are kept, newest first (`order="asc"`: oldest), and no wait for new ones."""
        names = ",".join(types) or None
        return self._transport.pages(dict[str, Any], "/v1/events", format="json", order=order, types=names)

    def openai(self, **options: Any) -> openai.OpenAI:
        """A client of the `openai` package (install it beside) that speaks to this gateway by this key."""
        import openai

        return openai.OpenAI(base_url=f"{self.base_url}/v1", api_key=self._key, **options)
