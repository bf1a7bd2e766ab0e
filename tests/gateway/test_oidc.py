"""Signing in with an identity provider, over HTTP from beginning to end, and its bearer tokens."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from services.gateway.access import ACCESS, Scope
from services.gateway.app import provider_of
from tests.gateway.conftest import House
from tests.gateway.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider
from tests.gateway.test_access import ROUTES, a_request

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def acme() -> AsyncIterator[IdentityProvider]:
    async with identity_provider() as provider:
        yield provider


@pytest_asyncio.fixture(loop_scope="session")
async def office(house: House, acme: IdentityProvider) -> AsyncIterator[House]:
    """The gateway, with an identity provider."""
    settings = house.world.settings
    settings.oidc_issuer, settings.oidc_client_id = acme.url, CLIENT_ID
    settings.oidc_client_secret, settings.oidc_name = SecretStr(CLIENT_SECRET), "Acme SSO"
    house.world.provider = provider_of(house.world)
    acme.id_token = {}
    yield house
    house.world.provider = None


@asynccontextmanager
async def browser(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=house.url, timeout=20) as client:
        yield client


async def sign_in(client: httpx2.AsyncClient, page: str = "/jobs") -> str:
    """From our page to the provider's and back; where the browser ends up."""
    at = await client.get("/v1/auth/oidc/start", params={"next": page})
    for _ in range(2):
        assert at.status_code == 302
        at = await client.get(at.headers["location"])
    return str(at.headers["location"])


async def test_an_invited_person_signs_in_and_is_a_member(office: House, acme: IdentityProvider) -> None:
    acme.be("ann")
    await office.ann.post("/v1/members", json={"email": "Ann@acme.com", "role": "developer"})
    async with browser(office) as client:
        ways = (await client.get("/v1/auth")).json()
        assert ways["oidc"] == {"name": "Acme SSO", "start": "/v1/auth/oidc/start"}
        assert await sign_in(client) == "/jobs"
        document = (await client.get("/v1/session")).json()
        assert document["user"]["email"] == "ann@acme.com"
        assert (document["role"], document["scopes"]) == ("developer", ["infer", "read", "write"])
        (member,) = (await office.ann.get("/v1/members")).json()["data"]
        assert (member["state"], member["name"]) == ("active", "Ann")
        client.headers["X-CSRF-Token"] = document["csrf_token"]
        assert (await client.post("/v1/plans", json={})).status_code == 422
        assert (await client.post("/v1/keys", json={"name": "mine"})).status_code == 403
        entries = (await office.ann.get("/v1/audit", params={"actor": document["user"]["id"]})).json()["data"]
        assert [entry["action"] for entry in entries] == ["key.create", "session.create", "member.join"]
        assert entries[0]["actor"] == {"kind": "user", "id": document["user"]["id"], "name": "ann@acme.com"}
        # Out of the project, at once.
        await office.ann.patch(f"/v1/members/{member['id']}", json={"role": "admin"})
        assert (await client.post("/v1/keys", json={"name": "mine"})).status_code == 201
        refused = await client.delete(f"/v1/members/{member['id']}")
        assert (refused.status_code, refused.json()["title"]) == (409, "The last admin")
        lower = await office.ann.patch(f"/v1/members/{member['id']}", json={"role": "viewer"})
        assert lower.status_code == 409
        await office.ann.post("/v1/members", json={"email": "bea@acme.com", "role": "admin"})
        assert (await office.ann.delete(f"/v1/members/{member['id']}")).status_code == 409  # the invited do not count


async def test_a_person_in_two_projects_chooses(office: House, acme: IdentityProvider) -> None:
    acme.be("cleo")
    for client, role in ((office.ann, "viewer"), (office.bob, "admin")):
        await client.post("/v1/members", json={"email": "cleo@acme.com", "role": role})
    dataset = await office.dataset(office.bob)
    bobs = (await office.bob.get("/v1/tenants")).json()["data"][0]["id"]
    anns = (await office.ann.get("/v1/tenants")).json()["data"][0]["id"]
    async with browser(office) as client:
        await sign_in(client)
        document = (await client.get("/v1/session")).json()
        assert {tenant["id"]: tenant["role"] for tenant in document["tenants"]} == {anns: "viewer", bobs: "admin"}
        client.headers["X-CSRF-Token"] = document["csrf_token"]
        assert (await client.patch("/v1/session", json={"tenant_id": anns})).json()["role"] == "viewer"
        assert (await client.get(f"/v1/datasets/{dataset['id']}")).status_code == 404
        switched = (await client.patch("/v1/session", json={"tenant_id": bobs})).json()
        assert (switched["tenant"]["id"], switched["role"]) == (bobs, "admin")
        assert (await client.get(f"/v1/datasets/{dataset['id']}")).status_code == 200
        assert (await client.patch("/v1/session", json={"tenant_id": "tenant_default"})).status_code == 404
        there = {"X-SSKAI-Tenant": anns}
        assert (await client.get(f"/v1/datasets/{dataset['id']}", headers=there)).status_code == 404
        assert (await client.post("/v1/keys", json={"name": "x"}, headers=there)).status_code == 403


