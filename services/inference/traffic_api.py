"""What the gateway asks about an endpoint's versions, and what users say of answers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference.evidence import win_rate
from services.inference.gate import GATE_MARGIN, GATE_Z, gate
from services.inference.openai import Refusal
from services.inference.promotion import Figures, Rollout
from services.inference.rollouts import Rollouts, rollout_of
from services.inference.tables import AnswerRow, EndpointRow, FeedbackRow, RolloutRow
from services.inference.tally import Tally
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.redaction import MAX_CHARACTERS, redacted

MAX_BODY_BYTES = 64 * 1024
LABEL_SCORES = {"up": 1.0, "good": 1.0, "positive": 1.0, "down": 0.0, "bad": 0.0, "negative": 0.0}


class FeedbackForm(BaseModel):
    """`score` in [0, 1]; without one, a label that says as much ("up", "down", ...) counts as 1 or 0."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[\x21-\x7e]+$")]
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    label: Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")] = ""
    correction: Annotated[str, Field(max_length=MAX_CHARACTERS)] = ""


def routes(database: Database, tally: Tally, tenant_of: Callable[[Request], str]) -> APIRouter:
    """Spoken to the gateway, as the rest of the API."""
    router = APIRouter()

    @router.get("/v1/endpoints/{endpoint_id}/traffic")
    async def traffic(endpoint_id: str, request: Request) -> dict[str, Any]:
        tenant_id = tenant_of(request)
        await tally.flush_all(database)
        async with database.transaction() as session:
            row = await session.get(EndpointRow, endpoint_id)
            if row is None or row.tenant_id != tenant_id or row.canary_of:
                raise Refusal(404, f"endpoint {endpoint_id[:120]!r} does not exist")
            return await _traffic(session, row)

    @router.post("/v1/feedback")
    async def feedback(request: Request) -> dict[str, Any]:
        tenant_id = tenant_of(request)
        try:
            form = FeedbackForm.model_validate_json(await _body(request))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or None
            raise Refusal(400, f"{field or 'The body'}: {first['msg']}", param=field) from error
        if form.score is None and not form.label and not form.correction:
            raise Refusal(400, "Give a score, a label or a correction.", param="score")
        # An answer may be praised before the loop has written whose it was.
        await tally.flush_all(database)
        async with database.transaction() as session:
            return await _keep(session, tenant_id, form)

    return router


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"The body is over {MAX_BODY_BYTES} bytes.")
    return body


async def _keep(session: AsyncSession, tenant_id: str, form: FeedbackForm) -> dict[str, Any]:
    """The newest word on an answer replaces the one before."""
    answer = await session.get(AnswerRow, form.id)
    if answer is None or answer.tenant_id != tenant_id:
        raise Refusal(404, f"No answer has the id {form.id!r}, or it is too old.", param="id", code="not_found")
    score = form.score if form.score is not None else LABEL_SCORES.get(form.label.lower())
    values = {
        "inference_id": form.id,
        "tenant_id": tenant_id,
        "endpoint_id": answer.endpoint_id,
        "rollout_id": answer.rollout_id,
        "version": answer.version,
        "score": score,
        "label": form.label,
        "correction": redacted(form.correction),
        "at": datetime.now(UTC),
    }
    newer = {name: values[name] for name in ("score", "label", "correction", "at")}
    statement = upsert(FeedbackRow).values(values)
    await session.execute(statement.on_conflict_do_update(index_elements=["inference_id"], set_=newer))
    await tell(session, await _given(session, answer, values))
    return {
        "object": "feedback",
        "id": form.id,
        "endpoint_id": answer.endpoint_id,
        "version": answer.version,
        "score": score,
        "label": form.label or None,
    }


