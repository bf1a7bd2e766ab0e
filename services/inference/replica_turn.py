"""One endpoint's turn: how its replicas are, what they need, and what everybody is told. One transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference import replica_failures, replica_pods, replica_set, replica_store, reserving, scaling, spending
from services.inference.domain import Endpoint, State
from services.inference.replica_set import History, Limits, Reason, Replica, ReplicaState, Step, Wish
from services.inference.replica_store import ReplicaStore, placement_of, replica_of
from services.inference.reserving import Purse, Terms
from services.inference.settings import Settings
from services.inference.store import Store
from services.inference.tables import BudgetRow, ReplicaRow, ReplicaSetRow
from sskai.cluster import Pod
from sskai.contract import timestamp
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.known_budgets import ENDPOINT, PROJECT, KnownBudgets

REMEMBERED = 50  # replicas back, for failures in a row and denied offers


@dataclass
class Acts:
    """What to ask of the cluster."""

    launch: list[tuple[str, Pod]] = field(default_factory=list)  # replica_id and its pod
    stop: list[ReplicaRow] = field(default_factory=list)
    delete: list[ReplicaRow] = field(default_factory=list)


@dataclass
class Turn:
    """`row`: the endpoint's set, claimed and locked. `listening_since`: since when replicas could be heard."""

    session: AsyncSession
    row: ReplicaSetRow
    settings: Settings
    now: datetime
    listening_since: datetime

    async def take(self) -> Acts | None:
        """None: nothing is left to be done, ever."""
        store, endpoints, row, now = ReplicaStore(self.session), Store(self.session), self.row, self.now
        endpoint = await endpoints.endpoint(row.endpoint_id, row.tenant_id)
        if endpoint is None:
            return None
        rows = {one.number: one for one in await store.unfinished(row.endpoint_id)}
        replicas = [replica_of(one) for one in rows.values()]
        newest = await store.newest(row.endpoint_id, REMEMBERED)
        history = replica_set.learn(newest, self.settings.replica_denial_seconds, now)
        endpoint = await self._failed(endpoint, replicas, history)
        step = await self._within_budget(endpoint, replicas, self._step(endpoint, replicas, history))
        replicas = _after(replicas, step, now)
        for one in replicas:
            replica_store.write(rows[one.number], one)
        for placement in step.launch:
            row.numbers += 1
            new = Replica(row.endpoint_id, row.numbers, placement, endpoint.weights, now)
            rows[new.number] = await store.add(new, row.tenant_id)
            replicas.append(new)
        await self._meter(endpoint, rows, replicas)
        endpoint = await self._settle(endpoint, replicas)
        if endpoint.state in (State.DELETED, State.FAILED) and not rows:
            await self._give_back(endpoint)
            return None
        return await self._acts(endpoint, list(rows.values()))

    async def _failed(self, endpoint: Endpoint, replicas: Sequence[Replica], history: History) -> Endpoint:
        """The endpoint, which has failed if it has."""
        if not endpoint.answers:
            return endpoint
        if self.row.placements:
            patience = self.settings.replica_patience_seconds
            found = replica_failures.failure(endpoint, replicas, history, patience, self.now)
        else:
            found = replica_failures.NO_PLACEMENT
        if found is None:
            return endpoint
        failed = _begun(endpoint).to(State.FAILED, failure=found.reason)
        names = {"endpoint_id": endpoint.endpoint_id, "tenant_id": endpoint.tenant_id}
        failed_at = timestamp(self.now)
        event = events.EndpointFailed(**names, reason=found.reason, advice=found.advice, failed_at=failed_at)
        await self._tell(endpoint, event)
        await Store(self.session).settle(failed, None)
        return failed

    def _step(self, endpoint: Endpoint, replicas: Sequence[Replica], history: History) -> Step:
        row, limits = self.row, limits_of(self.settings)
        if not endpoint.answers:
            return replica_set.clear(replicas, limits, self.now)
        load = scaling.total((one.load for one in replicas if one.ready), row.asked_at)
        scale = scaling.advance(replica_store.scale_of(row), load, rules_of(self.settings, row), self.now)
        row.wanted, row.above_since, row.below_since = scale.wanted, scale.above_since, scale.below_since
        row.scaled_at, row.busy_at = scale.scaled_at, scale.busy_at
        wish = Wish(
            minimum=row.minimum,
            wanted=scale.wanted,
            on_demand=row.on_demand,
            weights=endpoint.weights,
            placements=tuple(map(placement_of, row.placements)),
            denied_until=history.denied_until,
            retry_at=history.retry_at,
        )
        return replica_set.decide(wish, replicas, limits, self.now, self.listening_since)

    async def _within_budget(self, endpoint: Endpoint, replicas: Sequence[Replica], step: Step) -> Step:
        """The step as far as money was reserved for it, where a budget stops what passes it."""
        row, settings = self.row, self.settings
        targets = {ENDPOINT: endpoint.told_as, PROJECT: row.project}
        if not await KnownBudgets(self.session, BudgetRow).covers(row.tenant_id, targets):
            row.limit_nano_usd, row.asking = None, False
            return step
        verdict = reserving.look(
            Purse(row.limit_nano_usd, row.spent_nano_usd, row.asking),
            sum(one.placement.price_usd_per_hour for one in replicas if one.live),
            sum(one.price_usd_per_hour for one in step.launch),
            Terms(settings.replica_metering_seconds, settings.replica_drain_seconds),
        )
        if verdict.ask is not None and endpoint.answers:
            row.asking = True
            await self._ask(endpoint, *verdict.ask)
        if verdict.must_stop:
            return replica_set.clear(replicas, limits_of(settings), self.now, Reason.BUDGET)
        return step if verdict.may_launch else replace(step, launch=())

    async def _give_back(self, endpoint: Endpoint) -> None:
        """It wants no more than it has spent: what was reserved beyond that is free."""
        if self.row.limit_nano_usd is not None or self.row.asking:
            await self._ask(endpoint, self.row.spent_nano_usd, self.row.spent_nano_usd)
            self.row.limit_nano_usd, self.row.asking = None, False

    async def _ask(self, endpoint: Endpoint, minimum: int, wanted: int) -> None:
        self.row.ask_number += 1
        request = events.SpendReserveRequested(
            job_id=self.row.endpoint_id,
            tenant_id=self.row.tenant_id,
            number=self.row.ask_number,
            project=self.row.project,
            endpoint_id=endpoint.told_as,
            spent_nano_usd=self.row.spent_nano_usd,
            minimum_nano_usd=minimum,
            wanted_nano_usd=wanted,
            requested_at=timestamp(self.now),
        )
        await tell(self.session, request)

    async def _meter(self, endpoint: Endpoint, rows: dict[int, ReplicaRow], replicas: Sequence[Replica]) -> None:
        row = self.row
        for one in replicas:
            if not spending.is_due(one, self.now, self.settings.replica_metering_seconds):
                continue
            metered, spent = spending.meter(one, self.now, row.intervals + 1, row.tenant_id, endpoint.told_as)
            if spent is None:
                continue
            row.intervals += 1
            row.spent_nano_usd += spent.amount_nano_usd
            spent.input_tokens = row.input_tokens - row.told_input_tokens
            spent.output_tokens = row.output_tokens - row.told_output_tokens
            row.told_input_tokens, row.told_output_tokens = row.input_tokens, row.output_tokens
            rows[one.number].metered_until = metered.metered_until
            await tell(self.session, spent)

    async def _settle(self, before: Endpoint, replicas: Sequence[Replica]) -> Endpoint:
        """What the endpoint has come to, written down and told."""
        ready = sum(one.ready for one in replicas)
        endpoint = _begun(before)
        if endpoint.state is State.LOADING and ready:
            endpoint = endpoint.to(State.READY)
            await self._tell(endpoint, self._ready(endpoint))
        if endpoint.state is State.DELETING and not any(one.live for one in replicas):
            endpoint = endpoint.to(State.DELETED)
            names = {"endpoint_id": endpoint.endpoint_id, "tenant_id": endpoint.tenant_id}
            await self._tell(endpoint, events.EndpointDeleted(**names, deleted_at=timestamp(self.now)))
        if ready != endpoint.replicas:
            await self._tell(endpoint, self._scaled(endpoint, ready, replicas))
            endpoint = replace(endpoint, replicas=ready)
        if endpoint != before:
            is_new = endpoint.state is State.READY and before.state is not State.READY
            await Store(self.session).settle(endpoint, self.now if is_new else None)
        return endpoint

    def _ready(self, endpoint: Endpoint) -> events.EndpointReady:
        return events.EndpointReady(
            endpoint_id=endpoint.endpoint_id,
            tenant_id=endpoint.tenant_id,
            name=endpoint.name,
            model_id=endpoint.model_id,
            version=endpoint.version,
            load_seconds=max(0.0, (self.now - endpoint.requested_at).total_seconds()),
            ready_at=timestamp(self.now),
        )

    def _scaled(self, endpoint: Endpoint, ready: int, replicas: Sequence[Replica]) -> events.EndpointScaled:
        went = [one for one in replicas if not one.ready and one.reason]
        since = min((one.requested_at for one in replicas if one.ready), default=self.now)
        woke = ready > 0 and endpoint.replicas == 0 and endpoint.state is State.READY
        return events.EndpointScaled(
            endpoint_id=endpoint.endpoint_id,
            tenant_id=endpoint.tenant_id,
            replicas=ready,
            previous_replicas=endpoint.replicas,
            reason="ready" if ready > endpoint.replicas or not went else went[-1].reason,
            cold_start_seconds=max(0.0, (self.now - since).total_seconds()) if woke else 0.0,
            scaled_at=timestamp(self.now),
        )

    async def _tell(self, endpoint: Endpoint, event: Message) -> None:
        """A canary is nobody's endpoint: its rollout tells what becomes of it."""
        if not endpoint.canary_of:
            await tell(self.session, event)

    async def _acts(self, endpoint: Endpoint, rows: Sequence[ReplicaRow]) -> Acts:
        acts = Acts()
        version = await Store(self.session).version(endpoint)
        for one in rows:
            ended = one.state == ReplicaState.ENDED
            if one.state == ReplicaState.REQUESTED:
                known = version is not None and version.artifact_uri == one.artifact_uri
                pod = replica_pods.pod(
                    replica_of(one),
                    endpoint,
                    one.token,
                    self.settings,
                    engine=self.row.engine,
                    manifest_sha256=version.manifest_sha256 if known and version is not None else None,
                    keep_ready=self.row.minimum,
                )
                acts.launch.append((one.replica_id, pod))
            elif one.state == ReplicaState.DRAINING and one.machine_id and one.stop_sent_at is None:
                acts.stop.append(one)
            elif ended and one.machine_id and one.deleted_at is None:
                acts.delete.append(one)
            elif ended and one.deleted_at is None:
                # What a launch may have made that was under way when it ended, the cluster's list tells
                # (watching_replicas.py).
                one.deleted_at = self.now
        return acts


