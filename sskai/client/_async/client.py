"""The client's names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx2

from sskai.client._async.accounts import (
    AsyncAudit,
    AsyncKeys,
    AsyncLimits,
    AsyncMembers,
    AsyncSignIn,
    AsyncTenants,
)
from sskai.client._async.data import AsyncDatasets, AsyncModels, AsyncUploads
from sskai.client._async.money import AsyncBudgets, AsyncCosts, AsyncReceipts
from sskai.client._async.serving import AsyncChat, AsyncEndpoints, AsyncObjectives, AsyncRetraining
from sskai.client._async.training import AsyncJobs, AsyncPlans
from sskai.client._async.transport import AsyncTransport
from sskai.client._async.watching import AsyncFigures, AsyncTraces, AsyncWebhooks
from sskai.client.documents import Document
from sskai.client.patience import RETRY_SECONDS
from sskai.client.wire import Event, given
from sskai.profiles import find

if TYPE_CHECKING:
    import openai


class AsyncClient:
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
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        if base_url is None or api_key is None:
            found = find(profile)
            base_url, api_key = base_url or found.url, api_key or found.key
        self.base_url = base_url.rstrip("/")
        self._key = api_key
        self._transport = AsyncTransport(base_url, api_key, retry_seconds=retry_seconds, transport=transport)
        self.uploads = AsyncUploads(self._transport)
        self.datasets = AsyncDatasets(self._transport, self.uploads)
        self.models = AsyncModels(self._transport)
        self.plans = AsyncPlans(self._transport)
        self.jobs = AsyncJobs(self._transport)
        self.endpoints = AsyncEndpoints(self._transport)
        self.objectives = AsyncObjectives(self._transport)
        self.retraining = AsyncRetraining(self._transport)
        self.chat = AsyncChat(self._transport)
        self.costs = AsyncCosts(self._transport)
        self.budgets = AsyncBudgets(self._transport)
        self.receipts = AsyncReceipts(self._transport)
        self.traces = AsyncTraces(self._transport)
        self.figures = AsyncFigures(self._transport)
        self.webhooks = AsyncWebhooks(self._transport)
        self.keys = AsyncKeys(self._transport)
        self.members = AsyncMembers(self._transport)
        self.tenants = AsyncTenants(self._transport)
        self.session = AsyncSignIn(self._transport)
        self.audit = AsyncAudit(self._transport)
        self.limits = AsyncLimits(self._transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def request(self, method: str, path: str, **options: Any) -> Document:
        """Any request of the HTTP API, with the client's retries. `options`: json, params, headers, timeout."""
        return await self._transport.ask(dict[str, Any], method, path, **options)

    async def events(
        self, *, after: int | None = None, types: Iterable[str] = (), subject: str | None = None
    ) -> AsyncIterator[Event]:
        """Facts as they happen, without end; `after=0` begins with the oldest. A lost connection is resumed."""
        filters = given(types=",".join(types) or None, subject=subject)
        begin = None if after is None else str(after)
        async for message in self._transport.follow("/v1/events", filters, after=begin):
            yield Event.of(message)

    def past_events(self, *, order: str = "desc", types: Iterable[str] = ()) -> AsyncIterator[Document]:
        """CloudEvents that are kept, newest first (`order="asc"`: oldest), and no wait for new ones."""
        names = ",".join(types) or None
        return self._transport.pages(dict[str, Any], "/v1/events", format="json", order=order, types=names)

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        """A client of the `openai` package (install it beside) that speaks to this gateway by this key."""
        import openai

        return openai.AsyncOpenAI(base_url=f"{self.base_url}/v1", api_key=self._key, **options)
