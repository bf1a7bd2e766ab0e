"""Who asks: `Authorization: Bearer sskai_...`."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from opentelemetry import trace

from services.gateway.api import openai_errors
from services.gateway.api.world import Here, World
from services.gateway.keys import Keys, Principal
from sskai.http import Problem

_bearer = HTTPBearer(auto_error=False, description="An API key: sskai_...")


async def authenticate(
    request: Request, here: Here, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """The key's principal; 401 for anything else, without saying what was wrong with it."""
    principal = None if credentials is None else await _principal(here, credentials.credentials)
    if principal is None:
        raise _unauthorized(request)
    # The monitor shows a trace to the tenant whose request began it.
    trace.get_current_span().set_attribute("sskai.tenant", principal.tenant_id)
    return principal


async def _principal(here: World, key: str) -> Principal | None:
    clock, known = asyncio.get_running_loop().time, here.known_keys
    if (principal := known.principal(key, clock())) is not None:
        return principal
    async with known.turn(key):
        if (principal := known.principal(key, clock())) is not None:
            return principal
        asked_at = clock()
        async with here.database.transaction() as session:
            principal = await Keys(session).principal(key)
        if principal is not None:
            known.remember(key, principal, asked_at)
        return principal


Caller = Annotated[Principal, Depends(authenticate)]


def _unauthorized(request: Request) -> Problem:
    message = "Send a valid API key: Authorization: Bearer sskai_..."
    extensions = openai_errors.extensions(request.url.path, message, "invalid_api_key")
    return Problem(401, "Unauthorized", message, headers={"WWW-Authenticate": "Bearer"}, **extensions)
