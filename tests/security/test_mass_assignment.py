"""S7: a body decides nothing but what it is asked for. Whatever else it says is refused, and nothing is stored."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import Message

from sskai.contract import tenant_of as tenant_told
from tests.gateway.conftest import House
from tests.security import doors
from tests.security.conftest import tenant_of
from tests.security.estate import Estate
from tests.security.examples import checksum
from tests.security.test_others_ids import fields_of, filled, named_in_path, of_ann, operations

pytestmark = pytest.mark.asyncio(loop_scope="session")

WRITING = {"POST", "PUT", "PATCH"}
# What a user would like to decide: whose it is, what it costs, how far it is, and what oneself may do.
WISHES: dict[str, Any] = {
    "tenant_id": "tenant_of-bob",
    "id": "job_mine",
    "key_id": "key_mine",
    "object": "job",
    "status": "succeeded",
    "state": "succeeded",
    "cost": 0,
    "spent_usd": 0.0,
    "amount_nano_usd": 0,
    "budget": {"total_usd": 1e9},
    "limits": {"jobs": 1e9},
    "epoch": 99,
    "attempt": 99,
    "role": "admin",
    "admin": True,
    "operator": True,
    "secret": "mine",
    "created_at": "2020-01-01T00:00:00Z",
    "receipt": {},
    "__proto__": {"admin": True},
}
# Inference judges these bodies, and leaves out what it does not know; the gateway takes the model's name alone.
PASSED_ON = {
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/images/generations", "/v2/models/{name}/infer",
}  # fmt: skip


def bodies(body: dict[str, Any], own: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The body with one wish each, at its top and in each object that it holds."""
    for name, value in WISHES.items():
        if name not in {field.partition(".")[0] for field in own}:
            yield name, {**copy.deepcopy(body), name: value}
        for place, held in body.items():
            if isinstance(held, dict) and f"{place}.{name}" not in own:
                yield f"{place}.{name}", {**copy.deepcopy(body), place: {**held, name: value}}


async def test_what_a_body_is_not_asked_for_is_refused_and_changes_nothing(estate: Estate, house: House) -> None:
    await house.dataset(house.ann, "mine")
    own = {**{kind: named[0] for kind, named in estate.ids.items()}}
    own |= {kind: named[0] for kind, named in (await of_ann(house)).items()}
    before = await stored(house)
    document, asked = house.app.openapi(), 0
    for method, path, operation in operations(house.app):
        content = operation.get("requestBody", {}).get("content", {})
        if method not in WRITING or "application/json" not in content or path in PASSED_ON:
            continue
        fields = fields_of(content["application/json"]["schema"], document)
        url = filled(path, {name: own[kind] for name, kind in named_in_path(path)})
        for wish, body in bodies(doors.BODIES[method, path], fields):
            answer = await house.ann.request(method, url, json=body)
            # 404 comes first where the caller has not what the path names; OpenAI's routes say 400 for 422.
            assert answer.status_code in (400, 404, 422), f"{method} {path} took {wish}: {answer.text}"
            asked += 1
    assert asked > 150
    assert await stored(house) == before


async def stored(house: House) -> dict[str, str]:
    """Everything but the audit log, whose end is the project's row: what was tried may stand there."""
    digests = await checksum(house.world.database, besides="nobody")
    return {table: digest for table, digest in digests.items() if table not in ("audit", "tenants")}


async def test_nobody_says_in_a_header_or_a_query_who_he_is(estate: Estate, house: House) -> None:
    """What a gateway tells the services behind it means nothing when a user writes it."""
    ann = await tenant_of(house.ann)
    claims = {"X-SSKAI-Internal": "internal", "X-Forwarded-User": "bob", "X-SSKAI-Key": "key_of-bob"}
    claims |= {"X-SSKAI-Role": "admin", "X-SSKAI-Operator": "true", "X-Original-URL": "/v1/keys"}
    query = {"tenant": estate.tenant_id, "admin": "true", "operator": "true"}
    before = await checksum(house.world.database, besides=ann)
    webhook = await house.ann.post(
        "/v1/webhooks", json={"url": "https://example.com/a"}, headers=claims, params={"tenant_id": estate.tenant_id}
    )
    budget = await house.ann.put("/v1/budgets", json={"scope": "tenant", "amount_usd": 5.0}, headers=claims)
    assert (webhook.status_code, budget.status_code, budget.json()["target"]) == (201, 200, ann)
    for path in ("/v1/jobs", "/v1/endpoints", "/v1/webhooks", "/v1/budgets", "/v1/costs"):
        answer = await house.ann.get(path, headers=claims, params=query)
        assert answer.status_code == 200
        assert "bobs-" not in answer.text
    asked = await house.ann.post(
        "/v1/chat/completions", json=doors.BODIES["POST", "/v1/chat/completions"], headers=claims
    )
    assert asked.status_code == 404, "inference was asked for ann, not for bob"
    made = await house.ann.post("/v1/keys", json={"name": "mine", "operator": True}, headers=claims)
    assert made.status_code == 403
    for tenant_id in (estate.tenant_id, "tenant_nobodys"):
        chosen = await house.ann.get("/v1/jobs", headers={"X-SSKAI-Tenant": tenant_id})
        assert (chosen.status_code, chosen.json()["title"]) == (404, "No such tenant")
    assert await checksum(house.world.database, besides=ann) == before
    told: list[Message] = await house.told(Message)
    assert {tenant_told(one) for one in told[-1:]} == {ann}
