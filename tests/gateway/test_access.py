"""Who may do what, over every route; and how one is known: keys, sessions, links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select, update

from services.gateway import access, app
from services.gateway.access import ACCESS, SCOPES_OF, Role, Scope
from services.gateway.api import docs
from services.gateway.attempts import Attempts
from services.gateway.tables import KeyRow, SessionRow
from sskai.testing import wait_for
from tests.gateway.conftest import House, client_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUTES = sorted(
    (method, route.path)
    for resource in (*app.RESOURCES, docs)
    for route in resource.router.routes
    if isinstance(route, APIRoute)
    for method in route.methods
)


async def key_with(house: House, scopes: list[str] | None, **fields: Any) -> dict[str, Any]:
    """A key of ann's project, as her admin's key makes it."""
    body = {"name": "of a test", **({"scopes": scopes} if scopes else {}), **fields}
    made = await house.ann.post("/v1/keys", json=body)
    assert made.status_code == 201, made.text
    return dict(made.json())


@asynccontextmanager
async def browser(house: House, **form: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with cookies that signed in, and sends the token against CSRF."""
    async with httpx2.AsyncClient(base_url=house.url, timeout=20) as client:
        answer = await client.post("/v1/session", json=form)
        assert answer.status_code == 201, answer.text
        client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        yield client


def a_request(method: str, path: str) -> dict[str, Any]:
    """One that reaches nothing: ids of nothing, a body that no route takes."""
    url = path
    for name in ("{alias}", "{name}", "{retrain_id}", "{replay_id}"):
        url = url.replace(name, "nothing")
    while "{" in url:
        url = url[: url.index("{")] + "nothing" + url[url.index("}") + 1 :]
    return {"method": method, "url": url, **({} if method == "GET" else {"json": {"no such": "field"}})}


async def status(client: httpx2.AsyncClient, method: str, path: str) -> tuple[int, Any]:
    """Of a stream, its beginning is enough."""
    async with client.stream(**a_request(method, path)) as answer:
        problem = answer.headers.get("content-type") == "application/problem+json"
        body = (await answer.aread(), answer.json())[1] if problem else None
        return answer.status_code, body


async def test_every_route_is_in_the_table_and_the_table_has_no_other() -> None:
    assert set(ROUTES) == set(ACCESS)
    with pytest.raises(LookupError, match="GET /v1/secrets"):
        access.require_complete([("GET", "/v1/secrets")])


async def test_roles_and_routes_match_the_table_exactly(house: House) -> None:
    house.world.settings.inference_retry_seconds = 0
    roles = {role: await key_with(house, sorted(SCOPES_OF[role])) for role in Role}
    for role, key in roles.items():
        async with client_of(house.url, key["key"]) as client:
            for method, path in ROUTES:
                code, body = await status(client, method, path)
                needed = ACCESS[method, path].scope
                allowed = needed in (Scope.PUBLIC, Scope.SIGNED_IN) or needed in SCOPES_OF[role]
                refused = code == 403 and body["scope"] == needed
                assert refused is not allowed, f"{role} {method} {path}: {code} {body}"
                assert needed is Scope.PUBLIC or code != 401


async def test_no_route_but_a_public_one_answers_without_a_key(house: House) -> None:
    async with httpx2.AsyncClient(base_url=house.url, timeout=20) as nobody:
        for method, path in ROUTES:
            if ACCESS[method, path].scope is not Scope.PUBLIC:
                assert (await status(nobody, method, path))[0] == 401, f"{method} {path}"


async def test_a_key_does_no_more_than_who_made_it(house: House) -> None:
    developer = await key_with(house, None)
    assert developer["scopes"] == ["read", "infer", "write"]
    admin = await key_with(house, ["read", "admin"])
    async with client_of(house.url, admin["key"]) as client:
        refused = await client.post("/v1/keys", json={"name": "more", "scopes": ["read", "write"]})
        assert (refused.status_code, refused.json()["scope"]) == (403, "write")
        assert (await client.post("/v1/keys", json={"name": "op", "operator": True})).status_code == 403
        made = (await client.post("/v1/keys", json={"name": "less"})).json()
        assert (made["scopes"], made["created_by"]) == (["read"], admin["id"])
        other = await client.post("/v1/keys", json={"name": "x", "tenant_id": "tenant_default"})
        assert other.status_code == 404
    async with client_of(house.url, developer["key"]) as client:
        assert (await client.post("/v1/keys", json={"name": "more"})).status_code == 403


