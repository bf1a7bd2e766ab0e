"""What the loops act on and with, and what they remember between two turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.scheduler.cluster import Cluster
from services.scheduler.queueing import LastDecision, Queue
from services.scheduler.settings import Settings
from services.scheduler.store import Store
from services.scheduler.watching import Watch
from sskai.database import Database


@dataclass
class World:
    """A restart forgets `watch`, which only makes the scheduler more patient."""

    database: Database
    cluster: Cluster
    settings: Settings
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    watch: Watch = field(default_factory=Watch)
    last_decision: LastDecision = field(default_factory=LastDecision)

    def queue(self, store: Store, now: datetime) -> Queue:
        """The line of waiting jobs, as the store's transaction sees it."""
        return Queue(store.session, self.settings, now, self.last_decision)