async def _given(session: AsyncSession, answer: AnswerRow, values: dict[str, Any]) -> events.FeedbackGiven:
    rollout = await session.get(RolloutRow, answer.rollout_id) if answer.rollout_id else None
    endpoint = await session.get(EndpointRow, answer.endpoint_id)
    # In a rollout the version says which of the two models it is of.
    tried = rollout if rollout is not None and rollout.version == answer.version else endpoint
    given = events.FeedbackGiven(
        endpoint_id=answer.endpoint_id,
        tenant_id=answer.tenant_id,
        inference_id=answer.inference_id,
        model_id=tried.model_id if tried is not None else "",
        version=answer.version,
        label=values["label"],
        correction=values["correction"],
        given_at=timestamp(values["at"]),
    )
    if values["score"] is not None:
        given.score = values["score"]
    return given


async def _traffic(session: AsyncSession, row: EndpointRow) -> dict[str, Any]:
    rollouts = Rollouts(session)
    known = await rollouts.newest(row.endpoint_id)
    now = next((one for one in map(rollout_of, known) if not one.ended), None)
    whole = await rollouts.figures(row.endpoint_id, None)
    share = now.fraction if now else 0.0
    split = [{"version": row.version, "role": "champion", "fraction": 1.0 - share}]
    if now:
        split.append({"version": now.version, "role": "canary", "fraction": share})
    return {
        "object": "endpoint.traffic",
        "endpoint_id": row.endpoint_id,
        "model_id": row.model_id,
        "version": row.version,
        "promotion": row.promotion_mode or None,
        "split": split,
        "rollout": await _rollout(rollouts, now) if now else None,
        "versions": [_figures(version, figures, shadow=shadow) for (version, shadow), figures in sorted(whole.items())],
        "history": [_ended(one) for one in known if one.ended_at],
    }


async def _rollout(rollouts: Rollouts, rollout: Rollout) -> dict[str, Any]:
    """The one under way, with what it is judged by: figures since it began."""
    figures = await rollouts.figures(rollout.endpoint_id, rollout.rollout_id)
    rules = rollout.rules
    return {
        "id": rollout.rollout_id,
        "version": rollout.version,
        "from_version": rollout.from_version,
        "mode": rules.mode,
        "stage": rollout.stage,
        "step": rollout.step,
        "steps": rules.steps,
        "minimum_requests": rules.minimum_requests,
        "minimum_seconds": rules.minimum_seconds,
        "shadow_fraction": rules.shadow_fraction,
        "reason": rollout.reason or None,
        "versions": [_figures(number, seen, shadow=shadow) for (number, shadow), seen in sorted(figures.items())],
        "win_rate": _win_rate(figures, rollout),
        "evaluations": [
            {"metric": one.metric, "verdict": verdict, "reason": reason}
            for one in await rollouts.evaluations(rollout)
            for verdict, reason in (gate(one, GATE_MARGIN),)
        ],
    }


def _win_rate(figures: dict[tuple[int, bool], Figures], rollout: Rollout) -> dict[str, Any] | None:
    """Of the canary against the champion by their users' feedback; None: one of them has none."""
    canary, champion = (figures.get((number, False), Figures()) for number in (rollout.version, rollout.from_version))
    found = win_rate((champion.score_sum, champion.scores), (canary.score_sum, canary.scores), GATE_Z)
    if found is None:
        return None
    return {"value": found[0], "low": found[1].low, "high": found[1].high, "feedback": champion.scores + canary.scores}


def _figures(version: int, figures: Figures, *, shadow: bool) -> dict[str, Any]:
    return {
        "version": version,
        "shadow": shadow,
        "requests": figures.requests,
        "errors": figures.errors,
        "error_rate": figures.error_rate,
        "p50_seconds": figures.quantile_seconds(0.5),
        "p95_seconds": figures.quantile_seconds(0.95),
        "feedback": figures.scores,
        "mean_score": figures.mean_score,
    }


def _ended(row: RolloutRow) -> dict[str, Any]:
    return {
        "id": row.rollout_id,
        "version": row.version,
        "from_version": row.from_version,
        "stage": row.stage,
        "reason": row.reason,
        "started_at": row.started_at.isoformat(),
        "ended_at": row.ended_at.isoformat() if row.ended_at else None,
    }
