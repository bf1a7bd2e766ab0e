"""What inference does with what it hears. The loops make it real."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.message import Message

from services.inference import rolling
from services.inference.domain import Endpoint, State, kind_of
from services.inference.replica_set import Reason
from services.inference.replica_store import ReplicaStore, end
from services.inference.rollouts import Rollouts
from services.inference.store import Store
from services.inference.tables import BudgetRow, EndpointRow, ModelVersionRow
from sskai import telemetry
from sskai.contract import moment
from sskai.delivery import Handlers
from sskai.events import v1 as events
from sskai.known_budgets import KnownBudgets
from sskai.ownership import Owned


async def remember_endpoint(event: events.EndpointRequested, store: Store, now: datetime) -> list[Message]:
    """Somebody wants a name that answers."""
    endpoint = Endpoint(
        endpoint_id=event.endpoint_id,
        tenant_id=event.tenant_id,
        name=event.name,
        kind=kind_of(event.kind),
        model_id=event.model_id,
        version=event.version,
        base_model_id=event.base_model_id,
        base_uri=event.base_uri,
        artifact_uri=event.artifact_uri,
        sample_rate=event.sample_rate,
        requested_at=now,
        promotion_mode=event.promotion_mode,
    )
    await store.add(endpoint)
    if endpoint.in_pods:
        await ReplicaStore(store.session).add_set(
            endpoint, event.replicas, event.placements, event.engine, event.project
        )
    return []


async def begin_deletion(event: events.EndpointDeletionRequested, store: Store, _now: datetime) -> list[Message]:
    """Stop routing to it at once; the loop gives its memory back."""
    endpoint = await store.endpoint(event.endpoint_id, event.tenant_id)
    if endpoint is None or endpoint.state in (State.DELETING, State.DELETED):
        return []
    await store.save(endpoint.to(State.DELETING))
    return []


async def remember_version(event: events.ModelVersionReady, store: Store, now: datetime) -> list[Message]:
    """Know where a version comes from; endpoints that follow its model begin to try it."""
    await store.remember_version(
        ModelVersionRow(
            model_id=event.model_id,
            version=event.version,
            tenant_id=event.tenant_id,
            name=event.name,
            job_id=event.job_id,
            base_model_id=event.base_model_id,
            base_uri=event.base_uri,
            dataset_id=event.dataset_id,
            artifact_uri=event.artifact_uri,
            manifest_sha256=event.manifest_sha256,
            ready_at=moment(event.ready_at),
            traceparent=telemetry.current_traceparent() or "",
        )
    )
    return await rolling.offer(event, store, now)


async def change_traffic(event: events.EndpointTrafficRequested, store: Store, now: datetime) -> list[Message]:
    """Somebody tries a version, gives it the name, takes it back, or sets the rules."""
    endpoint = await store.endpoint(event.endpoint_id, event.tenant_id)
    if endpoint is None or not endpoint.answers or endpoint.canary_of:
        return []
    return await rolling.change(event, endpoint, store, now)


async def keep_evaluation(event: events.ModelEvaluated, store: Store, _now: datetime) -> list[Message]:
    """The gate's datum; rollouts of the version look at it, now or when they begin."""
    await Rollouts(store.session).keep_evaluation(
        model_id=event.model_id,
        version=event.version,
        metric=event.metric,
        tenant_id=event.tenant_id,
        value=event.value,
        champion_value=event.champion_value,
        sample_size=event.sample_size,
        standard_error=event.difference_standard_error,
        champion_version=event.champion_version if event.HasField("champion_version") else None,
        evaluated_at=moment(event.evaluated_at),
    )
    return []


async def note_interruption(event: events.InterruptionNoticed, store: Store, now: datetime) -> list[Message]:
    """A replica's machine will be taken. A rebalance recommendation is no notice yet."""
    if event.action == "rebalance":
        return []
    row = await ReplicaStore(store.session).on_machine(event.machine_id)
    if row is not None:
        at = moment(event.terminates_at) if event.HasField("terminates_at") else now
        row.terminates_at = at if at > now else now + timedelta(seconds=event.notice_seconds)
    return []


async def note_loss(event: events.MachineLost, store: Store, now: datetime) -> list[Message]:
    """The cloud says that a replica's machine is no more."""
    row = await ReplicaStore(store.session).on_machine(event.machine_id)
    if row is not None:
        end(row, Reason.INTERRUPTED if row.capacity == "spot" else Reason.MACHINE_LOST, now, event.reason)
    return []


async def keep_budget(event: events.BudgetSet, store: Store, _now: datetime) -> list[Message]:
    """From now on replicas under it reserve what they spend."""
    await KnownBudgets(store.session, BudgetRow).keep(event)
    return []


async def drop_budget(event: events.BudgetRemoved, store: Store, _now: datetime) -> list[Message]:
    """It stops nobody any more."""
    await KnownBudgets(store.session, BudgetRow).drop(event)
    return []


async def spend_reserved(event: events.SpendReserved, store: Store, _now: datetime) -> list[Message]:
    """Replicas may spend so much."""
    row = await ReplicaStore(store.session).purse(event.job_id, event.tenant_id)
    if row is not None:
        row.limit_nano_usd = max(event.limit_nano_usd, row.limit_nano_usd or 0)
        if event.number == row.ask_number:
            row.asking = False
            await store.session.flush()
            await ReplicaStore(store.session).wake(row.endpoint_id)
    return []


async def spend_declined(event: events.SpendReserveDeclined, store: Store, _now: datetime) -> list[Message]:
    """A budget has not so much left: replicas go on as far as they have reserved. The request stays open."""
    row = await ReplicaStore(store.session).purse(event.job_id, event.tenant_id)
    if row is not None and event.number == row.ask_number:
        row.limit_nano_usd = max(event.limit_nano_usd, row.limit_nano_usd or 0)
    return []


HANDLERS: Handlers = {
    events.EndpointRequested: remember_endpoint,
    events.EndpointDeletionRequested: begin_deletion,
    events.EndpointTrafficRequested: change_traffic,
    events.ModelVersionReady: remember_version,
    events.ModelEvaluated: keep_evaluation,
    events.InterruptionNoticed: note_interruption,
    events.MachineLost: note_loss,
    events.BudgetSet: keep_budget,
    events.BudgetRemoved: drop_budget,
    events.SpendReserved: spend_reserved,
    events.SpendReserveDeclined: spend_declined,
}
HANDLERS = Owned(HANDLERS, {"endpoint_id": [EndpointRow]})
