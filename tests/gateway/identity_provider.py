"""A small identity provider on a real socket: it signs in whoever it is told, without a page."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from joserfc import jwt
from joserfc.jwk import RSAKey

from services.gateway.oidc import challenge
from tests.gateway.conftest import serving

CLIENT_ID, CLIENT_SECRET = "sskai", "a secret: with/signs"


@dataclass
class IdentityProvider:
    """`person` is who signs in next; `key_requests` counts how often its keys were asked for."""

    url: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    person: dict[str, Any] = field(default_factory=dict)
    id_token: dict[str, Any] = field(default_factory=dict)  # claims that it tells wrong
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    key_requests: int = 0

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        return {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, **self.person, **more}

    def token(self, **more: Any) -> str:
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, self.claims(**more), self.key)

    def be(self, name: str, *, verified: bool = True) -> None:
        self.person = {"sub": name, "email": f"{name}@acme.com", "email_verified": verified, "name": name.title()}


def build(provider: IdentityProvider) -> FastAPI:
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    async def about() -> dict[str, Any]:
        paths = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return {"issuer": provider.url, **{name: f"{provider.url}/{path}" for name, path in paths.items()}}

    @app.get("/keys")
    async def keys() -> dict[str, Any]:
        provider.key_requests += 1
        return {"keys": [provider.key.as_dict(private=False)]}

    @app.get("/authorize")
    async def authorize(request: Request) -> Response:
        query = dict(request.query_params)
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        provider.codes[code] = query
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}", 302)

    @app.post("/token")
    async def token(request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        asked = provider.codes.pop(form["code"], None)
        if (
            pair != "sskai:a%20secret%3A%20with%2Fsigns"
            or asked is None
            or challenge(form["code_verifier"]) != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse({"id_token": provider.token(nonce=asked["nonce"], **provider.id_token)})

    return app


@asynccontextmanager
async def identity_provider() -> AsyncIterator[IdentityProvider]:
    provider = IdentityProvider()
    async with serving(build(provider)) as url:
        provider.url = url
        yield provider
