"""Prometheus metrics that every service shows. Names are `sskai_<thing>_<unit>[_total]`; no ids as labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS_HANDLED = Counter("sskai_events_handled", "Events taken in, by what became of them", ["type", "outcome"])
EVENTS_TOLD = Counter("sskai_events_told", "Events put into the outbox", ["type"])
EVENTS_SKIPPED = Counter("sskai_events_skipped", "Events of a type that this version does not know", ["topic"])
DEAD_LETTERS = Counter("sskai_dead_letters", "Records set aside", ["topic", "reason"])
HANDLER_SECONDS = Histogram(
    "sskai_handler_seconds",
    "Time to handle one event, transaction included",
    ["type"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
CONSUMER_LAG = Gauge("sskai_consumer_lag_events", "Events fetched or waiting on the broker, not handled yet", ["topic"])
LOOP_SECONDS = Histogram(
    "sskai_loop_seconds", "Time of one turn of a loop", ["loop"], buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60)
)
LOOP_ERRORS = Counter("sskai_loop_errors", "Turns of a loop that raised", ["loop"])
OUTBOX_EVENTS = Gauge("sskai_outbox_events", "Events that wait in the outbox, 10,000 at most")
OUTBOX_AGE_SECONDS = Gauge("sskai_outbox_age_seconds", "Since the oldest event in the outbox was told; 0: none waits")
CLOCK_AHEAD_SECONDS = Gauge("sskai_clock_ahead_seconds", "Of this machine's clock, before the database's")
DATABASE_CONNECTIONS = Gauge("sskai_database_connections", "Connections of this process that are in use")
DATABASE_CONNECTIONS_LIMIT = Gauge("sskai_database_connections_limit", "How many of them there may be")
