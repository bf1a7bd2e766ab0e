"""What the loops act on and with, and what they remember between two turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.scheduler import placing
from services.scheduler.domain import Job
from services.scheduler.market_store import MarketStore
from services.scheduler.placing import Choice
from services.scheduler.policy import Decision, Lookahead, shipped
from services.scheduler.queueing import LastDecision, Queue
from services.scheduler.settings import Settings
from services.scheduler.store import BudgetRow, Store
from services.scheduler.watching import Watch
from sskai.cluster import Cluster, offer_of
from sskai.database import Database
from sskai.events import v1 as events
from sskai.known_budgets import PROJECT, KnownBudgets
from sskai.objects import Objects


@dataclass
class World:
    """`lookahead`: what the spot policy decides by. A restart forgets `watch`, which only makes it more patient."""

    database: Database
    cluster: Cluster
    settings: Settings
    clock: Callable[[], datetime] = field(kw_only=True)
    lookahead: Lookahead = field(default_factory=shipped)
    watch: Watch = field(default_factory=Watch)
    last_decision: LastDecision = field(default_factory=LastDecision)
    objects: Objects | None = None  # where logs of pods are kept; None: nowhere

    async def decide(self, job: Job, store: Store, now: datetime) -> Decision:
        """Spot, on-demand or wait, as the store's transaction sees job and market."""
        market = await self._market(store).market(placing.spot_offers(job))
        return await asyncio.to_thread(placing.decide, job, now, self.settings, market, self.lookahead)

    async def choose(self, job: Job, store: Store, now: datetime) -> Choice:
        """A candidate of the plan, or the rule that holds the job."""
        market = await self._market(store).market(placing.spot_offers(job))
        return await asyncio.to_thread(placing.choose, job, now, self.settings, market, self.lookahead)

    async def seconds_to_on_demand(self, job: Job, store: Store, now: datetime) -> float | None:
        """After how long a job that waits for spot takes on-demand if none comes, by the policy that has it wait."""
        market = await self._market(store).market(placing.spot_offers(job))
        return await asyncio.to_thread(placing.seconds_to_on_demand, job, now, self.settings, market, self.lookahead)

    async def saw(
        self, store: Store, placement: events.Placement, available: bool, now: datetime, *, all_the_while: bool = False
    ) -> None:
        """A look at an offer, where it is one of spot."""
        if placing.on_spot(placement):
            await self._market(store).saw(offer_of(placement), available, now, all_the_while=all_the_while)

    async def is_under_budget(self, store: Store, job: Job) -> bool:
        """Whether a budget of its tenant or project stops what passes it, so that the job reserves what it spends."""
        return await KnownBudgets(store.session, BudgetRow).covers(job.tenant_id, {PROJECT: job.spec.project})

    def _market(self, store: Store) -> MarketStore:
        return MarketStore(store.session, self.lookahead.model)

    def queue(self, store: Store, now: datetime) -> Queue:
        """The line of waiting jobs, as the store's transaction sees it."""
        return Queue(store.session, self.settings, now, self.last_decision)
