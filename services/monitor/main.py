"""The monitor as a process: `python -m services monitor`."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from services.monitor import api, exposition, housekeeping, loops, otlp, retrain_loops, spend_loops
from services.monitor.handlers import HANDLERS
from services.monitor.ingest import Ingest, Sampler, count_outcomes, take
from services.monitor.metrics import SPANS
from services.monitor.objective_loop import watch_objectives
from services.monitor.reading import Reader
from services.monitor.sampling import Sampling
from services.monitor.settings import Settings
from services.monitor.sources import LocalCloud, Queue
from services.monitor.span_store import SpanStore
from services.monitor.store import Store, store_of
from sskai.contract import OTLP_TOPIC, UndecodableError
from sskai.database import Database
from sskai.objects import Objects
from sskai.service import Service, every


async def take_spans(sampler: Sampler, value: bytes, store: Store, now: datetime) -> None:
    """A record of the `otlp_spans` topic: an ExportTraceServiceRequest (the Collector's encoding `otlp_proto`)."""
    try:
        batch = otlp.read(value, otlp.PROTOBUF, now)
    except otlp.UnreadableError as error:
        raise UndecodableError(str(error)) from error
    count_outcomes(await take(SpanStore(store.session), batch.spans, sampler.sampling))
    SPANS.labels(outcome="rejected").inc(batch.rejected)


def build(settings: Settings) -> Service:
    database = Database(settings.database_url.get_secret_value(), "monitor")
    objects = Objects.from_settings(settings)
    sampler = Sampler(Sampling(settings.trace_sample_fraction, settings.trace_slow_seconds))
    retention = settings.figures_retention
    running = [
        every(0.25, partial(loops.issue_receipts, database, settings.receipt_settle_seconds)),
        every(0.5, partial(loops.fetch_references, database, objects)),
        every(60, partial(spend_loops.meter_things, database, settings.rules)),
        every(3600, partial(spend_loops.forget_reserves, database)),
        every(2, partial(spend_loops.answer_waiting, database), name="answer_reserve_requests"),
        every(settings.retrain_look_seconds, partial(retrain_loops.follow_schedules, database, settings.rules)),
        every(settings.retrain_look_seconds, partial(retrain_loops.end_suggestions, database, settings.rules)),
        every(3600, partial(retrain_loops.forget_suggestions, database)),
        every(settings.objectives_look_seconds, partial(watch_objectives, database)),
        every(settings.metrics_look_seconds, partial(exposition.look, database), name="show_figures"),
        every(10, partial(housekeeping.roll_up, database, retention)),
        every(
            60,
            partial(
                housekeeping.forget,
                database,
                settings.trace_retention_days,
                settings.max_stored_spans,
                retention,
            ),
        ),
    ]
    reader = Reader(database, settings.interruption_lead_seconds)
    running += [every(5, reader.tell_due), every(60, reader.forget, name="forget_notices")]
    if not sampler.sampling.keeps_all:
        running.append(every(60, partial(housekeeping.learn_usual_durations, database, sampler)))
        running.append(every(5, partial(housekeeping.sample_traces, database, sampler, settings.trace_quiet_seconds)))
    if settings.cloud_url:
        cloud = LocalCloud(settings.cloud_url, settings.cloud_token.get_secret_value())
        running.append(every(settings.interruption_poll_seconds, partial(reader.read_local_cloud, cloud)))
    for url in settings.queue_urls:
        read = partial(reader.read_queue, Queue(url), settings.interruption_wait_seconds)
        running.append(every(settings.interruption_poll_seconds, read))
    return Service(
        "monitor",
        settings,
        HANDLERS,
        store_of(settings),
        loops=running,
        api=api.build(
            database,
            Ingest(database, sampler),
            settings.internal_token.get_secret_value(),
            retention,
            settings.rules,
        ),
        raw_topics={OTLP_TOPIC: partial(take_spans, sampler)},
        database=database,
    )


def main() -> None:
    build(Settings()).run()