@pytest.mark.parametrize(("verified", "problem"), [(True, "not-invited"), (False, "not-verified")])
async def test_who_is_not_invited_stays_outside(
    office: House, acme: IdentityProvider, verified: bool, problem: str
) -> None:
    acme.be("mallory", verified=verified)
    if not verified:  # the address of somebody who is invited, said by anybody
        await office.ann.post("/v1/members", json={"email": "mallory@acme.com", "role": "admin"})
    async with browser(office) as client:
        assert await sign_in(client) == f"/signin?problem={problem}"
        assert "sskai_session" not in client.cookies


async def test_where_signing_up_is_open_a_person_makes_a_project(office: House, acme: IdentityProvider) -> None:
    office.world.settings.sign_up = "open"
    acme.be("dan")
    async with browser(office) as client:
        assert await sign_in(client) == "/jobs"
        document = (await client.get("/v1/session")).json()
        assert (document["tenant"], document["role"], document["scopes"]) == (None, None, [])
        client.headers["X-CSRF-Token"] = document["csrf_token"]
        refused = await client.get("/v1/jobs")
        assert (refused.status_code, "no project" in refused.json()["detail"]) == (403, True)
        made = (await client.post("/v1/tenants", json={"name": "Dan's"})).json()
        assert (await client.patch("/v1/session", json={"tenant_id": made["id"]})).json()["role"] == "admin"
        entries = (await client.get("/v1/audit")).json()["data"]
        assert [entry["action"] for entry in entries] == ["tenant.create"]
        assert (await client.get("/v1/audit/verify")).json() == {"valid": True, "entries": 1, "broken_at": None}


async def test_a_browser_that_was_not_sent_does_not_come_back_signed_in(office: House, acme: IdentityProvider) -> None:
    acme.be("ann")
    await office.ann.post("/v1/members", json={"email": "ann@acme.com", "role": "developer"})
    async with browser(office) as client, browser(office) as victim:
        at = await client.get("/v1/auth/oidc/start")
        back = (await client.get(at.headers["location"])).headers["location"]
        assert (await victim.get(back)).headers["location"] == "/signin?problem=expired"
        assert (await client.get(back + "x")).headers["location"] == "/signin?problem=expired"
        assert (await client.get(back)).headers["location"] == "/signin?problem=expired"  # the cookie was taken back
    async with browser(office) as client:
        at = await client.get("/v1/auth/oidc/start")
        refused = await client.get(
            "/v1/auth/oidc/callback",
            params={"error": "access_denied", "state": httpx2.URL(at.headers["location"]).params["state"]},
        )
        assert refused.headers["location"] == "/signin?problem=refused"


