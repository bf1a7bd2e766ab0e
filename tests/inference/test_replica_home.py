"""A replica's word to its service: one that is away is told again, one that does not want it is left."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from services.inference.replica import home as homes
from services.inference.replica.home import MOST_REFUSALS, Home
from services.inference.replica.words import ReplicaState, Report
from sskai.testing import served

REPORT = Report(state=ReplicaState.READY)


async def test_a_service_that_is_away_is_told_again_and_one_that_refuses_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(homes, "LAST_WORD_PAUSE_SECONDS", 0.0)
    away = Home("http://127.0.0.1:9", "rep_1", "token")
    for _ in range(2 * MOST_REFUSALS):
        assert not await away.tell(REPORT)
    await away.tell_at_last(REPORT)
    assert away.wants_us, "who says nothing may want us still"
    await away.close()
    async with served(FastAPI()) as url:
        strange = Home(url, "rep_1", "token")
        assert [await strange.tell(REPORT) for _ in range(MOST_REFUSALS - 1)] == [False] * (MOST_REFUSALS - 1)
        assert strange.wants_us
        await strange.tell_at_last(REPORT)
        assert not strange.wants_us
        await strange.close()