def limits_of(settings: Settings) -> Limits:
    return Limits(
        start=settings.replica_start_seconds,
        silence=settings.replica_silence_seconds,
        drain=settings.replica_drain_seconds,
        lead=settings.replica_lead_seconds,
    )


def rules_of(settings: Settings, row: ReplicaSetRow) -> scaling.Rules:
    has_accelerators = any(one.get("accelerator_count") for one in row.placements)
    vllm = row.engine == "vllm" or (not row.engine and has_accelerators)
    return scaling.Rules(
        minimum=row.minimum,
        maximum=row.maximum,
        sequences=settings.vllm_sequences if vllm else settings.max_concurrent_sequences,
        tokens_per_second=row.most_tokens_per_second,
        idle_seconds=settings.idle_seconds,
        up_seconds=settings.scale_up_seconds,
        up_cooldown_seconds=settings.scale_up_cooldown_seconds,
        down_seconds=settings.scale_down_seconds,
        down_cooldown_seconds=settings.scale_down_cooldown_seconds,
    )


def _begun(endpoint: Endpoint) -> Endpoint:
    return endpoint.to(State.LOADING) if endpoint.state is State.REQUESTED else endpoint


def _after(replicas: Sequence[Replica], step: Step, now: datetime) -> list[Replica]:
    moved = {one.number: one.to(ReplicaState.DRAINING, reason, now) for one, reason in step.drain}
    moved |= {one.number: one.to(ReplicaState.ENDED, reason, now) for one, reason in step.end}
    return [moved.get(one.number, one) for one in replicas]
