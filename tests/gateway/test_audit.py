"""What is written down of changes, and that nobody changes what is written down."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx2
import psycopg.errors
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import asking
from services.gateway.access import ACCESS, Scope
from services.gateway.asking import Asking
from services.gateway.audit import Audit, Verdict
from services.gateway.keys import Actor
from services.gateway.tables import AuditRow, JobRow
from sskai.database import Database
from tests.gateway.conftest import ADMIN_KEY, House, client_of, job_file
from tests.gateway.test_access import key_with

pytestmark = pytest.mark.asyncio(loop_scope="session")


SOMEBODY = Actor("key", "key_1", "test")


@contextmanager
def answering(request: Asking) -> Iterator[None]:
    """As if a request was answered in the block."""
    token = asking._asking.set(request)
    try:
        yield
    finally:
        asking._asking.reset(token)


@asynccontextmanager
async def undone(database: Database) -> AsyncIterator[AsyncSession]:
    """A transaction of which nothing is kept."""
    with suppress(InterruptedError):
        async with database.transaction() as session:
            yield session
            raise InterruptedError


async def tenant_of(client: httpx2.AsyncClient) -> str:
    return str((await client.get("/v1/session")).json()["tenant"]["id"])


async def entries(client: httpx2.AsyncClient, **filters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/audit", params={"limit": 100, **filters})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def test_every_route_that_changes_something_names_what_it_does() -> None:
    changes = {route: one for route, one in ACCESS.items() if route[0] != "GET" and one.scope is not Scope.INFER}
    assert [route for route, one in changes.items() if one.action is None] == []
    assert {route for route, one in ACCESS.items() if one.action is not None} == set(changes)
    actions = [one.action for one in changes.values()]
    assert len(set(actions)) == len(actions)


async def test_what_changed_is_written_with_who_did_it(house: House) -> None:
    job = await house.job(house.ann)
    assert (await house.ann.post(f"/v1/jobs/{job['id']}/cancel")).status_code == 202
    assert (await house.ann.put("/v1/budgets", json={"scope": "tenant", "amount_usd": 5})).status_code == 200
    assert (await house.ann.get(f"/v1/jobs/{job['id']}")).status_code == 200
    budget, cancel, submit, upload, _ = await entries(house.ann)
    assert [one["action"] for one in (upload, submit, cancel, budget)] == [
        "dataset.upload",
        "job.submit",
        "job.cancel",
        "budget.set",
    ]
    assert [one["target"] for one in (submit, cancel)] == [job["id"], job["id"]]
    assert upload["target"].startswith("dataset_")
    assert budget["target"].startswith("budget_")
    assert [one["status"] for one in (upload, submit, cancel, budget)] == [201, 202, 202, 200]
    assert (submit["before_sha256"], len(submit["after_sha256"])) == (None, 64)
    assert len({cancel["before_sha256"], cancel["after_sha256"]}) == 2
    key = (await house.ann.get("/v1/keys")).json()["data"][0]
    assert submit["actor"] == {"kind": "key", "id": key["id"], "name": "test"}
    assert [one["seq"] for one in (upload, submit, cancel, budget)] == [2, 3, 4, 5]  # the operator made the key first
    assert submit["previous_sha256"] == upload["sha256"]
    # As the guide says, anybody can hash an entry again.
    lines = [await tenant_of(house.ann), submit["seq"], submit["at"], *submit["actor"].values(), submit["action"]]
    lines += [submit["target"], submit["status"], "", submit["after_sha256"], submit["previous_sha256"]]
    assert hashlib.sha256("\n".join(map(str, lines)).encode()).hexdigest() == submit["sha256"]


async def test_what_is_refused_is_written_and_what_changes_nothing_is_not(house: House) -> None:
    viewer = await key_with(house, ["read"])
    before = len(await entries(house.ann))
    async with client_of(house.url, viewer["key"]) as client:
        assert (await client.post("/v1/jobs", json=job_file())).status_code == 403
        assert (await client.get("/v1/audit")).status_code == 403
        assert (await client.post("/v1/chat/completions", json={})).status_code == 403
        path = "/v1/models/a%0Ab%00c/aliases/champion"
        assert (await client.put(path, json={"version": 1})).status_code == 403
    assert (await house.ann.post("/v1/jobs", json={})).status_code == 422
    assert (await house.ann.delete("/v1/webhooks/webhook_none")).status_code == 404
    operator = await house.ann.post("/v1/keys", json={"name": "op", "operator": True})
    assert operator.status_code == 403
    *new, submit = (await entries(house.ann))[: len(await entries(house.ann)) - before]
    assert [(one["action"], one["target"], one["status"]) for one in new] == [
        ("key.create", "", 403),
        ("model.alias", "a b c/champion", 403),
    ]
    assert (submit["action"], submit["status"], submit["after_sha256"]) == ("job.submit", 403, None)
    assert submit["actor"]["id"] == viewer["id"]
    assert (await house.ann.get("/v1/audit/verify")).json()["valid"]


async def test_a_request_that_is_sent_again_is_written_once(house: House) -> None:
    await house.dataset(house.ann)
    for _ in range(2):
        headers = {"Idempotency-Key": "again"}
        assert (await house.ann.post("/v1/jobs", json=job_file(), headers=headers)).status_code == 202
    assert len(await entries(house.ann, action="job.submit")) == 1


async def test_what_is_passed_on_is_written_before(house: House) -> None:
    answer = await house.ann.post("/v1/feedback", json={"id": "chatcmpl_1", "correction": "the secret answer"})
    assert answer.status_code == 503
    (entry,) = await entries(house.ann, action="feedback.give")
    assert "secret" not in str(entry)


async def test_entries_come_in_pages_and_by_what_is_asked(house: House) -> None:
    for number in range(3):
        await house.dataset(house.ann, f"d{number}")
    first = (await house.ann.get("/v1/audit", params={"limit": 2})).json()
    second = (await house.ann.get("/v1/audit", params={"limit": 2, "after": first["next"]})).json()
    assert [one["seq"] for one in (*first["data"], *second["data"])] == [4, 3, 2, 1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert [one["seq"] for one in await entries(house.ann, actor="test")] == [4, 3, 2]
    target = first["data"][0]["target"]
    assert [one["seq"] for one in await entries(house.ann, target=target)] == [4]
    assert await entries(house.bob, target=target) == []


async def test_no_key_is_in_the_log_or_in_an_error(house: House, caplog: pytest.LogCaptureFixture) -> None:
    made = await key_with(house, None)
    (webhook,) = [(await house.ann.post("/v1/webhooks", json={"url": "https://example.org/hook"})).json()]
    (created,) = await entries(house.ann, action="key.create", actor="test")
    assert created["target"] == made["id"]
    wrong = made["key"][:-1] + ("a" if made["key"][-1] != "a" else "b")
    async with client_of(house.url, wrong) as client:
        refused = [await client.get("/v1/jobs"), await client.post("/v1/session", json={"key": wrong})]
    assert [answer.status_code for answer in refused] == [401, 401]
    async with house.world.database.transaction() as session:
        rows = await session.scalars(text("SELECT to_jsonb(audit)::text FROM gateway.audit"))
        kept = " ".join(rows)
    for secret in (made["key"], wrong, webhook["secret"], ADMIN_KEY):
        assert secret not in kept
        assert secret not in caplog.text
        assert all(secret not in answer.text for answer in refused)


CHANGES = {
    "an entry's actor": "UPDATE gateway.audit SET actor_id = 'somebody' WHERE {it}",
    "an entry's time": "UPDATE gateway.audit SET at = at + interval '1 second' WHERE {it}",
    "an entry's status": "UPDATE gateway.audit SET status = status + 1 WHERE {it}",
    "an entry's state": "UPDATE gateway.audit SET after_sha256 = repeat('0', 64) WHERE {it}",
    "an entry and its hash": "UPDATE gateway.audit SET target = 'x', sha256 = repeat('0', 64) WHERE {it}",
    "an entry is deleted": "DELETE FROM gateway.audit WHERE {it}",
    "two change places": (
        "UPDATE gateway.audit SET seq = CASE seq WHEN {n} THEN {m} ELSE {n} END + 1000 "
        "WHERE tenant_id = '{tenant}' AND seq IN ({n}, {m}); "
        "UPDATE gateway.audit SET seq = seq - 1000 WHERE tenant_id = '{tenant}' AND seq > 1000"
    ),
    "the newest are deleted": "DELETE FROM gateway.audit WHERE tenant_id = '{tenant}' AND seq >= {n}",
    "all are deleted": "DELETE FROM gateway.audit WHERE tenant_id = '{tenant}'",
    "one is added": (
        "INSERT INTO gateway.audit SELECT tenant_id, seq + 1000, 'x', at, actor_kind, actor_id, actor_name, action, "
        "target, status, before_sha256, after_sha256, previous_sha256, sha256 FROM gateway.audit WHERE {it}; "
        "UPDATE gateway.tenants SET audit_seq = audit_seq + 1 WHERE tenant_id = '{tenant}'"
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_whatever_is_done_to_the_log_is_noticed(house: House, change: str) -> None:
    for number in range(4):
        await house.dataset(house.ann, f"d{number}")
    tenant, database = await tenant_of(house.ann), house.world.database
    assert (await house.ann.get("/v1/audit/verify")).json() == {"valid": True, "entries": 5, "broken_at": None}
    first = 5 if change == "one is added" else 1
    for number in range(first, 6):
        other = number % 5 + 1
        if change == "two change places" and other < number:
            continue
        it = f"tenant_id = '{tenant}' AND seq = {number}"
        async with undone(database) as session:
            for statement in CHANGES[change].format(it=it, tenant=tenant, n=number, m=other).split("; "):
                await session.execute(text(statement))
            verdict = await Audit(session).verify(tenant)
            assert verdict.broken_at is not None
            if change not in ("all are deleted", "one is added"):
                assert verdict.broken_at == number
    async with database.transaction() as session:
        assert await Audit(session).verify(tenant) == Verdict(5, None)


async def test_a_request_cannot_touch_the_log(house: House) -> None:
    await house.dataset(house.ann)
    tenant = await tenant_of(house.ann)
    for statement in (
        "DELETE FROM gateway.audit",
        "UPDATE gateway.audit SET status = 200",
        "INSERT INTO gateway.audit SELECT * FROM gateway.audit",
        "UPDATE gateway.tenants SET audit_seq = 0",
        "SELECT token_sha256 FROM gateway.links",
        "DELETE FROM gateway.sessions",
        "SELECT * FROM gateway.users",
        "SELECT value FROM gateway.outbox",
    ):
        with pytest.raises(ProgrammingError) as refused, answering(Asking(tenant, SOMEBODY)):
            async with house.world.database.transaction() as session:
                await session.execute(text(statement))
        assert isinstance(refused.value.orig, psycopg.errors.InsufficientPrivilege)


async def test_what_fails_is_not_written_and_what_a_handler_does_is_nobodys(house: House) -> None:
    await house.dataset(house.ann)
    tenant = await tenant_of(house.ann)
    before = len(await entries(house.ann))
    with answering(Asking(tenant, SOMEBODY, "job.submit")):
        async with undone(house.world.database) as session:
            await session.execute(text("UPDATE gateway.datasets SET name = 'other'"))
    async with house.world.database.transaction() as session:
        assert list(await session.scalars(select(JobRow).where(JobRow.tenant_id == tenant))) == []
        rows = list(await session.scalars(select(AuditRow.seq).where(AuditRow.tenant_id == tenant)))
    assert len(rows) == before
