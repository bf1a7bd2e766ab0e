"""What is counted of each version: requests by latency, failures, and which version gave which answer.

Answers never wait for the database: counts gather in memory, and a loop adds them to its rows once a second. A killed
process takes at most that second's counts with it; nothing is counted twice.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from prometheus_client import Counter as Metric
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from services.inference import promotion
from services.inference.domain import Endpoint
from services.inference.replica_store import ReplicaStore
from services.inference.tables import AnswerRow, FigureRow
from sskai.database import Database

DROPPED = Metric("sskai_inference_answers_dropped", "Answers that feedback will not find because too many waited")
VERSION_REQUESTS = Metric("sskai_inference_version_requests", "Requests by arm and outcome", ["arm", "outcome"])
MAX_BATCH = 500
ROWS_AT_ONCE = 5_000

Figure = tuple[str, str, int, bool, int]  # endpoint_id, rollout_id, version, shadow, bucket


class Tally:
    """`rollout_of`: which rollout shares out an endpoint's traffic now. `limit`: answers that may wait."""

    def __init__(self, rollout_of: Callable[[str], str], limit: int) -> None:
        self._rollout_of = rollout_of
        self._limit = limit
        self._figures: Counter[Figure] = Counter()
        self._answers: list[AnswerRow] = []
        self._tokens: Counter[tuple[str, str]] = Counter()  # by endpoint and direction
        self._writing = asyncio.Lock()

    def add(self, endpoint: Endpoint, inference_id: str, seconds: float, *, answered: bool, shadow: bool) -> None:
        """One request ended. A shadow's answer is counted apart, and nobody can praise it."""
        rollout_id = self._rollout_of(endpoint.told_as)
        bucket = promotion.bucket_of(seconds) if answered else promotion.ERROR
        self._figures[endpoint.told_as, rollout_id, endpoint.version, shadow, bucket] += 1
        arm = "shadow" if shadow else "canary" if endpoint.canary_of else "champion"
        VERSION_REQUESTS.labels(arm=arm, outcome="answered" if answered else "failed").inc()
        if shadow or not answered:
            return
        if len(self._answers) >= self._limit:
            DROPPED.inc()
            return
        self._answers.append(
            AnswerRow(
                inference_id=inference_id,
                tenant_id=endpoint.tenant_id,
                endpoint_id=endpoint.told_as,
                rollout_id=rollout_id,
                version=endpoint.version,
                at=datetime.now(UTC),
            )
        )

    def count_tokens(self, endpoint: Endpoint, input_tokens: int, output_tokens: int) -> None:
        """What an endpoint in pods has answered: its price is told per token."""
        if endpoint.in_pods:
            self._tokens[endpoint.endpoint_id, "input"] += input_tokens
            self._tokens[endpoint.endpoint_id, "output"] += output_tokens

    async def _write(self, database: Database) -> None:
        """A batch, in one transaction. What raises leaves it waiting."""
        figures, answers, tokens = self._figures, self._answers[:MAX_BATCH], self._tokens
        if not figures and not answers and not tokens:
            return
        self._figures, self._answers, self._tokens = Counter(), self._answers[MAX_BATCH:], Counter()
        try:
            async with database.transaction() as session:
                if figures:
                    # In one order everywhere, so that processes that add to the same rows never wait in a circle.
                    values = [
                        dict(zip(("endpoint_id", "rollout_id", "version", "shadow", "bucket"), key, strict=True))
                        | {"requests": count}
                        for key, count in sorted(figures.items())
                    ]
                    statement = upsert(FigureRow).values(values)
                    await session.execute(
                        statement.on_conflict_do_update(
                            index_elements=["endpoint_id", "rollout_id", "version", "shadow", "bucket"],
                            set_={"requests": FigureRow.requests + statement.excluded.requests},
                        )
                    )
                if answers:
                    columns = [column.key for column in AnswerRow.__table__.columns]
                    rows = [{name: getattr(row, name) for name in columns} for row in answers]
                    await session.execute(upsert(AnswerRow).values(rows).on_conflict_do_nothing())
                for endpoint_id in sorted({endpoint_id for endpoint_id, _ in tokens}):
                    counts = tokens[endpoint_id, "input"], tokens[endpoint_id, "output"]
                    await ReplicaStore(session).count_tokens(endpoint_id, *counts)
        except BaseException:
            self._figures.update(figures)
            self._tokens.update(tokens)
            self._answers[:0] = answers
            raise

    async def flush_all(self, database: Database) -> None:
        """Everything that waited when it was called, also what somebody else is writing: it is there afterwards."""
        async with self._writing:
            for _ in range(max(1, math.ceil(len(self._answers) / MAX_BATCH))):
                await self._write(database)


async def forget_answers(database: Database, retention_days: float) -> None:
    """Feedback comes within days or not at all."""
    oldest = datetime.now(UTC) - timedelta(days=retention_days)
    while True:
        async with database.transaction() as session:
            old = select(AnswerRow.inference_id).where(AnswerRow.at < oldest).limit(ROWS_AT_ONCE)
            gone = await session.scalars(
                delete(AnswerRow).where(AnswerRow.inference_id.in_(old)).returning(AnswerRow.inference_id)
            )
            if len(gone.all()) < ROWS_AT_ONCE:
                return
