"""The monitor as a process: `python -m services.monitor.main`."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from services.monitor import api, loops, otlp, spend_loops
from services.monitor.handlers import HANDLERS
from services.monitor.ingest import Ingest, count_outcomes, take
from services.monitor.metrics import SPANS
from services.monitor.notices import LocalCloud, Queue
from services.monitor.settings import Settings
from services.monitor.span_store import SpanStore
from services.monitor.store import Store
from sskai.contract import OTLP_TOPIC, UndecodableError
from sskai.database import Database
from sskai.objects import Objects
from sskai.service import Service, every


async def take_spans(value: bytes, store: Store, now: datetime) -> None:
    """A record of the `otlp_spans` topic: an ExportTraceServiceRequest (the Collector's encoding `otlp_proto`)."""
    try:
        batch = otlp.read(value, otlp.PROTOBUF, now)
    except otlp.UnreadableError as error:
        raise UndecodableError(str(error)) from error
    count_outcomes(await take(SpanStore(store.session), batch.spans))
    SPANS.labels(outcome="rejected").inc(batch.rejected)


def build(settings: Settings) -> Service:
    database = Database(settings.database_url.get_secret_value(), "monitor")
    objects = Objects.from_settings(settings)
    running = [
        every(0.25, partial(loops.issue_receipts, database, settings.receipt_settle_seconds)),
        every(0.5, partial(loops.fetch_references, database, objects)),
        every(60, partial(spend_loops.meter_things, database, settings.rules)),
        every(3600, partial(spend_loops.forget_reserves, database)),
        every(2, partial(spend_loops.answer_waiting, database), name="answer_reserve_requests"),
        every(60, partial(loops.forget, database, settings.trace_retention_days, settings.max_stored_spans)),
    ]
    if settings.cloud_url:
        cloud = LocalCloud(settings.cloud_url, settings.cloud_token.get_secret_value())
        running.append(every(settings.interruption_poll_seconds, partial(loops.read_local_cloud, database, cloud)))
    if settings.interruption_queue_url:
        queue = Queue(settings.interruption_queue_url)
        running.append(every(settings.interruption_poll_seconds, partial(loops.read_queue, database, queue)))
    return Service(
        "monitor",
        settings,
        HANDLERS,
        partial(Store, rules=settings.rules),
        loops=running,
        api=api.build(database, Ingest(database), settings.internal_token.get_secret_value()),
        raw_topics={OTLP_TOPIC: take_spans},
        database=database,
    )


def main() -> None:
    build(Settings()).run()


if __name__ == "__main__":
    main()
