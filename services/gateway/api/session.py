"""`/v1/session`: signing in with a key or a link, who is signed in, choosing the project, signing out."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Request, Response
from pydantic import StringConstraints, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import asking
from services.gateway.access import Role, role_of
from services.gateway.api.auth import SESSION_COOKIE, Caller, ours
from services.gateway.api.keys import TenantId
from services.gateway.api.world import Here, World, not_found
from services.gateway.asking import Asking, acting_for, crossing_projects
from services.gateway.jobfile import Form
from services.gateway.keys import MAX_KEY_CHARACTERS, SHOWN_CHARACTERS, Keys, Principal, principal_of
from services.gateway.people import People
from services.gateway.plain import iso
from services.gateway.sessions import AT_MOST, Sessions, csrf_token
from services.gateway.tables import SessionRow, TenantRow
from sskai.http import Problem

router = APIRouter(prefix="/v1", tags=["session"])

MOST_TENANTS_SHOWN = 100
Secret = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_CHARACTERS)]
SessionToken = Annotated[str | None, Cookie(alias=SESSION_COOKIE, include_in_schema=False)]


class SignInForm(Form):
    key: Secret | None = None
    link: Secret | None = None

    @model_validator(mode="after")
    def _one(self) -> SignInForm:
        if (self.key is None) == (self.link is None):
            raise ValueError("send `key` or `link`")
        return self


class SwitchForm(Form):
    tenant_id: TenantId


@router.get("/auth")
async def ways_to_sign_in(here: Here) -> dict[str, Any]:
    """How one signs in here; asked without credentials."""
    settings = here.settings
    oidc = {"name": settings.oidc_name, "start": "/v1/auth/oidc/start"} if here.provider else None
    return {"object": "auth", "oidc": oidc, "key": True, "sign_up": settings.sign_up}


@router.post("/session", status_code=201)
async def sign_in(form: SignInForm, request: Request, response: Response, here: Here) -> dict[str, Any]:
    """Sign in with a key or a link; the answer sets the cookie. After some failures it has to be waited: 429."""
    if not ours(request, here):
        raise Problem(403, "Forbidden", "The request comes from a page of another site")
    now, clock = here.now(), asyncio.get_running_loop().time()
    names = [f"address {request.client.host if request.client else ''}"]
    if form.key is not None:
        names.append(f"key {form.key[:SHOWN_CHARACTERS]}")
    if (wait := here.attempts.wait_seconds(names, clock)) > 0:
        seconds = str(round(wait + 0.5))
        detail = f"Too many sign-ins failed: wait {seconds} seconds"
        raise Problem(429, "Too many attempts", detail, headers={"Retry-After": seconds})
    async with here.database.transaction() as session:
        principal = await _principal(session, form, now)
    if principal is None:
        here.attempts.failed(names, clock)
        detail = "This key is not valid" if form.key else "This link was used before, or its five minutes are over"
        raise Problem(401, "Not signed in", detail, headers={"WWW-Authenticate": "Bearer"})
    asking.begin(Asking(principal.tenant_id, principal.actor, "session.create", status=201, as_owner=True))
    async with here.database.transaction() as session:
        row, token = await Sessions(session).begin(now, principal.tenant_id, key_id=principal.key_id)
        document = await _document(session, principal, row, token, now)
    set_cookie(response, request, here, token)
    return document


async def _principal(session: AsyncSession, form: SignInForm, now: datetime) -> Principal | None:
    if form.key is not None:
        return await Keys(session).principal(form.key, now)
    link = await Sessions(session).take_link(form.link or "", now)
    key = await Keys(session).valid(link.key_id, now) if link else None
    return principal_of(key) if key else None


@router.get("/session")
async def get_session(here: Here, caller: Caller, token: SessionToken = None) -> dict[str, Any]:
    """Who asks, in which project, and what they may do there."""
    now = here.now()
    with crossing_projects():
        async with here.database.transaction() as session:
            row = await _by_cookie(session, caller, token, now)
            return await _document(session, caller, row, token, now)


@router.patch("/session")
async def switch_project(form: SwitchForm, here: Here, caller: Caller, token: SessionToken = None) -> dict[str, Any]:
    """Go on in another project of one's own."""
    now = here.now()
    with acting_for(caller.tenant_id, as_owner=True):
        async with here.database.transaction() as session:
            row = await _by_cookie(session, caller, token, now)
            if row is None:
                raise Problem(409, "No session", "Only a session has a project to choose: a key belongs to one")
            if form.tenant_id not in {
                tenant.tenant_id for tenant, _ in await _tenants(session, caller, form.tenant_id)
            }:
                raise not_found("tenant", form.tenant_id)
            row.tenant_id = form.tenant_id
            await session.flush()
            principal = await Sessions(session).principal(token or "", now)
            assert principal is not None, "the session was found a moment ago"
            document = await _document(session, principal, row, token, now)
    here.known_keys.forget()
    return document