async def test_a_key_ends_when_its_time_is_over_and_says_when_it_was_used(house: House) -> None:
    key = await key_with(house, ["read"], expires_in="90d")
    assert key["expires_at"] > key["created_at"]
    async with client_of(house.url, key["key"]) as client:
        assert (await client.get("/v1/jobs")).status_code == 200
        listed = {one["id"]: one for one in (await house.ann.get("/v1/keys")).json()["data"]}
        assert listed[key["id"]]["last_used_at"] is not None
        async with house.world.database.transaction() as session:
            soon = house.world.now() + timedelta(seconds=0.3)
            await session.execute(update(KeyRow).where(KeyRow.key_id == key["id"]).values(expires_at=soon))
        house.world.known_keys.forget()
        assert (await client.get("/v1/jobs")).status_code == 200

        # What is remembered of a key does not outlive it.
        async def refused() -> bool:
            return (await client.get("/v1/jobs")).status_code == 401

        await wait_for(refused, limit_seconds=1.5)
    too_long = await house.ann.post("/v1/keys", json={"name": "x", "expires_in": "9999d"})
    assert too_long.status_code == 422


async def test_a_browser_signs_in_with_a_key_and_out_again(house: House) -> None:
    key = await key_with(house, None)
    async with browser(house, key=key["key"]) as client:
        cookie = next(iter(client.cookies.jar))
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert (cookie.get_nonstandard_attr("SameSite"), cookie.secure, cookie.path) == ("lax", False, "/")
        async with house.world.database.transaction() as session:
            kept = list(await session.scalars(select(SessionRow.token_sha256).where(SessionRow.key_id == key["id"])))
        assert len(kept) == 1
        assert kept[0] != cookie.value
        document = (await client.get("/v1/session")).json()
        assert (document["role"], document["user"], document["operator"]) == ("developer", None, False)
        assert document["tenants"] == [{**document["tenant"], "role": "developer"}]
        assert document["csrf_token"] == client.headers["X-CSRF-Token"]
        assert (await client.get("/v1/jobs")).status_code == 200
        assert (await client.post("/v1/plans", json={})).status_code == 422
        assert (await client.delete("/v1/session")).status_code == 204
        client.cookies.set("sskai_session", str(cookie.value))
        assert (await client.get("/v1/jobs")).status_code == 401


async def test_a_session_ends_with_its_key_and_with_its_time(house: House) -> None:
    key = await key_with(house, None)
    async with browser(house, key=key["key"]) as one, browser(house, key=key["key"]) as another:
        over = house.world.now() - timedelta(seconds=1)
        token = another.cookies["sskai_session"]
        session_id = (await another.get("/v1/session")).json()["id"]
        async with house.world.database.transaction() as session:
            await session.execute(update(SessionRow).where(SessionRow.session_id == session_id).values(ends_at=over))
        house.world.known_keys.forget()
        assert token
        assert (await another.get("/v1/jobs")).status_code == 401
        assert (await one.get("/v1/jobs")).status_code == 200
        assert (await house.ann.delete(f"/v1/keys/{key['id']}")).status_code == 204
        assert (await one.get("/v1/jobs")).status_code == 401


async def test_a_page_of_another_site_changes_nothing(house: House) -> None:
    key = await key_with(house, None)
    async with browser(house, key=key["key"]) as client:
        good = client.headers.pop("X-CSRF-Token")
        for headers in ({}, {"X-CSRF-Token": good[:-1] + "g"}):
            refused = await client.post("/v1/plans", json={}, headers=headers)
            assert (refused.status_code, refused.json()["title"]) == (403, "CSRF token missing or wrong")
        for origin, code in (("https://evil.example", 403), ("null", 403), (house.url, 422)):
            headers = {"X-CSRF-Token": good, "Origin": origin}
            assert (await client.post("/v1/plans", json={}, headers=headers)).status_code == code
        evil = await client.post("/v1/session", json={"key": key["key"]}, headers={"Origin": "https://evil.example"})
        assert evil.status_code == 403


