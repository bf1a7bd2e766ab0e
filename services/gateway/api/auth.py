"""Who asks, and whether they may: a key or a provider's token (`Authorization: Bearer ...`), or a session's cookie."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, cast
from urllib.parse import urlsplit

import structlog
from fastapi import Depends, Header, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from opentelemetry import trace
from sqlalchemy.exc import SQLAlchemyError

from services.gateway import asking
from services.gateway.access import ACCESS, SCOPES_OF, Access, Role, Scope
from services.gateway.api import openai_errors
from services.gateway.api.world import Here, World, not_found
from services.gateway.asking import Asking
from services.gateway.keys import KEY_PREFIX, Actor, Keys, Principal
from services.gateway.oidc import Provider, ProviderError, TokenError
from services.gateway.people import People
from services.gateway.sessions import Sessions, csrf_token, principal_of_user
from services.gateway.welcome import welcome
from sskai.http import Problem

log = structlog.get_logger()

SESSION_COOKIE = "sskai_session"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_TOKEN_CHARACTERS = 8_192
NOBODY = Principal("", "", Actor("", "", ""), frozenset())

_bearer = HTTPBearer(auto_error=False, description="An API key (sskai_...), or a token of the identity provider")
_cookie = APIKeyCookie(name=SESSION_COOKIE, auto_error=False, description="Of a browser that signed in")


async def authenticate(
    request: Request,
    here: Here,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    cookie: Annotated[str | None, Depends(_cookie)],
    tenant: Annotated[
        str | None, Header(alias="X-SSKAI-Tenant", description="Another project of yours than the one you are in")
    ] = None,
) -> AsyncIterator[Principal]:
    """Who asks. 401 for whoever is not known, without saying what was wrong; 403 for who may not do this."""
    asking.begin(None)
    route = request.scope["route"]
    access = ACCESS[request.method, route.path]
    if access.scope is Scope.PUBLIC:
        request.state.caller = NOBODY
        yield NOBODY
        return
    principal = await _caller(here, credentials.credentials if credentials else None, cookie)
    if principal is None:
        raise _unauthorized(request)
    if tenant is not None and tenant != principal.tenant_id:
        principal = await _in_project(here, principal, tenant)
    request.state.caller = principal
    request.state.still_may = partial(_still_may, here, credentials, cookie, principal)
    target = "/".join(request.path_params.values())
    asking.begin(Asking(principal.tenant_id, principal.actor, access.action, target, route.status_code or 200))
    # The monitor shows a trace to the tenant whose request began it.
    trace.get_current_span().set_attribute("sskai.tenant", principal.tenant_id)
    try:
        _require(request, here, access, principal, None if credentials else cookie)
        if access.elsewhere:
            await asking.record(here.database, route.status_code or 200)
        yield principal
    except Problem as problem:
        if problem.status == 403:
            await asking.record(here.database, 403)
        raise


async def _caller_of(request: Request) -> Principal:
    """Whom `authenticate` found, which stands before every route: asked for by its name, it would be solved twice."""
    return cast(Principal, request.state.caller)


Caller = Annotated[Principal, Depends(_caller_of)]


async def _still_may(
    here: World, credentials: HTTPAuthorizationCredentials | None, cookie: str | None, principal: Principal
) -> bool:
    """Whether whoever is being answered for long may still read: no key revoked, no session over, no member removed."""
    try:
        now = await _caller(here, credentials.credentials if credentials else None, cookie)
        if now is not None and now.tenant_id != principal.tenant_id:
            now = await _in_project(here, now, principal.tenant_id)
    except (Problem, SQLAlchemyError) as error:
        return not (isinstance(error, Problem) and error.status == 404)  # a part that is away says nothing of it
    return now is not None and Scope.READ in now.scopes


async def _caller(here: World, token: str | None, cookie: str | None) -> Principal | None:
    """A header goes before a cookie: who sends one means it."""
    if token is not None:
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        if token.startswith(KEY_PREFIX):
            return await _remembered(here, token, lambda: _of_key(here, token))
        provider = here.provider
        if provider is None:
            return None
        return await _remembered(here, f"token {token}", lambda: _of_token(here, provider, token))
    if cookie is not None and len(cookie) <= MAX_TOKEN_CHARACTERS:
        return await _remembered(here, f"cookie {cookie}", lambda: _of_session(here, cookie))
    return None


async def _remembered(here: World, token: str, ask: Callable[[], Awaitable[Principal | None]]) -> Principal | None:
    clock, known = asyncio.get_running_loop().time, here.known_keys
    if (principal := known.principal(token, clock())) is not None:
        return principal
    async with known.turn(token):
        if (principal := known.principal(token, clock())) is not None:
            return principal
        asked_at = clock()
        principal = await ask()
        if principal is not None:
            until = principal.valid_until
            known.remember(token, principal, asked_at, *([(until - here.now()).total_seconds()] if until else []))
        return principal


async def _of_key(here: World, key: str) -> Principal | None:
    async with here.database.transaction() as session:
        return await Keys(session).principal(key, here.now())


async def _of_token(here: World, provider: Provider, token: str) -> Principal | None:
    """A token of the identity provider's: its person, in the first of their projects."""
    try:
        person, until = await provider.bearer(token)
    except TokenError:
        return None
    except ProviderError as error:
        log.warning("the identity provider is away", error=str(error))
        raise Problem(503, "The identity provider is away", "Try again in a few seconds") from error
    invited_only = here.settings.sign_up == "invited"
    user = await welcome(here.database, person, here.now(), invited_only=invited_only)
    if user is None:
        return None
    with asking.crossing_projects():
        async with here.database.transaction() as session:
            memberships = await People(session).memberships(user.user_id)
            tenant_id = memberships[0][0].tenant_id if memberships else ""
            principal = await principal_of_user(session, user.user_id, tenant_id)
    return replace(principal, valid_until=until) if principal else None


