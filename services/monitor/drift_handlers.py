"""What the monitor does about samples, labels and versions: one step of every drift test of the version."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.message import Message

from services.monitor import drift_explained, drift_watch
from services.monitor.drift import TEST
from services.monitor.drift_store import MAX_ALARMS, DriftStore
from services.monitor.drift_streams import Reference, Sample, Window, labelled_values
from services.monitor.drift_texts import Texts
from services.monitor.drift_watch import Alarm, Watch
from services.monitor.metrics import DRIFT_DETECTIONS, DRIFT_SAMPLES, DRIFT_WINDOWS
from services.monitor.store import Store
from services.monitor.tables import DriftWatchRow
from sskai.contract import moment, timestamp
from sskai.events import v1 as events


async def test_for_drift(event: events.InferenceSampled, store: Store, now: datetime) -> list[Message]:
    drifts = DriftStore(store.session)
    watched = await _watched(event, store, now)
    if watched is None:
        return []
    row = await drifts.row_of(watched, event.inference_id)
    if row.input_text is not None:
        DRIFT_SAMPLES.labels(kind="sample", outcome="duplicate").inc()
        return []
    DRIFT_SAMPLES.labels(kind="sample", outcome="counted").inc()
    sample = _sample(event)
    row.input_text, row.output_text = sample.input_text, None if sample.error else sample.output_text
    await store.session.flush()

    watch, rules = drift_watch.from_json(watched.state), store.rules.drift
    training, window = await drifts.training(event.model_id, event.version), await drifts.window(watched)
    if training is not None and not watch.has(Reference.TRAINING):
        watch = watch.against_training(training)
    at_seconds = moment(event.at).timestamp()
    window_before = watch.window_samples
    watch, alarms = watch.observe(sample, at_seconds, training, window, rules)
    if watch.window_samples < window_before:
        watched.window_after = watched.rows
        DRIFT_WINDOWS.labels(outcome="drifted").inc()
    elif watch.window_full(rules):
        watch = await _close_window(watch, watched, drifts)
    if row.feedback is not None:
        watch, more = _observe_label(
            watch, row.feedback, row.output_text, event.inference_id, at_seconds, store, late=True
        )
        alarms += more
    return await _tell(watch, alarms, watched, drifts, training, window, now)


async def take_feedback(event: events.FeedbackGiven, store: Store, now: datetime) -> list[Message]:
    drifts = DriftStore(store.session)
    watched = await _watched(event, store, now)
    if watched is None:
        return []
    row = await drifts.row_of(watched, event.inference_id)
    if row.feedback is not None:
        # A test cannot take back what it has seen, so a second thought is no second sample.
        DRIFT_SAMPLES.labels(kind="label", outcome="duplicate").inc()
        return []
    DRIFT_SAMPLES.labels(kind="label", outcome="counted").inc()
    row.feedback = {
        "score": event.score if event.HasField("score") else None,
        "label": event.label,
        "correction": event.correction,
    }
    watch, alarms = _observe_label(
        drift_watch.from_json(watched.state),
        row.feedback,
        row.output_text,
        event.inference_id,
        moment(event.given_at).timestamp(),
        store,
    )
    return await _tell(watch, alarms, watched, drifts, None, None, now)


async def follow_promotion(event: events.ModelPromoted, store: Store, _now: datetime) -> list[Message]:
    """An endpoint serves another version: from now on that one's drift counts."""
    endpoint = await store.endpoint(event.endpoint_id) if event.endpoint_id else None
    if endpoint is None or endpoint.tenant_id != event.tenant_id:
        return []
    await store.save_endpoint(endpoint.serving(event.model_id, event.version))
    await store.want_reference(event.tenant_id, event.model_id, event.version)
    return []


async def follow_rollback(event: events.ModelRolledBack, store: Store, _now: datetime) -> list[Message]:
    """The version before answers again; of a version that was only tried, nothing changes."""
    endpoint = await store.endpoint(event.endpoint_id) if event.endpoint_id else None
    if endpoint is None or endpoint.tenant_id != event.tenant_id:
        return []
    if (endpoint.model_id, endpoint.version) == (event.model_id, event.version):
        await store.save_endpoint(endpoint.serving(event.model_id, event.to_version))
    return []


