"""Times from outside whose offset takes them out of the years that there are: refused, wherever one may be written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.conftest import House

BEYOND = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")
PLACES: dict[str, tuple[str, str, Any]] = {
    "costs since": ("GET", "/v1/costs?since={}", None),
    "costs until": ("GET", "/v1/costs?until={}", None),
    "an export": ("GET", "/v1/costs/export?since={}", None),
    "events again": ("POST", "/v1/webhooks/wh_1/replay", {"after": "{}"}),
    "a cut": ("POST", "/v1/datasets/support/cut", {"endpoint": "bot", "since": "{}"}),
    "a deadline": (
        "POST",
        "/v1/jobs",
        {"name": "bot", "model": {"base": "tiny-llama"}, "dataset": {"uri": "support"}, "deadline": "{}"},
    ),
}


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("time", BEYOND)
async def test_a_time_beyond_all_years_is_refused(house: House, place: str, time: str) -> None:
    method, path, body = PLACES[place]
    await house.dataset(house.ann)
    if body is not None:
        body = {name: time if value == "{}" else value for name, value in body.items()}
    answer = await house.ann.request(method, path.format(time.replace("+", "%2B")), json=body)
    assert answer.status_code == 422, answer.text
    assert "first or after the last year" in answer.text
