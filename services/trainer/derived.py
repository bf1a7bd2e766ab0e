"""What of the trainer's tables events alone make (`sskai rebuild trainer`), and what its loops do."""

from __future__ import annotations

from services.trainer.handlers import HANDLERS
from services.trainer.settings import Settings
from services.trainer.store import Base, Store
from sskai.rebuilding.tables import LEASE, Derived, Kept, Projection, Tables

TABLES = Tables(
    Base.metadata,
    derived={
        # What a loop found when it looked at the artefact stays.
        "results": Derived(own=(*LEASE, "state", "detail", "model_id", "version", "traceparent")),
        "ended_jobs": Derived(own=LEASE),
    },
    kept={"models": Kept("ids and numbers of versions, given out once")},
)


def projection(_settings: Settings) -> Projection:
    return Projection("trainer", HANDLERS, Store, TABLES)


if __name__ == "__main__":
    from sskai.rebuilding.command import main

    main(projection, Settings)
