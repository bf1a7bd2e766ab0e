"""What of the optimizer's tables events alone make (`sskai rebuild optimizer`), and what its loops do."""

from __future__ import annotations

from services.optimizer.handlers import HANDLERS
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from services.optimizer.tables import Base
from sskai.rebuilding.tables import Derived, Kept, Projection, Tables

FEED = Kept("asked of AWS, or measured of this computer")
DECISION = Kept("a decision with its inputs; the log has what was decided, not what of")
REQUEST = Kept("decisions that a loop is to make")

TABLES = Tables(
    Base.metadata,
    derived={
        # A requeue and a checkpoint both say how far a job is, by two topics: the later word stands.
        "jobs": Derived(own=("steps_done", "updated_at")),
        "prices": Derived(),
    },
    kept={
        "planning_requests": REQUEST,
        "endpoint_requests": REQUEST,
        "plans": DECISION,
        "endpoint_plans": DECISION,
        "markets": DECISION,
        "corrections": DECISION,
        "profiles": Kept("answers of the profiling worker"),
        "machine_facts": Kept("asked of AWS, or measured of this computer", seeded=True),
        "placement_scores": FEED,
        "feeds": FEED,
        "denials": Kept("counted within windows that begin with the first one to come"),
        "measurements": Kept("beside what the plan that was newest then had predicted"),
    },
)


def projection(_settings: Settings) -> Projection:
    return Projection("optimizer", HANDLERS, Store, TABLES)


if __name__ == "__main__":
    from sskai.rebuilding.command import main

    main(projection, Settings)
