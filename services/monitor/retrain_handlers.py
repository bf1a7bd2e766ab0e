"""What the monitor does when a model may have to be trained again, and when somebody decided on it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from google.protobuf.message import Message

from services.monitor import retraining
from services.monitor.metrics import RETRAIN_DECISIONS
from services.monitor.retrain_store import APPROVED, WAITING, RetrainStore, policy_of
from services.monitor.retraining import Alarm, Endpoint, Mode, Policy, Reason, Refusal, Situation
from services.monitor.store import Store
from services.monitor.tables import RetrainingRow, SuggestionRow
from sskai.contract import moment, new_id, timestamp
from sskai.delivery import Handlers
from sskai.events import v1 as events

MODES = frozenset(Mode)


class Wish(NamedTuple):
    """What a retrain is wanted for, and the same in a sentence."""

    reason: Reason
    detail: str


class Work(NamedTuple):
    """What is to be done: by which id, why, and on which data."""

    retrain_id: str
    detail: str
    data: str


async def set_policy(event: events.RetrainingPolicySet, store: Store, now: datetime) -> list[Message]:
    """What waits for a decision goes on waiting only where the new policy asks for decisions, too."""
    if event.mode not in MODES:
        return []  # a later version's word
    endpoint, retrains = await store.endpoint(event.endpoint_id), RetrainStore(store)
    if endpoint is not None and endpoint.tenant_id != event.tenant_id:
        return []
    row = await retrains.set_policy(event, now)
    return await _withdraw(event.endpoint_id, retrains, now) if row and row.mode != Mode.APPROVE else []


async def remove_policy(event: events.RetrainingPolicyRemoved, store: Store, now: datetime) -> list[Message]:
    retrains = RetrainStore(store)
    return await _withdraw(event.endpoint_id, retrains, now) if await retrains.remove_policy(event) else []


async def leave_endpoint(event: events.EndpointDeleted, store: Store, now: datetime) -> list[Message]:
    """The endpoint is gone, and with it its policy and what waited."""
    retrains = RetrainStore(store)
    if await retrains.row(event.endpoint_id, event.tenant_id) is None:
        return []
    await retrains.forget_endpoint(event.endpoint_id)
    return await _withdraw(event.endpoint_id, retrains, now, Refusal("disabled", "the endpoint was deleted"))


async def _withdraw(
    endpoint_id: str,
    retrains: RetrainStore,
    now: datetime,
    why: Refusal = Refusal("withdrawn", "the policy asks for no decisions any more"),  # noqa: B008 (frozen)
) -> list[Message]:
    waiting = await retrains.waiting(endpoint_id)
    return [] if waiting is None else [give_up(waiting, why, now)]


def give_up(row: SuggestionRow, why: Refusal, now: datetime, decided_by: str = "") -> events.RetrainDeclined:
    """A suggestion that becomes no retrain."""
    row.state, row.decided_at, row.decided_by = why.rule, now, decided_by
    row.due_at = row.lease_until = row.lease_token = None
    return _declined(row, row.retrain_id, why, row.reason, now)


# What a retrain may be wanted for


async def take_drift(event: events.DriftDetected, store: Store, now: datetime) -> list[Message]:
    """Anybody may tell DriftDetected; the rules are the same for all."""
    endpoint = await store.endpoint(event.endpoint_id)
    if endpoint is None or endpoint.tenant_id != event.tenant_id or endpoint.version != event.version:
        return []  # not ours, or no longer served
    row = await RetrainStore(store).row(endpoint.endpoint_id, endpoint.tenant_id)
    policy = policy_of(row, store.rules)
    if not policy.on_drift:
        return []
    detail = (
        f"{event.signal} drifted: {event.test} {event.statistic:.4g} reached {event.threshold:.4g} "
        f"after {event.sample_size} samples. {event.explanation}"
    ).strip()
    if row is not None and policy.by_owner:
        alarm = _alarm(event)
        row.alarms = retraining.count_alarm(row.alarms, alarm)
        why = retraining.unconfirmed(row.alarms, alarm.stream, policy)
        if why is not None:
            return [_declined(endpoint, new_id("retrain"), why, Reason.DRIFT, now)]
    return await want(endpoint, row, Wish(Reason.DRIFT, detail), store, now)


def _alarm(event: events.DriftDetected) -> Alarm:
    return Alarm(
        stream=f"{event.signal}@{event.reference}".replace("\x00", "\ufffd")[:200],
        model=f"{event.model_id}@{event.version}",
        samples=event.sample_size,
        recent_samples=event.recent_samples or event.sample_size,  # who tells no beginning saw it from the first on
        at_seconds=moment(event.detected_at).timestamp(),
    )


async def take_dataset(event: events.DatasetValidated, store: Store, now: datetime) -> list[Message]:
    """A newer version of what models were trained on: once for each endpoint, in whatever order versions come."""
    retrains = RetrainStore(store)
    told: list[Message] = []
    for endpoint_id in await retrains.wanting_dataset(event.tenant_id, event.name):
        endpoint = await store.endpoint(endpoint_id)
        row = await retrains.row(endpoint_id, event.tenant_id)
        policy = policy_of(row, store.rules)
        if endpoint is None or row is None or not policy.on_new_dataset:
            continue
        name, version = await retrains.trained_on(endpoint)
        heard = row.dataset_version if row.dataset_name == name else 0
        if name != event.name or event.version <= max(version, heard):
            continue
        row.dataset_name, row.dataset_version = name, event.version
        if endpoint.retrain_in_flight(now) and not endpoint.retrain_job_id:
            continue  # that retrain takes the newest version, and may have cut this one itself
        detail = f"{name}@{event.version} is there; version {endpoint.version} was trained on {name}@{version}"
        told += await want(endpoint, row, Wish(Reason.NEW_DATASET, detail), store, now)
    return told


async def want(endpoint: Endpoint, row: RetrainingRow | None, wish: Wish, store: Store, now: datetime) -> list[Message]:
    """A retrain of a locked endpoint's model is wanted: it is requested, suggested or declined, as the policy says."""
    policy, retrains, told = policy_of(row, store.rules), RetrainStore(store), list[Message]()
    waiting = await retrains.waiting(endpoint.endpoint_id)
    if waiting is not None and (waiting.model_id, waiting.version) != (endpoint.model_id, endpoint.version):
        told.append(give_up(waiting, _outdated(endpoint), now))
        await store.session.flush()
    situation = await retrains.situation(endpoint, policy, now)
    why = retraining.refuse(situation, policy, store.rules, now)
    if why is not None:
        return [*told, _declined(endpoint, new_id("retrain"), why, wish.reason, now)]
    if row is not None:
        row.alarms = {}  # the next one has to be confirmed anew
    if policy.mode is Mode.AUTO:
        return [*told, await _request(situation, policy, Work(new_id("retrain"), wish.detail, policy.data), store, now)]
    suggested = events.RetrainSuggested(
        endpoint_id=endpoint.endpoint_id,
        tenant_id=endpoint.tenant_id,
        retrain_id=new_id("retrain"),
        model_id=endpoint.model_id,
        version=endpoint.version,
        reason=wish.reason,
        detail=wish.detail,
        data=policy.data,
        suggested_at=timestamp(now),
    )
    if policy.mode is Mode.APPROVE:
        suggested.expires_at.CopyFrom(timestamp(now + timedelta(hours=store.rules.retrain_suggestion_hours)))
    await retrains.suggest(suggested)
    RETRAIN_DECISIONS.labels(rule="suggested").inc()
    return [*told, suggested]


