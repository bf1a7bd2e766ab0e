"""What of inference's tables events alone make (`sskai rebuild inference`), and what loops, requests and pods do."""

from __future__ import annotations

from services.inference.handlers import HANDLERS
from services.inference.settings import Settings
from services.inference.store import Store
from services.inference.tables import Base
from sskai.rebuilding.tables import Derived, Kept, Projection, Tables

LIFE = Kept("what is loaded and where it runs: loops, by the cluster's word")
ANSWERS = Kept("counted of answers to requests")

TABLES = Tables(
    Base.metadata,
    derived={
        "model_versions": Derived(own=("traceparent",)),
        "evaluations": Derived(),
        "budgets": Derived(),
    },
    kept={
        "endpoints": LIFE,
        "replica_sets": LIFE,
        "replicas": LIFE,
        "rollouts": Kept("steps of a canary: loops, by the clock and by figures"),
        "figures": ANSWERS,
        "answers": ANSWERS,
        "feedback": ANSWERS,
    },
)


def projection(_settings: Settings) -> Projection:
    return Projection("inference", HANDLERS, Store, TABLES)


if __name__ == "__main__":
    from sskai.rebuilding.command import main

    main(projection, Settings)
