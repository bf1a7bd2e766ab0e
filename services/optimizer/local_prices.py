"""Tells what this computer's machines cost where the simulated cloud plays a market whose prices move.

A feed like any other: what is new goes out as `PriceObserved`, and is stored when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2

from services.optimizer.catalogue import LOCAL_CLOUD, LOCAL_PREFIX
from services.optimizer.feeds import Teller
from services.optimizer.prices import Observed, OfferKey
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from sskai import failpoints
from sskai.database import Database

SOURCE = "local"


class CloudAwayError(ConnectionError):
    """The simulated cloud does not answer, or not sensibly: ask again later."""


@failpoints.boundary("cloud", CloudAwayError)
class LocalCloud:
    """The simulated cloud's market: GET /prices."""

    def __init__(self, url: str, token: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._options: dict[str, Any] = {
            "base_url": url,
            "headers": {"Authorization": f"Bearer {token}"},
            "timeout": 5,
            "transport": transport,
        }

    async def prices(self) -> list[dict[str, Any]]:
        """A row for each offer. Raises CloudAwayError."""
        try:
            async with httpx2.AsyncClient(**self._options) as client:
                answer = await client.get("/prices")
                answer.raise_for_status()
                return [dict(row) for row in answer.json()["prices"]]
        except (httpx2.HTTPError, KeyError, TypeError, ValueError) as error:
            raise CloudAwayError(f"the local cloud does not tell its prices: {error!r}") from error


@dataclass
class LocalPrices:
    """`watch_local_prices` is a loop; while the cloud is away it raises, as a loop does, and is tried again."""

    database: Database
    settings: Settings
    transport: httpx2.AsyncBaseTransport | None = None
    _cloud: LocalCloud = field(init=False)
    _teller: Teller = field(init=False)

    def __post_init__(self) -> None:
        token = self.settings.cloud_token.get_secret_value()
        self._cloud = LocalCloud(self.settings.cloud_url or "", token, self.transport)
        self._teller = Teller(self.database, self.settings)

    async def watch_local_prices(self) -> None:
        """Every price that moves and has moved."""
        found, now = offers(await self._cloud.prices(), self.settings.local_machine_types), datetime.now(UTC)
        if not found:
            return
        async with self.database.transaction() as session:
            known = await Store(session).observed_prices()
        keys = [(OfferKey.parse(text), usd) for text, usd in sorted(found.items())]
        await self._teller.tell([(key, Observed(usd, now, SOURCE)) for key, usd in keys if key is not None], known)


def offers(rows: Iterable[Mapping[str, Any]], types: Iterable[str]) -> dict[str, float]:
    """USD an hour by the key of each offer of this computer whose price moves."""
    played = frozenset(types)
    return {
        OfferKey(
            LOCAL_CLOUD, row["region"], row["zone"], f"{LOCAL_PREFIX}{row['instance_type']}", row["capacity_type"]
        ).text: row["price_usd_per_hour"]
        for row in rows
        if row["live"] and row["instance_type"] in played
    }
