"""What the monitor does about samples, labels and versions: one step of every drift test of the version."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from google.protobuf import json_format
from google.protobuf.message import Message

from services.monitor import drift_explained, drift_watch
from services.monitor.drift import TEST
from services.monitor.drift_store import MAX_ALARMS, DriftStore
from services.monitor.drift_streams import Reference, References, Sample, labelled_values
from services.monitor.drift_watch import Alarm, Step, Watch
from services.monitor.metrics import DRIFT_DETECTIONS, DRIFT_SAMPLES, DRIFT_WINDOWS
from services.monitor.store import Store
from services.monitor.tables import DriftSampleRow, DriftWatchRow
from sskai.contract import moment, timestamp
from sskai.events import v1 as events
from sskai.redaction import MAX_CHARACTERS


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

    rules, references = store.rules.drift, await drifts.references(watched)
    watch = drift_watch.from_json(watched.state)
    if references.training and not watch.has(Reference.TRAINING):
        watch = watch.against_training(references.training)
    at_seconds, collected = moment(event.at).timestamp(), watch.window_samples
    watch, alarms = watch.observe(sample, at_seconds, references, rules)
    if watch.window_samples < collected:
        watched.window_after = watched.rows
        DRIFT_WINDOWS.labels(outcome="drifted").inc()
    elif watch.window_full(rules):
        watch = await _close_window(watch, watched, drifts)
    if row.feedback is not None:
        watch, more = watch.observe_label(_loss(row), row.inference_id, at_seconds, rules)
        alarms += more
    return await _tell(drifts, watched, Step(watch, alarms), references, now)


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
        "score": event.score if event.HasField("score") and math.isfinite(event.score) else None,
        "label": _plain(event.label),
        "correction": _plain(event.correction),
    }
    watch, at_seconds = drift_watch.from_json(watched.state), moment(event.given_at).timestamp()
    step = watch.observe_label(_labelled(row), row.inference_id, at_seconds, store.rules.drift)
    return await _tell(drifts, watched, step, References(), now)


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
    return Sample(
        inference_id=event.inference_id,
        input_text=_plain(event.input_text),
        output_text=_plain(event.output_text),
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        mean_logprob=event.mean_logprob,
        error=event.error,
    )


def _plain(text: str) -> str:
    """What PostgreSQL takes: no NUL, and no more than is looked at. Inference sees to that, but anybody may tell."""
    return text[:MAX_CHARACTERS].replace("\x00", "\ufffd")


async def _close_window(watch: Watch, watched: DriftWatchRow, drifts: DriftStore) -> Watch:
    if not watch.healthy():
        DRIFT_WINDOWS.labels(outcome="unhealthy").inc()
        watched.window_after = watched.rows
        return watch.window_anew()
    DRIFT_WINDOWS.labels(outcome="kept").inc()
    return watch.against_window(await drifts.keep_window(watched))


def _labelled(row: DriftSampleRow) -> dict[str, float]:
    given = row.feedback or {}
    return labelled_values(given["score"], given["label"], given["correction"], row.output_text)


def _loss(row: DriftSampleRow) -> dict[str, float]:
    """Of an answer whose text came after its label: the score has been counted, the loss could not be."""
    return {name: value for name, value in _labelled(row).items() if name == "quality-loss"}


async def _tell(
    drifts: DriftStore, watched: DriftWatchRow, step: Step, references: References, now: datetime
) -> list[Message]:
    watched.state = drift_watch.to_json(step.watch)
    told: list[Message] = []
    for alarm in step.alarms:
        recent = await drifts.recent(watched, alarm.test.recent_samples)
        inputs = references.inputs(alarm.reference)
        member = drift_explained.member_name(alarm.stream.name, alarm.member, inputs, references.window)
        words = drift_explained.new_words(alarm, recent, references)
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
