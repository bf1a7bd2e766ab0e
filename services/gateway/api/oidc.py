"""`/v1/auth/oidc`: a browser goes to the identity provider, and comes back signed in.

What has to be the same when it comes back (state, nonce, the verifier of PKCE) waits in a cookie of ten minutes, which
no script reads: whoever was not sent by us has none.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from typing import Annotated, Any
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Cookie, Query, Request
from fastapi.responses import RedirectResponse, Response

from services.gateway import asking
from services.gateway.api.session import set_cookie
from services.gateway.api.world import Here, World
from services.gateway.asking import Asking
from services.gateway.keys import Actor
from services.gateway.oidc import Provider, ProviderError, TokenError
from services.gateway.people import People, Person
from services.gateway.sessions import Sessions
from services.gateway.welcome import welcome
from sskai.http import Problem

router = APIRouter(prefix="/v1/auth/oidc", tags=["session"])
log = structlog.get_logger()

COOKIE = "sskai_oidc"
COOKIE_PATH = "/v1/auth/oidc"
COOKIE_SECONDS = 600
Text = Annotated[str | None, Query(max_length=2_048)]
_REDIRECT: dict[int | str, dict[str, Any]] = {302: {"description": "To the next page"}}


@router.get("/start", status_code=302, response_class=RedirectResponse, responses=_REDIRECT)
async def start(request: Request, here: Here, next: Text = None) -> Response:
    """To the provider's page; `next` is the page of ours to come back to."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    try:
        url = await _provider(here).authorization_url(_redirect_uri(request, here), state, nonce, verifier)
    except ProviderError as error:
        log.warning("the identity provider is away", error=str(error))
        return _problem("provider")
    response = RedirectResponse(url, status_code=302)
    waits = json.dumps([state, nonce, verifier, _page(next)])
    response.set_cookie(
        COOKIE,
        base64.urlsafe_b64encode(waits.encode()).decode(),
        max_age=COOKIE_SECONDS,
        path=COOKIE_PATH,
        httponly=True,
        samesite="lax",
        secure=here.public_url(request).startswith("https:"),
    )
    return response


@router.get("/callback", status_code=302, response_class=RedirectResponse, responses=_REDIRECT)
async def come_back(
    request: Request,
    here: Here,
    *,
    code: Text = None,
    state: Text = None,
    error: Text = None,
    waits: Annotated[str | None, Cookie(alias=COOKIE, include_in_schema=False)] = None,
) -> Response:
    """From the provider: signed in, and on to the page that was asked for; or to `/signin?problem=...`."""
    provider = _provider(here)
    expected = _read(waits)
    if expected is None or not hmac.compare_digest((state or "").encode(), expected[0].encode()):
        return _problem("expired")
    if error is not None or code is None:
        return _problem("refused")
    _, nonce, verifier, page = expected
    try:
        person = await provider.signed_in(code, _redirect_uri(request, here), nonce, verifier)
    except (ProviderError, TokenError) as failure:
        log.warning("signing in failed", error=str(failure))
        return _problem("provider")
    return await _sign_in(request, here, person, page)


async def _sign_in(request: Request, here: World, person: Person, page: str) -> Response:
    now = here.now()
    user = await welcome(here.database, person, now, invited_only=here.settings.sign_up == "invited")
    if user is None:
        return _problem("not-invited" if person.email else "not-verified")
    with asking.crossing_projects():
        async with here.database.transaction() as session:
            memberships = await People(session).memberships(user.user_id)
    tenant_id = memberships[0][0].tenant_id if memberships else ""
    actor = Actor("user", user.user_id, user.email or user.name)
    asking.begin(Asking(tenant_id, actor, "session.create", status=302, as_owner=True))
    async with here.database.transaction() as session:
        _, token = await Sessions(session).begin(now, tenant_id, user_id=user.user_id)
    response = RedirectResponse(page, status_code=302)
    set_cookie(response, request, here, token)
    response.delete_cookie(COOKIE, path=COOKIE_PATH)
    return response


def _provider(here: World) -> Provider:
    if here.provider is None:
        raise Problem(404, "No identity provider", "One signs in here with a key: POST /v1/session")
    return here.provider


def _redirect_uri(request: Request, here: World) -> str:
    return f"{here.public_url(request)}/v1/auth/oidc/callback"


def _page(wanted: str | None) -> str:
    """A page of ours, never another site's: browsers read "//" and "/\\" as the beginning of one."""
    fine = wanted is not None and wanted.startswith("/") and wanted[1:2] not in ("/", "\\") and wanted.isprintable()
    return wanted if wanted is not None and fine else "/"


def _read(waits: str | None) -> tuple[str, str, str, str] | None:
    try:
        state, nonce, verifier, page = json.loads(base64.urlsafe_b64decode(waits or ""))
    except (ValueError, TypeError):
        return None
    return str(state), str(nonce), str(verifier), _page(str(page))


def _problem(name: str) -> Response:
    response = RedirectResponse(f"/signin?{urlencode({'problem': name})}", status_code=302)
    response.delete_cookie(COOKIE, path=COOKIE_PATH)
    return response