# What somebody decides


async def take_decision(event: events.RetrainDecided, store: Store, now: datetime) -> list[Message]:
    """The first decision counts, and only while the suggestion waits. The rules are looked at again."""
    endpoint, retrains = await store.endpoint(event.endpoint_id), RetrainStore(store)
    row = await retrains.row(event.endpoint_id, event.tenant_id)
    waiting = await retrains.suggestion(event.retrain_id)
    if endpoint is None or waiting is None or waiting.state != WAITING:
        return []
    if (waiting.endpoint_id, waiting.tenant_id) != (event.endpoint_id, event.tenant_id):
        return []
    if waiting.expires_at is not None and moment(event.decided_at) > waiting.expires_at:
        return [give_up(waiting, expired(waiting), now)]
    by = event.decided_by.replace("\x00", "\ufffd")[:200]
    if not event.approved:
        return [give_up(waiting, Refusal("declined", f"by {by}"), now, by)]
    if (waiting.model_id, waiting.version) != (endpoint.model_id, endpoint.version):
        return [give_up(waiting, _outdated(endpoint), now, by)]
    policy = policy_of(row, store.rules)
    situation = await retrains.situation(endpoint, policy, now)
    why = retraining.refuse(situation, policy, store.rules, now, approved=True)
    if why is not None:
        return [give_up(waiting, why, now, by)]
    waiting.state, waiting.decided_at, waiting.decided_by = APPROVED, now, by
    waiting.due_at = waiting.lease_until = waiting.lease_token = None
    return [await _request(situation, policy, Work(waiting.retrain_id, waiting.detail, waiting.data), store, now)]


def expired(row: SuggestionRow) -> Refusal:
    until = f"{row.expires_at:%Y-%m-%d %H:%M} UTC" if row.expires_at else "then"
    return Refusal("expired", f"nobody decided until {until}")


def _outdated(endpoint: Endpoint) -> Refusal:
    return Refusal("outdated", f"{endpoint.model_id} version {endpoint.version} is served now")


async def _request(
    situation: Situation, policy: Policy, work: Work, store: Store, now: datetime
) -> events.RetrainRequested:
    endpoint = situation.endpoint
    await store.save_endpoint(endpoint.requested(work.retrain_id, now))
    RETRAIN_DECISIONS.labels(rule="requested").inc()
    return events.RetrainRequested(
        endpoint_id=endpoint.endpoint_id,
        tenant_id=endpoint.tenant_id,
        retrain_id=work.retrain_id,
        model_id=endpoint.model_id,
        version=endpoint.version,
        parent_job_id=situation.parent_job_id,
        reason=work.detail,
        budget_usd=retraining.job_budget_usd(policy, situation),
        requested_at=timestamp(now),
        data=work.data,
    )


def _declined(
    of: Endpoint | SuggestionRow, retrain_id: str, why: Refusal, reason: str, now: datetime
) -> events.RetrainDeclined:
    RETRAIN_DECISIONS.labels(rule=why.rule).inc()
    return events.RetrainDeclined(
        endpoint_id=of.endpoint_id,
        tenant_id=of.tenant_id,
        retrain_id=retrain_id,
        rule=why.rule,
        detail=why.detail,
        declined_at=timestamp(now),
        reason=reason,
    )


HANDLERS: Handlers = {
    events.RetrainingPolicySet: set_policy,
    events.RetrainingPolicyRemoved: remove_policy,
    events.DriftDetected: take_drift,
    events.RetrainDecided: take_decision,
}
