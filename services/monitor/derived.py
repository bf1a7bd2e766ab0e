"""What of the monitor's tables events alone make (`sskai rebuild monitor`), and what loops, spans and the cloud do."""

from __future__ import annotations

from services.monitor.handlers import HANDLERS
from services.monitor.settings import Settings
from services.monitor.store import store_of
from services.monitor.tables import Base
from sskai.rebuilding.tables import LEASE, Derived, Kept, Projection, Tables

SPANS = Kept("of spans (topic otlp_spans and OTLP), which are counted as they come and not told as events")
DRIFT = Kept("running tests: what they say depends on the order in which samples came")
CLOUD = Kept("of the cloud's own messages and what was asked of it")

TABLES = Tables(
    Base.metadata,
    derived={
        # Due while a receipt is: that stays as it stands.
        "jobs": Derived(own=(*LEASE, "closed_at", "traceparent")),
        "spend": Derived(),
        "spend_days": Derived(),
        "attempts": Derived(),
        # Retrains are asked for by loops and by the clock, too.
        "endpoints": Derived(own=("retrain_id", "retrain_requested_at", "retrain_job_id", "retrain_ended_at")),
        "model_versions": Derived(),
        "owners": Derived(),
        "budgets": Derived(),
        # Whether they are kept now, a loop looks at.
        "objectives": Derived(own=("breached", "burn_rates")),
    },
    kept={
        "receipts": Kept("issued by a loop once all rows of the ledger are there; the gateway has them from the log"),
        "budgets_told": Kept("what was told by the clock of then"),
        "reserves": Kept("decisions about money, in the order in which it was asked for"),
        "meters": Kept("how far a loop has metered what is kept"),
        "items": Kept("a loop forgets what is metered no more"),
        "retraining": Kept("schedules and counted alarms, which the clock moves on"),
        "retrain_suggestions": Kept("ids drawn once, and terms that run out"),
        "drift_references": Kept("fetched from the object store"),
        "drift_watches": DRIFT,
        "drift_windows": DRIFT,
        "drift_samples": DRIFT,
        "traces": SPANS,
        "spans": SPANS,
        "series": SPANS,
        "cells": SPANS,
        "cursors": CLOUD,
        "sources": CLOUD,
        "machines": CLOUD,
        "notices": CLOUD,
    },
)


def projection(settings: Settings) -> Projection:
    return Projection("monitor", HANDLERS, store_of(settings), TABLES)


if __name__ == "__main__":
    from sskai.rebuilding.command import main

    main(projection, Settings)