async def _watched(
    event: events.InferenceSampled | events.FeedbackGiven, store: Store, now: datetime
) -> DriftWatchRow | None:
    """The version's tests, locked, and begun if these are its first words; None: they are another tenant's."""
    drifts = DriftStore(store.session)
    if await drifts.begin(event, now):
        # Of a canary, too, which has never been told ready under this name.
        await store.want_reference(event.tenant_id, event.model_id, event.version)
    watched = await drifts.locked(event)
    if watched is not None:
        watched.updated_at = now
    return watched


def _sample(event: events.InferenceSampled) -> Sample:
    # PostgreSQL's text holds no NUL; a redacted text has none, but anybody may tell this event.
    return Sample(
        inference_id=event.inference_id,
        input_text=event.input_text.replace("\x00", "\ufffd"),
        output_text=event.output_text.replace("\x00", "\ufffd"),
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        mean_logprob=event.mean_logprob,
        error=event.error,
    )


async def _close_window(watch: Watch, watched: DriftWatchRow, drifts: DriftStore) -> Watch:
    if not watch.healthy():
        DRIFT_WINDOWS.labels(outcome="unhealthy").inc()
        watched.window_after = watched.rows
        return watch.window_anew()
    DRIFT_WINDOWS.labels(outcome="kept").inc()
    return watch.against_window(await drifts.keep_window(watched))


def _observe_label(
    watch: Watch,
    feedback: dict[str, str | float | None],
    output_text: str | None,
    inference_id: str,
    at_seconds: float,
    store: Store,
    *,
    late: bool = False,
) -> tuple[Watch, list[Alarm]]:
    """`late`: the answer's text came after the label, whose score has been counted."""
    score = feedback["score"]
    values = labelled_values(
        score if isinstance(score, float) else None,
        str(feedback["label"]),
        str(feedback["correction"]),
        output_text,
    )
    if late:
        values.pop("quality-score", None)
    return watch.observe_label(values, inference_id, at_seconds, store.rules.drift)


async def _tell(
    watch: Watch,
    alarms: list[Alarm],
    watched: DriftWatchRow,
    drifts: DriftStore,
    training: Texts | None,
    window: Window | None,
    now: datetime,
) -> list[Message]:
    watched.state = drift_watch.to_json(watch)
    told: list[Message] = []
    for alarm in alarms:
        recent = await drifts.recent(watched, alarm.test.recent_samples)
        member = drift_explained.member_name(alarm, training, window)
        words = drift_explained.new_words(alarm, recent, training, window)
        event = _detected(alarm, watched, member, words, now)
        DRIFT_DETECTIONS.labels(signal=alarm.stream.name, reference=alarm.reference.value).inc()
        told.append(event)
        body = json_format.MessageToDict(event, preserving_proto_field_name=True)
        watched.alarms = [body, *watched.alarms][:MAX_ALARMS]
    return told


def _detected(
    alarm: Alarm, watched: DriftWatchRow, member: str, words: list[str], now: datetime
) -> events.DriftDetected:
    test = alarm.test
    return events.DriftDetected(
        endpoint_id=watched.endpoint_id,
        tenant_id=watched.tenant_id,
        model_id=watched.model_id,
        version=watched.version,
        signal=alarm.stream.name,
        test=TEST,
        statistic=test.capital,
        threshold=alarm.threshold,
        sample_size=test.samples,
        reference_size=test.reference_size,
        detected_at=timestamp(now),
        reference=alarm.reference.value,
        alpha=alarm.alpha,
        member=member,
        reference_mean=test.reference_mean,
        recent_mean=test.recent_mean,
        unit=alarm.stream.unit,
        recent_samples=test.recent_samples,
        began_at=timestamp(datetime.fromtimestamp(test.began_at_seconds, UTC)),
        new_words=words,
        explanation=drift_explained.sentence(alarm, member, words),
    )
