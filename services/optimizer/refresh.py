"""Keeps facts and prices fresh: asks AWS, region by region, and tells what is new as anybody's price feed would.

Prices are told (`feeds.py`); machine facts and placement scores are the optimizer's own and are stored at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import structlog
from prometheus_client import Counter, Gauge

from services.optimizer import catalogue, prices
from services.optimizer.aws import SKIPPED, AwsError
from services.optimizer.catalogue import DESCRIBED, MachineFacts
from services.optimizer.feeds import Teller
from services.optimizer.prices import Observed, OfferKey
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from services.optimizer.tables import FeedRow
from sskai import claims
from sskai.database import Database

log = structlog.get_logger()

AGE = Gauge("sskai_optimizer_feed_age_seconds", "Since a feed was last fresh", ["region", "kind"])
FACTS = Gauge("sskai_optimizer_feed_facts", "Facts that the last fresh answer held", ["region", "kind"])
FAILURES = Counter("sskai_optimizer_feed_failures", "Questions without a usable answer", ["region", "kind"])

# In this order: a price is taken only for a machine that is known, and spot only beside its on-demand price.
MACHINES, ON_DEMAND, SPOT, SCORES = KINDS = ("machines", "on-demand", "spot", "placement-scores")
DAY = 86_400.0
SCORES_EVERY_SECONDS = 3600.0
RETRY_SECONDS = 300.0
# Longer than a question may take with all its pages and retries (`aws.ANSWER_SECONDS`, and one page beyond).
LEASE_SECONDS = 600.0
SOURCES = {ON_DEMAND: "aws pricing api", SPOT: "aws spot price history"}
NOTHING = "the answer held nothing that can be used"


class Source(Protocol):
    """AWS as the loop sees it (`aws.Aws`): blocking calls that raise AwsError, prices and scores by offer key."""

    def machine_types(self, region: str) -> list[MachineFacts]: ...

    def spot_prices(self, region: str, instance_types: Sequence[str], now: datetime) -> dict[OfferKey, float]: ...

    def on_demand_prices(self, region: str) -> dict[OfferKey, float]: ...

    def placement_scores(self, region: str, instance_types: Sequence[str]) -> dict[OfferKey, int]: ...


@dataclass
class Refresher:
    """`refresh_prices` is a loop. Each (region, kind) is a row that one replica claims when it is due."""

    database: Database
    settings: Settings
    source: Source
    _teller: Teller = field(init=False)
    _fresh_at: dict[tuple[str, str], float] = field(default_factory=dict, init=False)  # epoch seconds

    def __post_init__(self) -> None:
        self._teller = Teller(self.database, self.settings)

    async def refresh_prices(self) -> None:
        """Everything that is due by now. What fails is written down beside its region and kind, and tried again."""
        regions = self.settings.aws_regions
        kinds = KINDS if self.settings.aws_scored_types else KINDS[:-1]
        async with self.database.transaction() as session:
            await Store(session).add_feeds(regions, kinds)
        for kind in kinds:
            mine = (FeedRow.kind == kind) & FeedRow.region.in_(regions)
            for _ in regions:
                claimed = await claims.claim(self.database, FeedRow, limit=1, lease_seconds=LEASE_SECONDS, where=mine)
                for feed in claimed:
                    await self._refresh(feed)
        await self._show(regions, kinds)

    async def _refresh(self, feed: FeedRow) -> None:
        now = datetime.now(UTC)
        try:
            count = await self._take(feed.kind, feed.region, now)
            problem = None if count else NOTHING
        except AwsError as error:
            count, problem = 0, str(error)[:1000]
        period = {SPOT: self.settings.price_refresh_seconds, SCORES: SCORES_EVERY_SECONDS}.get(feed.kind, DAY)
        stamp: dict[str, Any] = {"error": problem}
        if problem is None:
            stamp |= {"refreshed_at": now, "facts": count}
        else:
            period = min(period, RETRY_SECONDS)
            FAILURES.labels(region=feed.region, kind=feed.kind).inc()
            log.warning("no fresh facts", region=feed.region, kind=feed.kind, error=problem)
        async with self.database.transaction() as session:
            await claims.release(session, feed, due_in_seconds=period, **stamp)

    async def _take(self, kind: str, region: str, now: datetime) -> int:
        """Ask and keep, or tell; returns how many facts could be used. Raises AwsError."""
        if kind == MACHINES:
            return await self._keep_machines(await asyncio.to_thread(self.source.machine_types, region), now)
        if kind == SCORES:
            types = self.settings.aws_scored_types
            scores = await asyncio.to_thread(self.source.placement_scores, region, types)
            async with self.database.transaction() as session:
                await Store(session).save_scores({key.text: score for key, score in scores.items()}, now)
            return len(scores)
        if kind == ON_DEMAND:
            found = await asyncio.to_thread(self.source.on_demand_prices, region)
        else:
            found = await asyncio.to_thread(self.source.spot_prices, region, await self._types(), now)
        return await self._tell_prices(kind, found, now)

    async def _types(self) -> list[str]:
        async with self.database.transaction() as session:
            described = await Store(session).machine_facts(DESCRIBED)
        return sorted({*catalogue.snapshot().machines, *described})

    async def _keep_machines(self, described: Sequence[MachineFacts], now: datetime) -> int:
        usable = {}
        for facts in described:
            if catalogue.machine_of(facts) is not None:
                usable[facts.instance_type] = asdict(facts)
            else:
                SKIPPED.labels(kind=MACHINES, reason="unknown-processor").inc()
        async with self.database.transaction() as session:
            await Store(session).save_machine_facts(usable, DESCRIBED, now)
        return len(usable)

    async def _tell_prices(self, kind: str, found: Mapping[OfferKey, float], now: datetime) -> int:
        """Tell what differs from the newest that is known; returns how many prices hold."""
        async with self.database.transaction() as session:
            store = Store(session)
            known = await store.observed_prices()
            described = await store.machine_facts(DESCRIBED)
        holding = []
        for key in sorted(found, key=_text):
            observed = Observed(found[key], now, SOURCES[kind])
            newest = self._teller.newest(key, known)
            told, is_described = known.get(key.of_region.text), key.instance_type in described
            reference = prices.reference_usd_per_hour(key, told=told, described=is_described)
            outcome = prices.verdict(reference, observed, newest, now)
            if outcome != "accepted":
                SKIPPED.labels(kind=kind, reason=outcome).inc()
                continue
            holding.append((key, observed))
        told_now = await self._teller.tell(holding, known)
        log.info("prices refreshed", kind=kind, holding=len(holding), told=told_now)
        return len(holding)

    async def _show(self, regions: Sequence[str], kinds: Sequence[str]) -> None:
        """The age of every feed as a gauge that grows by itself: also while this loop stands still."""
        async with self.database.transaction() as session:
            feeds = await Store(session).feeds()
        for feed in feeds:
            if feed.region not in regions or feed.kind not in kinds:
                continue
            labels = {"region": feed.region, "kind": feed.kind}
            at = feed.refreshed_at.timestamp() if feed.refreshed_at else float("-inf")
            self._fresh_at[feed.region, feed.kind] = at
            AGE.labels(**labels).set_function(partial(self._age_seconds, feed.region, feed.kind))
            FACTS.labels(**labels).set(feed.facts)

    def _age_seconds(self, region: str, kind: str) -> float:
        return time.time() - self._fresh_at[region, kind]


def _text(key: OfferKey) -> str:
    return key.text
