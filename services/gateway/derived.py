"""What of the gateway's tables events alone make (`sskai rebuild gateway`), and what requests and loops do."""

from __future__ import annotations

from functools import partial

from services.gateway.handlers import HANDLERS
from services.gateway.loops import forget_old
from services.gateway.settings import Settings
from services.gateway.store import Store
from services.gateway.tables import Base
from sskai.rebuilding.tables import Derived, Kept, Projection, Tables

ACCOUNTS = Kept("who may do what: requests and sign-ins write it")
WORK = Kept("work of a loop, and how far it is")

TABLES = Tables(
    Base.metadata,
    derived={
        "jobs": Derived(own=("updated_at",)),
        "spends": Derived(),
        # A request that waits for its answer has a row, too; when it was asked is not in the answer.
        "plans": Derived(own=("created_at",), where="status <> 'pending'"),
        "replays": Derived(own=("created_at",), where="status <> 'pending'"),
        # How it calls its model is the request's own wording.
        "endpoints": Derived(own=("model",)),
        "receipts": Derived(),
        # Which of a job's holds are news depends on what came between them, by another topic.
        "marks": Derived(where="kind <> 'hold'"),
        "notices": Derived(),
        "prices": Derived(),
        # Uploaded versions come with a request; deletions are made by requests as well.
        "models": Derived(own=("parameters", "bytes", "deleted_at"), where="origin = 'trained'"),
        "traffic": Derived(own=("kept_at",)),
        # Numbered as they came, and each with the trace of its handling.
        "events": Derived(
            own=("id", "at"),
            key=("event->>'source'", "event->>'id'"),
            compared={"event": "event - 'traceparent'"},
        ),
    },
    kept={
        "answers": Kept("what requests with an Idempotency-Key were answered"),
        "datasets": Kept("made with the files; DatasetValidated has no report"),
        "aliases": Kept("moved by hand and by deletions as well as by events"),
        "budgets": Kept("as a request set them, which every event about one must fit", seeded=True),
        "retrains": Kept("which job answers a retrain: its id was drawn once", seeded=True),
        "fine_tunes": Kept("what a request asked for beside the job", seeded=True),
        "cuts": WORK,
        "purges": WORK,
        "uploads": WORK,
        "deliveries": WORK,
        "webhooks": Kept("set by requests, with their secrets"),
        "tenants": ACCOUNTS,
        "users": ACCOUNTS,
        "members": ACCOUNTS,
        "keys": ACCOUNTS,
        "sessions": ACCOUNTS,
        "links": ACCOUNTS,
        "audit": Kept("a chain of hashes that triggers write"),
    },
    unbound=("uq_endpoints_live_name",),
)


def projection(settings: Settings) -> Projection:
    return Projection("gateway", HANDLERS, Store, TABLES, partial(forget_old, settings=settings))


if __name__ == "__main__":
    from sskai.rebuilding.command import main

    main(projection, Settings)