@router.delete("/session", status_code=204)
async def sign_out(response: Response, here: Here, caller: Caller, token: SessionToken = None) -> None:
    """The session is over, and the cookie is gone."""
    with acting_for(caller.tenant_id, as_owner=True):
        async with here.database.transaction() as session:
            row = await _by_cookie(session, caller, token, here.now())
            if row is not None:
                await Sessions(session).end(row.session_id)
    here.known_keys.forget()
    response.delete_cookie(SESSION_COOKIE, path="/")


@router.post("/session/links", status_code=201)
async def make_link(request: Request, here: Here, caller: Caller) -> dict[str, Any]:
    """A link that signs a browser in once, as the key that asks, within five minutes."""
    if caller.actor.kind == "user":
        raise Problem(409, "No key", "A link signs in as a key: ask for it with one")
    async with here.database.transaction() as session:
        token, until = await Sessions(session).add_link(caller.tenant_id, caller.key_id, here.now())
    return {"url": f"{here.public_url(request)}/signin#link={token}", "expires_at": iso(until)}


def set_cookie(response: Response, request: Request, here: World, token: str) -> None:
    """No script reads it, no other site's form sends it."""
    secure = here.public_url(request).startswith("https:")
    response.set_cookie(
        SESSION_COOKIE, token, max_age=int(AT_MOST.total_seconds()), httponly=True, samesite="lax", secure=secure
    )


async def _by_cookie(session: AsyncSession, caller: Principal, token: str | None, now: datetime) -> SessionRow | None:
    """The session by which the caller is known; None: by a header."""
    row = await Sessions(session).find(token, now) if token is not None else None
    return row if row is not None and caller.key_id in (row.key_id, row.user_id) else None


async def _document(
    session: AsyncSession, caller: Principal, row: SessionRow | None, token: str | None, now: datetime
) -> dict[str, Any]:
    people = People(session)
    user = await people.user(caller.actor.id) if caller.actor.kind == "user" else None
    tenants = await _tenants(session, caller)
    own = await people.tenant(caller.tenant_id) if caller.tenant_id else None
    key = await Keys(session).valid(caller.key_id, now) if row is None and user is None else None
    ends_at = min(row.expires_at, row.ends_at) if row else caller.valid_until
    role = role_of(caller.scopes)
    return {
        "object": "session",
        "id": row.session_id if row else caller.key_id,
        "user": {"id": user.user_id, "email": user.email, "name": user.name} if user else None,
        "tenant": {"id": own.tenant_id, "name": own.name} if own else None,
        "role": role.value if role else None,
        "scopes": sorted(scope.value for scope in caller.scopes),
        "operator": caller.operator,
        "csrf_token": csrf_token(token) if row and token else None,
        "tenants": [
            {"id": tenant.tenant_id, "name": tenant.name, "role": role.value if role else None}
            for tenant, role in tenants
        ],
        "created_at": iso(row.created_at) if row else iso(key.created_at) if key else None,
        "expires_at": iso(ends_at) if ends_at else None,
    }


async def _tenants(
    session: AsyncSession, caller: Principal, tenant_id: str | None = None
) -> list[tuple[TenantRow, Role | None]]:
    """The caller's projects, and what they are there; `tenant_id`: an operator asks for that one."""
    people = People(session)
    if caller.actor.kind == "user":
        return [(tenant, Role(member.role)) for tenant, member in await people.memberships(caller.actor.id)]
    if caller.operator and tenant_id is None:
        return [(tenant, Role.ADMIN) for tenant in await people.tenants(None, MOST_TENANTS_SHOWN)]
    own = await people.tenant(tenant_id if caller.operator and tenant_id else caller.tenant_id)
    return [(own, role_of(caller.scopes))] if own else []
