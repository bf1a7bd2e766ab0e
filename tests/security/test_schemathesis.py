"""S8: the API does what its document says, whatever is sent: no 5xx, no other answer, no way around the key."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from tests.gateway.conftest import House, serving
from tests.security.estate import Estate, tenant_of
from tests.security.fuzzing import ALL, QUICK, Found, fuzz

pytestmark = pytest.mark.asyncio(loop_scope="session")

SEED = 20_261_129
BEARER = HTTPBearer(auto_error=False)


def told(found: Found) -> str:
    lines = [f"{operation}: {what}\n    {text}" for (operation, what), text in sorted(found.failures.items())]
    return "\n".join(lines)


async def of_gateway(house: House, examples: int, phases: tuple[str, ...]) -> Found:
    house.world.settings.plan_wait_seconds = 0  # there is no optimizer that answers
    # A project of one's own: at random it would be nobody's, and nearly everything 404.
    headers = {"Authorization": house.bob.headers["Authorization"], "X-SSKAI-Tenant": await tenant_of(house.bob)}
    return await asyncio.to_thread(fuzz, house.url, headers, seed=SEED, examples=examples, phases=phases)


async def test_what_is_sent_at_random_is_answered_as_the_document_says(estate: Estate, house: House) -> None:
    found = await of_gateway(house, 2, QUICK)
    assert not found.failures, told(found)
    assert found.requests > 100
    assert found.phases["stateful"] > 3
    assert found.statuses["200"] > 20, "most of it was refused before anything was looked at"
    assert found.statuses["503"] < 10
    assert found.checks["ignored_auth"] > 100


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_thousands_of_requests_are_answered_as_the_document_says(estate: Estate, house: House) -> None:
    found = await of_gateway(house, 20, ALL)
    print(f"{found.requests} requests, {sum(found.checks.values())} checks in {found.seconds:.0f} s, seed {SEED}:")
    print(dict(found.statuses), dict(found.phases))
    assert not found.failures, told(found)
    assert found.requests >= 2_000


class Made(BaseModel):
    id: int


async def test_what_is_wrong_is_found() -> None:
    """Or the tests above would prove nothing: a bug, an answer of another shape, a key that nobody asks for."""
    app = FastAPI()

    @app.get("/breaks")
    async def breaks(number: int) -> dict[str, Any]:
        return {"share": 1 / (number * 0)}

    @app.get("/lies", responses={200: {"model": Made}})
    async def lies() -> Any:
        return {"id": "none"}

    @app.get("/open")
    async def opened(key: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> Made:
        return Made(id=1)

    async with serving(app) as url:
        found = await asyncio.to_thread(fuzz, url, {"Authorization": "Bearer sskai_any"}, seed=SEED, examples=3)
    checks = {(operation, what.partition(":")[0]) for operation, what in found.failures}
    assert {
        ("GET /breaks", "not_a_server_error"),
        ("GET /lies", "response_schema_conformance"),
        ("GET /open", "ignored_auth"),
    } <= checks
