"""What of the scheduler's tables events alone make (`sskai rebuild scheduler`): next to nothing. Jobs and attempts are
what its loops decided by the clock, the market and the cluster's word; after a loss `sskai recover attempts` helps."""

from __future__ import annotations

from services.scheduler.handlers import HANDLERS
from services.scheduler.settings import Settings
from services.scheduler.store import Store
from services.scheduler.tables import Base
from sskai.rebuilding.tables import Derived, Kept, Projection, Tables

LIFE = Kept("launches, leases and metering: loops, by the clock and by what the cluster says")
QUEUE = Kept("places and waits as they were at a loop's looks")

TABLES = Tables(
    Base.metadata,
    derived={"budgets": Derived()},
    kept={
        "jobs": LIFE,
        "attempts": LIFE,
        "early_answers": Kept("plans that came before their jobs; they go when those come"),
        "spot_offers": Kept("beliefs about the market, from what launches met"),
        "queue": QUEUE,
        "waits": QUEUE,
        "wait_predictions": QUEUE,
        "wait_calibrations": QUEUE,
        "tenant_months": QUEUE,
    },
)


def projection(_settings: Settings) -> Projection:
    return Projection("scheduler", HANDLERS, Store, TABLES)


if __name__ == "__main__":
    from sskai.rebuilding.command import main

    main(projection, Settings)
