"""Rollouts in the database: begin, look, record, end; and what was counted of the versions meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference.domain import Endpoint, Kind, State
from services.inference.gate import Evaluation
from services.inference.promotion import ENDED, ERROR, Figures, Rollout, Rules, Stage
from services.inference.replica_store import ReplicaStore
from services.inference.store import Store
from services.inference.tables import EndpointRow, EvaluationRow, FeedbackRow, FigureRow, RolloutRow
from services.inference.traffic import Split
from sskai import telemetry

ARTEFACT = ("model_id", "version", "base_model_id", "base_uri", "artifact_uri")
MAX_SHOWN = 10


def rollout_of(row: RolloutRow) -> Rollout:
    return Rollout(
        rollout_id=row.rollout_id,
        endpoint_id=row.endpoint_id,
        tenant_id=row.tenant_id,
        model_id=row.model_id,
        version=row.version,
        from_version=row.from_version,
        rules=Rules.of(row.rules),
        stage=Stage(row.stage),
        step=row.step,
        promote_when_loaded=row.promote_when_loaded,
        reason=row.reason,
    )


class Rollouts:
    """One transaction's view. Whoever changes a rollout has locked its endpoint (`Store.endpoint`) before."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def under_way(self, endpoint_id: str) -> Rollout | None:
        query = select(RolloutRow).where(RolloutRow.endpoint_id == endpoint_id, RolloutRow.stage.not_in(ENDED))
        row = await self.session.scalar(query)
        return rollout_of(row) if row else None

    async def tried(self, endpoint_id: str, model_id: str, version: int) -> bool:
        """Whether this version had its chance at the endpoint."""
        query = select(RolloutRow.rollout_id).where(
            RolloutRow.endpoint_id == endpoint_id, RolloutRow.model_id == model_id, RolloutRow.version == version
        )
        return await self.session.scalar(query.limit(1)) is not None

    async def newest(self, endpoint_id: str, limit: int = MAX_SHOWN) -> list[RolloutRow]:
        """Newest first."""
        query = select(RolloutRow).where(RolloutRow.endpoint_id == endpoint_id)
        return list(await self.session.scalars(query.order_by(RolloutRow.started_at.desc()).limit(limit)))

    async def before_promotion(self, endpoint_id: str) -> dict[str, Any] | None:
        """The artefact that answered before the newest promotion."""
        query = select(RolloutRow.previous).where(
            RolloutRow.endpoint_id == endpoint_id, RolloutRow.stage == Stage.PROMOTED
        )
        return await self.session.scalar(query.order_by(RolloutRow.started_at.desc()).limit(1))

    async def followers(self, tenant_id: str, model_id: str, version: int) -> list[Endpoint]:
        """Endpoints that want to hear of this version: of the same model, older, with a mode of promotion."""
        query = select(EndpointRow.endpoint_id).where(
            EndpointRow.tenant_id == tenant_id,
            EndpointRow.model_id == model_id,
            EndpointRow.version < version,
            EndpointRow.promotion_mode != "",
            EndpointRow.canary_of == "",
            EndpointRow.state.in_([State.REQUESTED, State.LOADING, State.READY]),
        )
        store = Store(self.session)
        found = [await store.endpoint(one, tenant_id) for one in await self.session.scalars(query)]
        return [one for one in found if one is not None]

    async def rules(self, endpoint_id: str) -> dict[str, Any]:
        """What of the rules somebody has set."""
        row = await self.session.get(EndpointRow, endpoint_id)
        return dict(row.rules) if row else {}

    async def set_rules(self, endpoint_id: str, rules: dict[str, Any], mode: str) -> None:
        await self.session.execute(
            update(EndpointRow)
            .where(EndpointRow.endpoint_id == endpoint_id)
            .values(rules=rules, promotion_mode=mode)
            .execution_options(synchronize_session=False)
        )

    async def begin(
        self, endpoint: Endpoint, artefact: dict[str, Any], rules: Rules, now: datetime, *, promote_when_loaded: bool
    ) -> Rollout:
        """A rollout, and the endpoint inside inference that loads its version."""
        count = select(func.count()).select_from(RolloutRow).where(RolloutRow.endpoint_id == endpoint.endpoint_id)
        number = (await self.session.scalar(count) or 0) + 1
        rollout = Rollout(
            rollout_id=f"{endpoint.endpoint_id}.rollout{number}",
            endpoint_id=endpoint.endpoint_id,
            tenant_id=endpoint.tenant_id,
            model_id=artefact["model_id"],
            version=artefact["version"],
            from_version=endpoint.version,
            rules=rules,
            promote_when_loaded=promote_when_loaded,
        )
        # In memory while it is tried, also where the endpoint itself may sleep: what sleeps is not measured. In a pod
        # of its own where the endpoint's are.
        canary = replace(
            endpoint,
            endpoint_id=rollout.canary_id,
            canary_of=endpoint.endpoint_id,
            kind=Kind.SPOT if endpoint.in_pods else Kind.ADAPTER,
            state=State.REQUESTED,
            replicas=0,
            tries=0,
            failure="",
            requested_at=now,
            **artefact,
        )
        await Store(self.session).add(canary)
        if canary.in_pods:
            await ReplicaStore(self.session).copy_set(endpoint.endpoint_id, canary)
        self.session.add(
            RolloutRow(
                rollout_id=rollout.rollout_id,
                endpoint_id=rollout.endpoint_id,
                tenant_id=rollout.tenant_id,
                model_id=rollout.model_id,
                version=rollout.version,
                from_version=rollout.from_version,
                previous={name: getattr(endpoint, name) for name in ARTEFACT},
                rules=asdict(rules),
                stage=rollout.stage,
                step=0,
                promote_when_loaded=promote_when_loaded,
                reason="",
                step_started_at=now,
                requests_before=0,
                started_at=now,
                traceparent=telemetry.current_traceparent() or "",
            )
        )
        await self.session.flush()
        return rollout

    async def change(self, rollout: Rollout, now: datetime) -> None:
        """Write somebody's word and take the row from the loop that may have it: it is due at once."""
        await self.session.execute(
            update(RolloutRow)
            .where(RolloutRow.rollout_id == rollout.rollout_id)
            .values(
                stage=rollout.stage,
                reason=rollout.reason,
                rules=asdict(rollout.rules),
                step=rollout.step,
                promote_when_loaded=rollout.promote_when_loaded,
                ended_at=now if rollout.ended else None,
                due_at=RolloutRow.started_at,
                lease_until=None,
                lease_token=None,
            )
            .execution_options(synchronize_session=False)
        )

    async def give_name(self, rollout: Rollout, canary: Endpoint) -> None:
        """From now on the endpoint is the version that was tried."""
        await self.session.execute(
            update(EndpointRow)
            .where(EndpointRow.endpoint_id == rollout.endpoint_id)
            .values({name: getattr(canary, name) for name in ARTEFACT})
            .execution_options(synchronize_session=False)
        )

    async def splits(self) -> dict[str, Split]:
        """Of every endpoint whose traffic is shared out now."""
        query = select(RolloutRow).where(RolloutRow.stage.in_([Stage.CANARY, Stage.APPROVAL, Stage.SUGGESTED]))
        found = [rollout_of(row) for row in await self.session.scalars(query)]
        return {
            one.endpoint_id: Split(
                one.rollout_id, one.canary_id, one.fraction, one.rules.shadow_fraction, one.rules.sticky_by_key
            )
            for one in found
        }

    async def figures(self, endpoint_id: str, rollout_id: str | None) -> dict[tuple[int, bool], Figures]:
        """By version and whether its answers were thrown away; of one rollout, or of the endpoint's whole life."""
        counted = select(FigureRow.version, FigureRow.shadow, FigureRow.bucket, func.sum(FigureRow.requests))
        scored = select(FeedbackRow.version, func.count(), func.sum(FeedbackRow.score))
        counted = counted.where(FigureRow.endpoint_id == endpoint_id)
        scored = scored.where(FeedbackRow.endpoint_id == endpoint_id, FeedbackRow.score.is_not(None))
        if rollout_id is not None:
            counted = counted.where(FigureRow.rollout_id == rollout_id)
            scored = scored.where(FeedbackRow.rollout_id == rollout_id)
        buckets: dict[tuple[int, bool], dict[int, int]] = defaultdict(dict)
        for version, shadow, bucket, requests in await self.session.execute(
            counted.group_by(FigureRow.version, FigureRow.shadow, FigureRow.bucket)
        ):
            buckets[version, shadow][bucket] = int(requests)
        scores = {
            version: (int(count), float(total or 0.0))
            for version, count, total in await self.session.execute(scored.group_by(FeedbackRow.version))
        }
        return {
            (version, shadow): _figures(
                buckets.get((version, shadow), {}), *(scores.get(version, (0, 0.0)) if not shadow else (0, 0.0))
            )
            for version, shadow in {*buckets, *((version, False) for version in scores)}
        }

    async def evaluations(self, rollout: Rollout) -> list[Evaluation]:
        """Against the version that it is to replace, as far as they say against which."""
        query = select(EvaluationRow).where(
            EvaluationRow.model_id == rollout.model_id,
            EvaluationRow.version == rollout.version,
            func.coalesce(EvaluationRow.champion_version, rollout.from_version) == rollout.from_version,
        )
        rows = await self.session.scalars(query.order_by(EvaluationRow.metric))
        return [
            Evaluation(
                row.metric, row.value, row.champion_value, row.sample_size, row.standard_error, row.champion_version
            )
            for row in rows
        ]

    async def keep_evaluation(self, **values: Any) -> None:
        """The newest one of each metric."""
        statement = upsert(EvaluationRow).values(**values)
        await self.session.execute(
            statement.on_conflict_do_update(
                index_elements=["model_id", "version", "metric"],
                set_={name: statement.excluded[name] for name in values},
                where=(EvaluationRow.evaluated_at <= statement.excluded.evaluated_at)
                & (EvaluationRow.tenant_id == statement.excluded.tenant_id),
            )
        )

    async def wake(self, endpoint_ids: Iterable[str]) -> None:
        """Something new is known of these endpoints' rollouts."""
        await self.session.execute(
            update(RolloutRow)
            .where(RolloutRow.endpoint_id.in_(list(endpoint_ids)), RolloutRow.stage.not_in(ENDED))
            .values(due_at=RolloutRow.started_at)
            .execution_options(synchronize_session=False)
        )


def _figures(buckets: dict[int, int], scores: int, score_sum: float) -> Figures:
    answered = {bucket: count for bucket, count in buckets.items() if bucket != ERROR}
    return Figures(answered, buckets.get(ERROR, 0), scores, score_sum)