@pytest.mark.parametrize(
    "wrong", [{"nonce": "another"}, {"aud": "another"}, {"iss": "https://another"}, {"exp": 1}, {"azp": "another"}]
)
async def test_what_the_provider_tells_wrong_is_not_believed(
    office: House, acme: IdentityProvider, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.be("ann")
    told = IdentityProvider.token
    monkeypatch.setattr(IdentityProvider, "token", lambda self, **claims: told(self, **{**claims, **wrong}))
    async with browser(office) as client:
        assert await sign_in(client) == "/signin?problem=provider"


@pytest.mark.parametrize("page", ["https://evil.example/", "//evil.example", "/\\evil.example", "jobs", "/a\nb"])
async def test_nobody_is_sent_to_another_site(office: House, acme: IdentityProvider, page: str) -> None:
    acme.be("ann")
    await office.ann.post("/v1/members", json={"email": "ann@acme.com", "role": "developer"})
    async with browser(office) as client:
        assert await sign_in(client, page) == "/"


async def test_a_bearer_token_is_believed(office: House, acme: IdentityProvider) -> None:
    acme.be("ann")
    for client, role in ((office.ann, "viewer"), (office.bob, "admin")):
        await client.post("/v1/members", json={"email": "ann@acme.com", "role": role})
    headers = {"Authorization": f"Bearer {acme.token()}"}
    async with browser(office) as client:
        for tenant in (office.ann, office.bob):
            there = headers | {"X-SSKAI-Tenant": (await tenant.get("/v1/tenants")).json()["data"][0]["id"]}
            role = (await client.get("/v1/session", headers=there)).json()["role"]
            made = await client.post("/v1/keys", json={"name": "mine"}, headers=there)
            assert (role, made.status_code) == (("viewer", 403) if tenant is office.ann else ("admin", 201))
        asked = acme.key_requests
        for _ in range(3):
            await client.get("/v1/jobs", headers={"Authorization": f"Bearer {acme.token(jti=time.time())}"})
        assert acme.key_requests == asked
        office.world.settings.oidc_audience = "api"
        office.world.provider = provider_of(office.world)
        fresh = acme.token(aud=["api", "other"])
        assert (await client.get("/v1/session", headers={"Authorization": f"Bearer {fresh}"})).status_code == 200
        stale = acme.token(jti="1")
        assert (await client.get("/v1/session", headers={"Authorization": f"Bearer {stale}"})).status_code == 401
        office.world.settings.oidc_audience = ""


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(acme: IdentityProvider, header: dict[str, Any]) -> str:
    return ".".join([part(json.dumps(header).encode()), part(json.dumps(acme.claims()).encode()), ""])


def flipped(token: str) -> str:
    head, body, signature = token.split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[10] ^= 1
    return f"{head}.{body}.{base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}"


def signed_with_the_public_key(acme: IdentityProvider) -> str:
    text = unsigned(acme, {"alg": "HS256", "kid": acme.key.kid}).removesuffix(".")
    return f"{text}.{part(hmac.digest(acme.key.as_pem(private=False), text.encode(), 'sha256'))}"


def of_an_unknown_key(acme: IdentityProvider, kid: str) -> str:
    return jwt.encode({"alg": "RS256", "kid": kid}, acme.claims(), RSAKey.generate_key(2048))


FORGED: dict[str, Callable[[IdentityProvider], str]] = {
    "expired": lambda acme: acme.token(exp=int(time.time()) - 61),
    "without an end": lambda acme: acme.token(exp=None),
    "wrong aud": lambda acme: acme.token(aud="another"),
    "wrong iss": lambda acme: acme.token(iss="https://another.example"),
    "alg none": lambda acme: unsigned(acme, {"alg": "none", "kid": acme.key.kid}),
    "alg none without kid": lambda acme: unsigned(acme, {"alg": "none"}),
    "HS256 with the public key": signed_with_the_public_key,
    "unknown kid": lambda acme: of_an_unknown_key(acme, "unknown"),
    "another's key": lambda acme: of_an_unknown_key(acme, "one"),
    "nbf in the future": lambda acme: acme.token(nbf=int(time.time()) + 61),
    "iat in the future": lambda acme: acme.token(iat=int(time.time()) + 61),
    "one byte flipped": lambda acme: flipped(acme.token()),
    "no sub": lambda acme: acme.token(sub=None),
    "not a token": lambda _acme: "a.b.c",
    "five parts": lambda _acme: "a.b.c.d.e",
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_forged_token_opens_no_route(office: House, acme: IdentityProvider, how: str) -> None:
    acme.be("ann")
    await office.ann.post("/v1/members", json={"email": "ann@acme.com", "role": "admin"})
    token = FORGED[how](acme)
    async with browser(office) as client:
        client.headers["Authorization"] = f"Bearer {token}"
        # Each of them on some routes, each route with some of them.
        for method, path in ROUTES[list(FORGED).index(how) % 5 :: 5]:
            if ACCESS[method, path].scope is not Scope.PUBLIC:
                answer = await client.request(**a_request(method, path))
                assert answer.status_code == 401, f"{method} {path}"
                assert token not in answer.text


async def test_a_new_key_of_the_provider_is_found(office: House, acme: IdentityProvider) -> None:
    acme.be("ann")
    await office.ann.post("/v1/members", json={"email": "ann@acme.com", "role": "viewer"})
    provider = office.world.provider
    assert provider is not None
    now = time.monotonic()
    provider._clock = lambda: now
    async with browser(office) as client:

        async def status(token: str) -> int:
            return (await client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})).status_code

        assert await status(acme.token()) == 200
        before, acme.key = acme.key, RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
        assert await status(acme.token()) == 401  # asked a moment ago
        now += 11
        assert await status(acme.token(jti="new")) == 200
        asked = acme.key_requests
        for number in range(5):
            assert await status(of_an_unknown_key(acme, f"made-up-{number}")) == 401
        assert acme.key_requests == asked
        acme.key = before


async def test_without_the_provider_one_signs_in_with_a_key(office: House, acme: IdentityProvider) -> None:
    office.world.settings.oidc_issuer = "http://127.0.0.1:9"
    office.world.provider = provider_of(office.world)
    async with browser(office) as client:
        at = await client.get("/v1/auth/oidc/start")
        assert at.headers["location"] == "/signin?problem=provider"
        office.world.known_keys.forget()  # the same token may have been seen a moment ago
        answer = await client.get("/v1/jobs", headers={"Authorization": f"Bearer {acme.token()}"})
        assert answer.status_code == 503
        office.world.provider = None
        assert (await client.get("/v1/auth/oidc/start")).status_code == 404
        assert (await client.get("/v1/auth")).json()["oidc"] is None
