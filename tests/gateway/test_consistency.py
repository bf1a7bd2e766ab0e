"""What all routes have in common: ETags, filters, pages, limits, and a page of documents that needs no network."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from services.gateway import quotas
from services.gateway.admission import Limits
from services.gateway.api import etags, ratelimits
from services.gateway.jobfile import JobFileError
from services.gateway.quotas import MOST_PER_MACHINE, Quotas
from services.optimizer import catalogue
from sskai.contract import timestamp
from sskai.events import v1 as events
from tests.gateway.conftest import House, job_file
from tests.gateway.test_api import trained
from tests.gateway.test_proxies import CHAT, Neighbours, neighbours

__all__ = ["neighbours"]
pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_is_known_already_is_not_sent_again(house: House) -> None:
    job = await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    await trained(house, submitted.tenant_id)
    endpoint = (await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "bot@1"})).json()
    budget = (await house.ann.put("/v1/budgets", json={"scope": "tenant", "amount_usd": 5})).json()
    house.world.settings.plan_wait_seconds = 0
    plan = (await house.ann.post("/v1/plans", json=job_file())).json()
    for path in (
        f"/v1/jobs/{job['id']}",
        "/v1/datasets/support@1",
        "/v1/models/bot@1",
        f"/v1/endpoints/{endpoint['id']}",
        f"/v1/plans/{plan['id']}",
        f"/v1/budgets/{budget['id']}",
    ):
        first = await house.ann.get(path)
        assert first.headers["cache-control"] == "private, no-cache"
        for known in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
            again = await house.ann.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert (await house.ann.get(path, headers={"If-None-Match": '"other"'})).json() == first.json()
    before = await house.ann.get(f"/v1/jobs/{job['id']}")
    await house.ann.post(f"/v1/jobs/{job['id']}/cancel")
    after = await house.ann.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["state"]) == (200, "cancelling")


async def test_nobody_overwrites_what_they_have_not_seen(house: House) -> None:
    budget = {"scope": "tenant", "amount_usd": 5}
    nothing = await house.ann.put("/v1/budgets", json=budget, headers={"If-Match": "*"})
    assert nothing.status_code == 412
    path = f"/v1/budgets/{(await house.ann.put('/v1/budgets', json=budget)).json()['id']}"
    seen = (await house.ann.get(path)).headers["etag"]
    changed = {**budget, "amount_usd": 6}
    assert (await house.ann.put("/v1/budgets", json=changed, headers={"If-Match": seen})).status_code == 200
    late = await house.ann.put("/v1/budgets", json=changed, headers={"If-Match": seen})
    assert (late.status_code, late.json()["title"]) == (412, "It was changed meanwhile")
    assert (await house.ann.delete(path, headers={"If-Match": seen})).status_code == 412
    assert (await house.ann.delete(path, headers={"If-Match": "*"})).status_code == 204

    await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    for version in (1, 2):
        await trained(house, submitted.tenant_id, version=version)
    alias = "/v1/models/bot/aliases/champion"
    assert (await house.ann.put(alias, json={"version": 1}, headers={"If-Match": "*"})).status_code == 412
    moved = await house.ann.put(alias, json={"version": 1})
    assert moved.headers["etag"] == (await house.ann.get(alias)).headers["etag"]
    headers = {"If-Match": moved.headers["etag"]}
    assert (await house.ann.put(alias, json={"version": 2}, headers=headers)).status_code == 200
    assert (await house.ann.put(alias, json={"version": 1}, headers=headers)).status_code == 412

    endpoint = (await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "bot@1"})).json()
    path = f"/v1/endpoints/{endpoint['id']}"
    stale = {"If-Match": (await house.ann.get(path)).headers["etag"]}
    (requested,) = await house.told(events.EndpointRequested)
    await house.bus.publish(
        events.EndpointReady(endpoint_id=endpoint["id"], tenant_id=requested.tenant_id, ready_at=requested.requested_at)
    )
    await house.bus.settle()
    wish = {"promotion": {"mode": "auto"}}
    assert (await house.ann.patch(path, json=wish, headers=stale)).status_code == 412
    assert (await house.ann.delete(path, headers=stale)).status_code == 412
    fresh = {"If-Match": (await house.ann.get(path)).headers["etag"]}
    assert (await house.ann.patch(path, json=wish, headers=fresh)).status_code == 202
    assert (await house.ann.delete(path, headers=fresh)).status_code == 202


async def test_a_figure_that_moves_by_itself_refuses_no_change() -> None:
    seen = etags.etag({"id": "x", "tokens": 1}, state={"id": "x"})
    etags.require_match([etags.etag({"id": "x", "tokens": 2}, state={"id": "x"})], {"id": "x"})
    assert seen != etags.etag({"id": "x", "tokens": 2}, state={"id": "x"})


async def test_lists_are_filtered_and_go_both_ways(house: House) -> None:
    jobs = [await house.job(house.ann, name=f"bot-{number}") for number in range(3)]
    await house.ann.post(f"/v1/jobs/{jobs[0]['id']}/cancel")
    middle = jobs[1]["submitted_at"]

    async def ids(path: str, **params: Any) -> list[str]:
        answer = await house.ann.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["data"]]

    by_age = [job["id"] for job in jobs]
    assert await ids("/v1/jobs", order="asc") == by_age
    assert await ids("/v1/jobs", order="asc", limit=1, after=by_age[0]) == by_age[1:2]
    assert await ids("/v1/jobs", created_after=middle) == by_age[2:]
    assert await ids("/v1/jobs", created_before=middle) == by_age[:1]
    assert await ids("/v1/jobs", name="bot-1") == by_age[1:2]
    assert await ids("/v1/jobs", state="cancelling") == by_age[:1]
    for filters in ({"kind": "finetune"}, {"model": "tiny-llama"}, {"dataset": "support@1"}):
        assert len(await ids("/v1/jobs", **filters)) == 3
    for filters in ({"kind": "train"}, {"model": "other"}, {"dataset": "other"}):
        assert await ids("/v1/jobs", **filters) == []
    for no_time in ("yesterday", "2026-01-01T00:00:00", "0.5", ""):
        assert (await house.ann.get("/v1/jobs", params={"created_after": no_time})).status_code == 422

    dataset = await house.dataset(house.ann, "others", [{"text": "x"}])
    assert await ids("/v1/datasets", format="text") == [dataset["id"]]
    assert await ids("/v1/datasets", name="others", order="asc") == [dataset["id"]]
    (submitted, *_) = await house.told(events.JobSubmitted)
    await trained(house, submitted.tenant_id)
    endpoint = (await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "bot@1"})).json()
    for filters in ({"state": "requested"}, {"name": "chat"}, {"kind": "adapter"}, {"model": "bot@1"}):
        assert await ids("/v1/endpoints", **filters) == [endpoint["id"]]
    for filters in ({"state": "ready"}, {"name": "other"}, {"kind": "spot"}, {"model": "bot@2"}):
        assert await ids("/v1/endpoints", **filters) == []
    house.world.settings.plan_wait_seconds = 0
    plan = (await house.ann.post("/v1/plans", json=job_file())).json()
    assert await ids("/v1/plans", kind="finetune", status="pending") == [plan["id"]]
    assert await ids("/v1/plans", kind="endpoint") == []


async def test_models_come_in_pages_too(house: House) -> None:
    await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    for version in (1, 2, 3):
        await trained(house, submitted.tenant_id, version=version)
    whole = [one["id"] for one in (await house.ann.get("/v1/models")).json()["data"]]
    assert {"bot@1", "bot@2", "bot@3", "tiny-llama"} < set(whole)
    found: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        answer = (await house.ann.get("/v1/models", params=params)).json()
        found += [one["id"] for one in answer["data"]]
        if not answer["has_more"]:
            break
        params["after"] = answer["next"]
    assert found == whole
    assert len((await house.ann.get("/v1/models?origin=trained")).json()["data"]) == 3
    assert [one["id"] for one in (await house.ann.get("/v1/models?name=tiny-llama")).json()["data"]] == ["tiny-llama"]
    assert (await house.ann.get("/v1/models?after=nothing")).status_code == 404


async def test_requests_to_models_say_how_many_more_may_come(house: House, neighbours: Neighbours) -> None:
    house.world.settings.request_burst_per_key, house.world.settings.requests_per_second_per_key = 2, 0.01
    first = await house.ann.post("/v1/chat/completions", json=CHAT)
    assert first.headers["ratelimit-policy"] == '"requests";q=2;w=200'
    assert first.headers["ratelimit"] == '"requests";r=1;t=100'
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    await house.ann.post("/v1/chat/completions", json=CHAT)
    refused = await house.ann.post("/v1/chat/completions", json=CHAT)
    assert (refused.status_code, refused.headers["x-ratelimit-remaining-requests"]) == (429, "0")
    assert ratelimits.of_requests(Limits(100, 1000, 1, 1), 1000.0)["x-ratelimit-reset-requests"] == "0ms"


async def test_a_model_that_nothing_serves_is_told_apart_from_one_that_is_not_there(
    house: House, neighbours: Neighbours
) -> None:
    await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    await trained(house, submitted.tenant_id)
    neighbours.away, neighbours.away_status = 9, 404
    missing = await house.ann.post("/v1/chat/completions", json={**CHAT, "model": "bot@1"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert 'POST /v1/endpoints {"name": "...", "model": "bot@1"' in missing.json()["error"]["message"]
    bobs = await house.bob.post("/v1/chat/completions", json={**CHAT, "model": "bot@1"})
    assert (bobs.status_code, bobs.content) == (404, b"")


async def test_one_job_too_many_is_refused_until_one_ends(house: House) -> None:
    house.world.settings.max_active_jobs_per_tenant = 2
    job = await house.job(house.ann)
    second = await house.ann.post("/v1/jobs", json=job_file())
    assert second.headers["ratelimit"] == '"active-jobs";r=0'
    for path, form in (
        ("/v1/jobs", job_file()),
        ("/v1/fine_tuning/jobs", {"model": "tiny-llama", "training_file": "support"}),
    ):
        refused = await house.ann.post(path, json=form)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert refused.headers["ratelimit-policy"] == '"active-jobs";q=2;qu="jobs"'
    await house.dataset(house.bob)
    assert (await house.bob.post("/v1/jobs", json=job_file())).status_code == 202
    (submitted, *_) = await house.told(events.JobSubmitted)
    cancelled = events.JobCancelled(
        job_id=job["id"], tenant_id=submitted.tenant_id, ended_at=timestamp(house.world.now())
    )
    await house.bus.publish(cancelled)
    await house.bus.settle()
    assert (await house.ann.post("/v1/jobs", json=job_file())).status_code == 202


async def test_more_than_a_tenant_may_have_is_refused_before_anything_starts(house: House) -> None:
    await house.dataset(house.ann)
    settings = house.world.settings
    settings.max_accelerators_per_job, settings.max_usd_per_hour_per_job, settings.max_epochs_per_job = 4, 10.0, 5
    fitting: dict[str, Any] = {"resources": {"accelerators": "L4:2"}}
    for fields, field in (
        ({"resources": {"accelerators": "L4:8"}}, "resources.accelerators"),
        ({"resources": {"accelerators": "L4:2", "nodes": 3}}, "resources.accelerators"),
        ({}, "resources.accelerators"),
        ({**fitting, "max_price": 11}, "max_price"),
        ({**fitting, "hyperparameters": {"n_epochs": 6}}, "hyperparameters.n_epochs"),
    ):
        refused = await house.ann.post("/v1/jobs", json=job_file(**fields))
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert await house.told(events.JobSubmitted) == []
    assert (await house.ann.post("/v1/jobs", json=job_file(**fitting))).status_code == 202
    (submitted,) = await house.told(events.JobSubmitted)
    assert submitted.spec.resources.nodes == "1..2"
    assert submitted.spec.resources.max_price_usd_per_hour == 10
    form = {"model": "tiny-llama", "training_file": "support", "hyperparameters": {"n_epochs": 6}}
    tuned = await house.ann.post("/v1/fine_tuning/jobs", json={**form, "sskai": fitting})
    assert (tuned.status_code, tuned.json()["error"]["param"]) == (400, "hyperparameters.n_epochs")


@pytest.mark.parametrize(
    ("accelerators", "nodes", "quota", "narrowed"),
    [
        ("", "1..8", 64, "1..8"),
        ("", "1..8", 16, "1..2"),
        ("", "1..8", 8, "1"),
        ("L4:1", "1..8", 3, "1..3"),
        ("none", "1..8", 0, "1..8"),
        ("L4:1..4, A100:2", "2", 8, "2"),
        ("L4:1..4, A100:2", "2", 7, None),
        ("L4:2+", "1", 7, None),
        ("L4", "1..8", 0, None),
    ],
)
async def test_no_job_can_get_more_accelerators_than_its_quota(
    accelerators: str, nodes: str, quota: int, narrowed: str | None
) -> None:
    spec = events.JobSpec(resources=events.Resources(accelerators=accelerators, nodes=nodes))
    limits = Quotas(quota, None, 1_000)
    if narrowed is None:
        with pytest.raises(JobFileError):
            quotas.held(spec, limits)
    else:
        assert quotas.held(spec, limits).resources.nodes == narrowed


async def test_no_machine_has_more_accelerators_than_is_said() -> None:
    assert max(machine.accelerator_count for machine in catalogue.snapshot().machines.values()) <= MOST_PER_MACHINE


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/plans", "/v1/fine_tuning/jobs", "/v1/endpoints", "/v1/uploads"])
async def test_a_deeply_nested_body_is_refused_at_once(house: House, path: str) -> None:
    deep = b'{"name": ' + b'{"a":' * 1_000 + b"1" + b"}" * 1_000 + b"}"
    began = time.monotonic()
    answer = await house.ann.post(path, content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert time.monotonic() - began < 1
    assert len(answer.content) < 10_000, "what was sent is not sent back"


async def test_the_page_of_documents_needs_no_network(house: House) -> None:
    page = await house.ann.get("/docs", headers={"Authorization": ""})
    assert page.status_code == 200
    named = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(named) == 4
    assert not re.search(r"https?://", page.text)
    for path in named:
        asset = await house.ann.get(path, headers={"Authorization": ""})
        assert (asset.status_code, len(asset.content) > 100) == (200, True), path
    # Swagger UI shows OpenAPI 3.1 from version 5 on.
    script = (await house.ann.get("/docs/assets/swagger-ui-bundle.js")).text
    assert re.search(r'PACKAGE_VERSION:"5\.|swaggerUi[^}]*version:"v?5\.', script) or "3.1." in script
    assert json.loads((await house.ann.get("/openapi.json")).text)["openapi"].startswith("3.1")
    assert (await house.ann.get("/docs/assets/secrets")).status_code in (404, 422)
