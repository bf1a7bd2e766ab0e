"""The object store as the doctor sees it: a real one, and what is wrong with others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from sskai.doctor import Finding, Findings
from sskai.doctor import objects as doctor
from sskai.doctor.settings import Settings
from sskai.local.processes import free_ports
from sskai.objects import Objects
from tests.doctor.found import states


def settings_of(objects: Objects, **changed: str) -> Settings:
    told = {
        "objects_url": objects.access.url, "objects_bucket": objects.bucket,
        "objects_access_key": objects.access.access_key, "objects_secret_key": objects.access.secret_key,
    }  # fmt: skip
    return Settings.model_validate(told | changed)


def now() -> datetime:
    return datetime.now(UTC)


async def look(settings: Settings, clock: Callable[[], datetime] = now) -> dict[str, Finding]:
    found = await doctor.look(settings, clock)
    states(found)
    return {one.check: one for one in found}


async def test_a_sound_store_is_sound_and_keeps_nothing_of_the_probe(objects: Objects) -> None:
    found = await look(settings_of(objects))
    assert {check: one.says for check, one in found.items() if one.state != "ok"} == {}
    checks = {"bucket", "region", "clock", "write and read", "conditional write", "multipart", "signed addresses"}
    assert found.keys() == checks | {"public access", "delete"}
    assert objects.list(doctor.PREFIX) == []


async def test_no_bucket_a_wrong_key_and_no_server_each_say_what_to_do(objects: Objects) -> None:
    (nobody,) = free_ports(1)
    for changed, mend in (
        ({"objects_bucket": "another"}, "Create the bucket another"),
        ({"objects_secret_key": "wrong"}, "s3:PutObject"),
        ({"objects_url": f"http://127.0.0.1:{nobody}"}, "SSKAI_OBJECTS_URL"),
    ):
        found = await look(settings_of(objects, **changed))
        assert states(found.values()) == {"bucket": "fail"}
        assert mend in found["bucket"].mend


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (30, "warn"), (-3600, "fail")])
async def test_a_clock_that_is_wrong_is_measured(objects: Objects, seconds: float, state: str) -> None:
    found = await look(settings_of(objects), lambda: now() + timedelta(seconds=seconds))
    assert found["clock"].state == state


async def test_a_store_that_ignores_the_condition_is_refused(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Objects.put_bytes
    monkeypatch.setattr(Objects, "put_bytes", lambda self, key, data, if_absent=False: put(self, key, data))
    found = (await look(settings_of(objects)))["conditional write"]
    assert found.state == "fail"
    assert "overwrites the first" in found.says


async def test_a_bucket_that_anybody_reads_is_said(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    get = httpx2.get

    def public(url: str, **options: float) -> httpx2.Response:
        return get(url, **options) if "Signature" in url else httpx2.Response(200)

    monkeypatch.setattr(doctor.httpx2, "get", public)
    assert (await look(settings_of(objects)))["public access"].state == "fail"


@pytest.mark.parametrize(
    ("url", "ours", "told", "state"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "eu-west-1", "eu-west-1", "ok"),
        ("https://s3.eu-west-1.amazonaws.com", "us-east-1", "eu-west-1", "fail"),
        ("https://s3.eu-west-1.amazonaws.com", "", "eu-west-1", "warn"),
        ("http://objects:8333", "", "", "ok"),
    ],
)
def test_the_buckets_region_is_the_one_that_plans_count_with(url: str, ours: str, told: str, state: str) -> None:
    said = Findings("objects")
    doctor._region(said, Settings(objects_url=url, objects_region=ours), told)
    assert [one.state for one in said.found] == [state]
