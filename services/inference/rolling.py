"""What somebody's word, or a new version, does to an endpoint's rollout. The handlers' other half."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog
from google.protobuf.message import Message

from services.inference.domain import Endpoint
from services.inference.promoting import told
from services.inference.promotion import Mode, Rollout, Rules, Stage
from services.inference.rollouts import Rollouts
from services.inference.store import Store
from sskai.events import v1 as events

log = structlog.get_logger()

_NUMBERS = (
    "minimum_requests",
    "minimum_seconds",
    "maximum_seconds",
    "error_tolerance",
    "latency_tolerance",
    "quality_tolerance",
    "shadow_fraction",
    "sticky_by_key",
)


async def offer(event: events.ModelVersionReady, store: Store, now: datetime) -> list[Message]:
    """A new version, to every endpoint that follows its model. A version has one chance at an endpoint."""
    rollouts = Rollouts(store.session)
    facts: list[Message] = []
    artefact = {
        "model_id": event.model_id,
        "version": event.version,
        "base_model_id": event.base_model_id,
        "base_uri": event.base_uri,
        "artifact_uri": event.artifact_uri,
    }
    for endpoint in await rollouts.followers(event.tenant_id, event.model_id, event.version):
        if await rollouts.tried(endpoint.endpoint_id, event.model_id, event.version):
            continue
        before = await rollouts.under_way(endpoint.endpoint_id)
        if before is not None and before.version > event.version:
            continue
        facts += await _make_room(rollouts, before, event.version, now)
        rules = Rules.of({**await rollouts.rules(endpoint.endpoint_id), "mode": endpoint.promotion_mode})
        await rollouts.begin(endpoint, artefact, rules, now, promote_when_loaded=False)
    return facts


async def change(
    event: events.EndpointTrafficRequested, endpoint: Endpoint, store: Store, now: datetime
) -> list[Message]:
    """One of the four things that somebody may want. What makes no sense (any more) changes nothing."""
    rollouts = Rollouts(store.session)
    before = await rollouts.under_way(endpoint.endpoint_id)
    if event.action == "rules":
        return await _set_rules(event, endpoint, rollouts, before, now)
    if event.action == "canary":
        return await _try_version(event, endpoint, rollouts, before, now)
    if event.action == "promote" and before is not None:
        await rollouts.change(replace(before, promote_when_loaded=True), now)
        return []
    if event.action == "roll-back":
        return await _roll_back(endpoint, rollouts, before, now)
    log.warning("nothing to do", endpoint=endpoint.endpoint_id, action=event.action)
    return []


def merged(rules: dict[str, Any], asked: events.EndpointTrafficRequested.Rules) -> dict[str, Any]:
    """What of the rules is set, with what is asked for."""
    numbers = {name: getattr(asked, name) for name in _NUMBERS if asked.HasField(name)}
    steps = {"steps": list(asked.steps)} if asked.steps else {}
    return {**rules, **numbers, **steps}


async def _set_rules(
    event: events.EndpointTrafficRequested,
    endpoint: Endpoint,
    rollouts: Rollouts,
    before: Rollout | None,
    now: datetime,
) -> list[Message]:
    """For the rollouts to come, and for the one under way, whose step stays what it was."""
    values = merged(await rollouts.rules(endpoint.endpoint_id), event.rules)
    mode = event.rules.mode or endpoint.promotion_mode
    rules = Rules.of({**values, "mode": mode or Mode.APPROVE})
    if problem := rules.problem():
        log.warning("rules make no sense", endpoint=endpoint.endpoint_id, problem=problem)
        return []
    await rollouts.set_rules(endpoint.endpoint_id, values, mode)
    if before is not None:
        rules = replace(rules, mode=event.rules.mode or before.rules.mode)
        await rollouts.change(replace(before, rules=rules, step=min(before.step, len(rules.steps) - 1)), now)
    return []


async def _try_version(
    event: events.EndpointTrafficRequested,
    endpoint: Endpoint,
    rollouts: Rollouts,
    before: Rollout | None,
    now: datetime,
) -> list[Message]:
    values = merged(await rollouts.rules(endpoint.endpoint_id), event.rules)
    # By hand and without a word on the mode: the last move is somebody's too.
    rules = Rules.of({**values, "mode": event.rules.mode or endpoint.promotion_mode or Mode.APPROVE})
    # Figures are told apart by version.
    if event.version == endpoint.version or rules.problem():
        log.warning("no canary", endpoint=endpoint.endpoint_id, version=event.version, problem=rules.problem())
        return []
    facts = await _make_room(rollouts, before, event.version, now)
    artefact = {
        "model_id": event.model_id,
        "version": event.version,
        "base_model_id": event.base_model_id,
        "base_uri": event.base_uri,
        "artifact_uri": event.artifact_uri,
    }
    await rollouts.begin(endpoint, artefact, rules, now, promote_when_loaded=False)
    return facts


async def _roll_back(endpoint: Endpoint, rollouts: Rollouts, before: Rollout | None, now: datetime) -> list[Message]:
    """The version that is being tried; if there is none, the last promotion."""
    if before is not None:
        return await _end(rollouts, before, "somebody's word", now)
    previous = await rollouts.before_promotion(endpoint.endpoint_id)
    if previous is None or previous["version"] == endpoint.version:
        log.warning("nothing to go back to", endpoint=endpoint.endpoint_id)
        return []
    await rollouts.begin(endpoint, previous, Rules(), now, promote_when_loaded=True)
    return []


async def _make_room(rollouts: Rollouts, before: Rollout | None, version: int, now: datetime) -> list[Message]:
    """One version is tried at a time: the newer one."""
    return await _end(rollouts, before, f"version {version} took its place", now) if before is not None else []


async def _end(rollouts: Rollouts, before: Rollout, reason: str, now: datetime) -> list[Message]:
    ended = before.to(Stage.ROLLED_BACK, reason=reason)
    await rollouts.change(ended, now)
    fact = told(ended, now)
    return [fact] if fact is not None else []
