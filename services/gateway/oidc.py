"""An identity provider, by OpenID Connect: the code flow with PKCE, and bearer tokens. Its words are checked here.

Signatures and claims are joserfc's work. Only asymmetric signatures are taken: with a public key nobody makes one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from services.gateway.people import MAX_NAME_CHARACTERS, Person

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
LEEWAY_SECONDS = 30  # between the provider's clock and ours
ANSWER_SECONDS = 5.0
KEPT_SECONDS = 3_600.0  # of what the provider says of itself, and its keys
ASKED_AGAIN_SECONDS = 10.0  # for a key that is not known: whoever makes key ids up does not make us ask more often


class ProviderError(Exception):
    """The provider is away, or says what it should not."""


class TokenError(Exception):
    """The token is not to be believed."""


@dataclass(frozen=True, slots=True)
class Client:
    """What we are to the provider. `audience`: of bearer tokens."""

    issuer: str
    client_id: str
    client_secret: str
    audience: str


class Provider:
    """One provider. What it says of itself and its keys are remembered."""

    def __init__(self, client: Client, http: httpx2.AsyncClient, clock: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._http = http
        self._clock = clock
        self._about: dict[str, Any] = {}
        self._about_until = 0.0
        self._keys: KeySet | None = None
        self._keys_at = 0.0

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes to sign in. Raises ProviderError."""
        query = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = str((await self._configuration())["authorization_endpoint"])
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def signed_in(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> Person:
        """Who came back with a code. Raises ProviderError, TokenError."""
        about = await self._configuration()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form["code_verifier"] = verifier
        headers = {"Accept": "application/json"}
        client_id, secret = self.client.client_id, self.client.client_secret
        methods = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if not secret:
            form["client_id"] = client_id
        elif "client_secret_basic" in methods:
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        answer = await self._json("POST", str(about["token_endpoint"]), data=form, headers=headers)
        claims = await self._claims(str(answer.get("id_token", "")), client_id)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise TokenError("the nonce is another's")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else client_id) != client_id:
            raise TokenError("the token was made for another client")
        if "email" not in claims and "userinfo_endpoint" in about:
            bearer = {"Authorization": f"Bearer {answer.get('access_token', '')}"}
            more = await self._json("GET", str(about["userinfo_endpoint"]), headers=bearer)
            claims |= more if more.get("sub") == claims["sub"] else {}
        return person(self.client.issuer, claims)

    async def bearer(self, token: str) -> tuple[Person, datetime]:
        """Whose token it is, and until when it may be believed. Raises ProviderError, TokenError."""
        claims = await self._claims(token, self.client.audience)
        return person(self.client.issuer, claims), datetime.fromtimestamp(claims["exp"] + LEEWAY_SECONDS, UTC)

    async def _claims(self, token: str, audience: str) -> dict[str, Any]:
        try:
            claims = await self._signed(token)
            JWTClaimsRegistry(
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self.client.issuer},
                aud={"essential": True, "value": audience},
                sub={"essential": True},
                exp={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise TokenError(type(error).__name__) from error
        return claims

    async def _signed(self, token: str) -> dict[str, Any]:
        """What a token says, if a key of the provider's signed it. An unknown key may be a new one: it is asked for."""
        if token.count(".") != 2:
            raise TokenError("no signed token")
        keys = await self._key_set(KEPT_SECONDS)
        try:
            return dict(jwt.decode(token, keys, algorithms=ALGORITHMS).claims)
        except InvalidKeyIdError:
            newer = await self._key_set(ASKED_AGAIN_SECONDS)
            if newer is keys:
                raise
            return dict(jwt.decode(token, newer, algorithms=ALGORITHMS).claims)

    async def _configuration(self) -> dict[str, Any]:
        if self._clock() >= self._about_until or not self._about:
            url = f"{self.client.issuer.rstrip('/')}/.well-known/openid-configuration"
            about = await self._json("GET", url)
            if about.get("issuer") != self.client.issuer:
                raise ProviderError(f"{url} speaks for another issuer: set SSKAI_OIDC_ISSUER to what it says")
            if missing := {"authorization_endpoint", "token_endpoint", "jwks_uri"} - about.keys():
                raise ProviderError(f"{url} does not name {', '.join(sorted(missing))}")
            self._about, self._about_until = about, self._clock() + KEPT_SECONDS
        return self._about

    async def _key_set(self, oldest_seconds: float) -> KeySet:
        if self._keys is None or self._clock() - self._keys_at > oldest_seconds:
            found = await self._json("GET", str((await self._configuration())["jwks_uri"]))
            try:
                self._keys, self._keys_at = KeySet.import_key_set(found), self._clock()  # type: ignore[arg-type]
            except (JoseError, ValueError, TypeError, KeyError) as error:
                raise ProviderError("its keys cannot be read") from error
        return self._keys

    async def _json(self, method: str, url: str, **how: Any) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, url, timeout=ANSWER_SECONDS, follow_redirects=False, **how)
            body = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise ProviderError(f"{url}: {type(error).__name__}") from error
        if answer.status_code != 200 or not isinstance(body, dict):
            reason = body.get("error", "") if isinstance(body, dict) else ""
            raise ProviderError(f"{url} answers {answer.status_code} {reason}".rstrip())
        return body


def challenge(verifier: str) -> str:
    """RFC 7636: what the provider is shown of the verifier before it sees it."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def person(issuer: str, claims: dict[str, Any]) -> Person:
    """A person as the claims tell them; an address counts only if it was verified."""
    verified = claims.get("email_verified") in (True, "true")
    email = str(claims.get("email") or "").lower() if verified else ""
    name = str(claims.get("name") or claims.get("preferred_username") or email)
    printable = "".join(character for character in name if character.isprintable())
    return Person(issuer, str(claims["sub"]), email, printable[:MAX_NAME_CHARACTERS])