async def _of_session(here: World, token: str) -> Principal | None:
    async with here.database.transaction() as session:
        return await Sessions(session).principal(token, here.now())


async def _in_project(here: World, principal: Principal, tenant_id: str) -> Principal:
    """The same caller in another project of theirs. Somebody else's is as unknown as one that does not exist."""
    async with here.database.transaction() as session:
        people = People(session)
        if principal.operator and await people.tenant(tenant_id) is not None:
            return replace(principal, tenant_id=tenant_id)
        if principal.actor.kind == "user":
            member = await people.member_of(tenant_id, principal.actor.id)
            if member is not None:
                return replace(principal, tenant_id=tenant_id, scopes=SCOPES_OF[Role(member.role)])
    raise not_found("tenant", tenant_id)


def _require(request: Request, here: World, access: Access, principal: Principal, cookie: str | None) -> None:
    """Raises Problem: somebody who is known may not do this. `cookie`: by which they are known, if by one."""
    if cookie is not None and request.method not in SAFE_METHODS:
        if not ours(request, here):
            raise Problem(403, "Forbidden", "The request comes from a page of another site")
        sent = request.headers.get("X-CSRF-Token", "")
        if not hmac.compare_digest(sent.encode(), csrf_token(cookie).encode()):
            detail = "Send the header X-CSRF-Token with `csrf_token` of GET /v1/session"
            raise Problem(403, "CSRF token missing or wrong", detail)
    scope = access.scope
    if scope is Scope.SIGNED_IN or (scope is Scope.OPERATOR and principal.operator) or scope in principal.scopes:
        return
    what = access.action or f"{request.method} {request.url.path}"
    if not principal.tenant_id:
        detail = "You are in no project: make one, or ask an admin of one to invite you"
    elif scope is Scope.OPERATOR:
        detail = f"{what} is for the operator of this installation"
    else:
        detail = f"{what} needs the scope `{scope}`: ask an admin of the project"
    shape = openai_errors.extensions(request.url.path, detail, "insufficient_scope")
    raise Problem(403, "Forbidden", detail, scope=scope.value, **shape)


def ours(request: Request, here: World) -> bool:
    """Whether the page that asks is one of ours, as far as its browser says where it comes from."""
    origin = request.headers.get("Origin")
    if origin is None:
        return True
    host = urlsplit(origin).netloc
    return bool(host) and host in (request.headers.get("Host"), urlsplit(here.settings.public_url).netloc)


def _unauthorized(request: Request) -> Problem:
    message = "Send a valid API key: Authorization: Bearer sskai_..."
    extensions = openai_errors.extensions(request.url.path, message, "invalid_api_key")
    return Problem(401, "Unauthorized", message, headers={"WWW-Authenticate": "Bearer"}, **extensions)