async def test_a_link_signs_in_once(house: House) -> None:
    link = (await house.ann.post("/v1/session/links")).json()
    assert link["url"].startswith(f"{house.url}/signin#link=")
    token = link["url"].partition("#link=")[2]
    async with browser(house, link=token) as client:
        document = (await client.get("/v1/session")).json()
        assert document["role"] == "admin"
        assert (await client.post("/v1/session", json={"link": token})).status_code == 401
        both = await client.post("/v1/session", json={"link": token, "key": "sskai_x"})
        assert both.status_code == 422


async def test_a_key_says_who_it_is_without_a_session(house: House) -> None:
    document = (await house.ann.get("/v1/session")).json()
    assert (document["csrf_token"], document["role"], document["user"]) == (None, "admin", None)
    assert document["tenant"]["id"] == document["tenants"][0]["id"]


async def test_sign_ins_that_fail_have_to_wait(house: House) -> None:
    house.world.attempts = Attempts()
    async with httpx2.AsyncClient(base_url=house.url, timeout=20) as client:
        for _ in range(10):
            assert (await client.post("/v1/session", json={"key": "sskai_wrong-key"})).status_code == 401
        waits = await client.post("/v1/session", json={"key": "sskai_wrong-key"})
        assert waits.status_code == 429
        assert 1 <= int(waits.headers["Retry-After"]) <= 7
        assert "wrong-key" not in waits.text
    house.world.attempts = Attempts()


async def test_an_operator_acts_for_any_project_and_others_for_theirs(house: House) -> None:
    tenant = (await house.ann.get("/v1/tenants")).json()["data"][0]
    dataset = await house.dataset(house.ann)
    there = {"X-SSKAI-Tenant": tenant["id"]}
    assert (await house.admin.get(f"/v1/datasets/{dataset['id']}")).status_code == 404
    assert (await house.admin.get(f"/v1/datasets/{dataset['id']}", headers=there)).status_code == 200
    assert (await house.bob.get("/v1/datasets", headers=there)).status_code == 404
    assert (await house.bob.get("/v1/datasets", headers={"X-SSKAI-Tenant": "tenant_nobody"})).status_code == 404
    assert (await house.bob.get(f"/v1/tenants/{tenant['id']}")).status_code == 404
    renamed = await house.ann.patch(f"/v1/tenants/{tenant['id']}", json={"name": "Acme"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Acme")
    made = await house.admin.post("/v1/tenants", json={"name": "New"})
    assert made.status_code == 201
    assert (await house.ann.post("/v1/tenants", json={"name": "New"})).status_code == 403
    listed = (await house.admin.get("/v1/tenants", params={"limit": 1})).json()
    assert (listed["data"][0]["id"], listed["has_more"]) == (made.json()["id"], True)


async def test_people_are_invited_and_the_default_project_has_a_name(house: House) -> None:
    invited = await house.ann.post("/v1/members", json={"email": "Eve@Acme.com", "role": "viewer"})
    assert (invited.json()["email"], invited.json()["state"]) == ("eve@acme.com", "invited")
    assert (await house.ann.post("/v1/members", json={"email": "eve@acme.com", "role": "admin"})).status_code == 409
    path = f"/v1/members/{invited.json()['id']}"
    assert (await house.ann.patch(path, json={"role": "developer"})).json()["role"] == "developer"
    assert [one["email"] for one in (await house.ann.get("/v1/members")).json()["data"]] == ["eve@acme.com"]
    assert (await house.ann.delete(path)).status_code == 204
    assert (await house.ann.delete(path)).status_code == 404
    assert (await house.admin.get("/v1/tenants/tenant_default")).json()["name"] == "Default"


async def test_a_project_sees_its_limits_and_what_is_used(house: House) -> None:
    await house.ann.post("/v1/members", json={"email": "fay@acme.com", "role": "viewer"})
    await house.ann.put("/v1/budgets", json={"scope": "tenant", "amount_usd": 5})
    await house.job(house.ann)
    limits = {one["name"]: one for one in (await house.ann.get("/v1/limits")).json()["data"]}
    assert limits["members"] == {"name": "members", "limit": 1_000, "used": 1, "unit": "members"}
    assert (limits["jobs.active"]["used"], limits["events.streams"]["limit"]) == (1, 2)
    assert limits["jobs.active"]["limit"] == house.world.settings.max_active_jobs_per_tenant
    assert (limits["uploads.open"]["used"], limits["job.usd_per_hour"]["limit"]) == (0, None)
    (budget,) = [one for name, one in limits.items() if name.startswith("budget.tenant")]
    assert (budget["limit"], budget["unit"]) == (5, "USD")
