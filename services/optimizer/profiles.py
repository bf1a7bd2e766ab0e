"""What a model was found to ask for: remembered by the hash of the question, or counted by the profiling worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from services.optimizer.store import Store
from sskai.database import Database


class ProfilesModels(Protocol):
    """The profiling worker as planners see it."""

    async def profile(self, request: dict[str, Any]) -> dict[str, Any]: ...


def key_of(question: Mapping[str, Any]) -> str:
    """The name under which the answer is remembered."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


async def answer(database: Database, profiler: ProfilesModels, question: dict[str, Any]) -> dict[str, Any]:
    """Raises what the profiler raises. A refusal is not remembered: a newer transformers may know the model."""
    key, now = key_of(question), datetime.now(UTC)
    async with database.transaction() as session:
        known = await Store(session).remembered_profile(key, now)
    if known is None:
        known = await profiler.profile(question)
        async with database.transaction() as session:
            await Store(session).remember_profile(key, known, now)
    return known
