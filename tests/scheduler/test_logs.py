"""What pods print, as every cluster tells it, and as the scheduler tells the gateway."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from moto import mock_aws

from services.scheduler import api, keptlogs
from services.scheduler.settings import Settings
from sskai.cluster import ClusterUnavailableError, Line, LogPage, NoLogError, kubernetes_logs
from sskai.cluster.choosing import NoCluster
from sskai.cluster.ec2_cluster import Ec2Cluster
from sskai.cluster.kubernetes_cluster import KubernetesCluster
from sskai.cluster.local_cluster import LocalCluster
from sskai.database import Database
from sskai.failpoints import Action
from sskai.local.cloud.api import create_app
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.market import Market
from sskai.objects import Objects
from sskai.testing import wait_for
from tests.reliability.matrix import Crash
from tests.reliability.strikes import ENDS, SAYS_NO, each, struck
from tests.scheduler.cluster_contract import POD
from tests.scheduler.ec2_double import Ec2Double, error
from tests.scheduler.kubernetes_api import KubernetesApi
from tests.scheduler.stage import Stage
from tests.scheduler.test_ec2_cluster import TOLD
from tests.scheduler.test_last_words import FINISHED

SERVICE = "scheduler"
WAITS = """
import pathlib, sys, time
print("one\\ntwo", flush=True)
while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)
print("three")
"""


def texts(page: LogPage) -> list[str]:
    return [line.text for line in page.lines]


# On this computer, for real.


async def test_a_pod_of_this_computer_is_followed_to_its_end_and_after(tmp_path: Path) -> None:
    market = Market(speed=1.0)
    (tmp_path / "cloud").mkdir()
    cloud = Cloud(tmp_path / "cloud", market, time.time)
    transport = httpx2.ASGITransport(create_app(cloud, market, "a-token-of-the-test"))
    command = [sys.executable, "-c", WAITS, str(tmp_path / "go")]
    cluster = LocalCluster(
        "http://cloud", "a-token-of-the-test", Settings.program, command=command, transport=transport
    )
    machine = (await cluster.launch(POD)).machine_id

    async def page(after: str = "", tail: int = 10) -> LogPage:
        cloud.tick()
        return await cluster.log(machine, tail=tail, after=after)

    async def has_spoken() -> bool:
        return len((await page()).lines) == 2

    await wait_for(has_spoken)
    first = await page(tail=1)
    assert (texts(first), first.truncated) == (["two"], True)
    assert texts(await page(first.after)) == []
    (tmp_path / "go").touch()

    async def the_rest() -> LogPage | None:
        rest = await page(first.after)
        return rest if rest.lines else None

    assert texts(await wait_for(the_rest)) == ["three"]
    await cluster.delete(machine)
    assert texts(await page()) == ["one", "two", "three"], "a machine that is gone is remembered for a while"
    with pytest.raises(NoLogError, match="no longer kept"):
        await cluster.log("i-unknown", tail=1)
    await cluster.close()


# On Kubernetes, against the tests' API.


@pytest.fixture
async def kubernetes() -> AsyncIterator[KubernetesApi]:
    server = KubernetesApi()
    await server.start()
    yield server
    await server.stop()


async def test_a_pod_of_kubernetes_is_followed_line_by_line(kubernetes: KubernetesApi) -> None:
    cluster = KubernetesCluster(kubernetes.client(), Settings())
    machine = (await cluster.launch(POD)).machine_id
    (pod,) = kubernetes.pods_of(machine)
    assert await cluster.log(machine, tail=5) == LogPage((), ""), "its container has not started"
    kubernetes.schedule(pod, "node-1")
    kubernetes.print(pod, "a", at="2026-11-29T22:00:00Z")
    kubernetes.print(pod, "b", "c", at="2026-11-29T22:00:00.123456789Z")
    page = await cluster.log(machine, tail=2)
    assert (texts(page), page.truncated) == (["b", "c"], True)
    assert page.lines[0].at == "2026-11-29T22:00:00.123456789Z"
    page = await cluster.log(machine, tail=2, after=page.after)
    assert texts(page) == []
    kubernetes.print(pod, "d", at="2026-11-29T22:00:00.123456789Z")
    kubernetes.print(pod, "e e")
    page = await cluster.log(machine, tail=2, after=page.after)
    assert "e e" in texts(page)
    assert texts(await cluster.log(machine, tail=2, after=page.after)) == []
    await cluster.delete(machine)
    with pytest.raises(NoLogError, match="is deleted"):
        await cluster.log(machine, tail=5)
    kubernetes.refuse("GET", "pods", 500, "etcd is away")
    with pytest.raises(ClusterUnavailableError):
        await cluster.log(machine, tail=5)
    await cluster.close()


def test_a_position_of_kubernetes_is_a_time_and_how_many_lines_had_it() -> None:
    at, later = "2026-11-29T22:00:00.12Z", "2026-11-29T22:00:00.123Z"
    first = kubernetes_logs.page(f"{at} a\n{at} b\n", "", 10)
    assert first == LogPage((Line("a", at), Line("b", at)), f"{at}/2")
    again = f"{at} a\n{at} b\n{at} c\n{later} d\n2026-11-29T22:00:01Z cut o"
    second = kubernetes_logs.page(again, first.after, 10)
    assert second == LogPage((Line("c", at), Line("d", later)), f"{later}/1")
    assert kubernetes_logs.page(again, second.after, 10) == LogPage((), second.after)
    assert kubernetes_logs.page("", second.after, 10).after == second.after


# On EC2, as far as it can.


@pytest.fixture
def ec2() -> Iterator[Ec2Double]:
    with mock_aws():
        yield Ec2Double()


async def test_a_machine_of_ec2_tells_its_console(ec2: Ec2Double) -> None:
    cluster = Ec2Cluster(Settings(**TOLD), ec2.clients)  # type: ignore[arg-type]
    machine = (await cluster.launch(POD)).machine_id
    ec2.consoles[machine] = "boot\r\nstarted\r\n"
    page = await cluster.log(machine, tail=1)
    assert (texts(page), page.truncated) == (["started"], True)
    assert texts(await cluster.log(machine, tail=1, after=page.after)) == []
    ec2.consoles[machine] += "step 1\r\n"
    assert texts(await cluster.log(machine, tail=1, after=page.after)) == ["step 1"]
    ec2.consoles[machine] = "all that was before is lost\n"
    rolled = await cluster.log(machine, tail=5, after=page.after)
    assert (texts(rolled), rolled.truncated) == (["all that was before is lost"], True)
    ec2.fail("get_console_output", error("UnsupportedOperation", "not of the Nitro system"))
    assert texts(await cluster.log(machine, tail=5)) == ["all that was before is lost"]
    with pytest.raises(NoLogError, match="no longer knows"):
        await cluster.log("i-1234567890abcdef0", tail=5)


# The scheduler's answer.


class Asked:
    """The gateway, asking."""

    def __init__(self, stage: Stage, objects: Objects | None = None) -> None:
        app = api.build(stage.database, stage.cluster, "internal", objects)
        self._http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://scheduler")

    async def __call__(self, tenant: str = "tenant_a", token: str = "internal", **params: object) -> httpx2.Response:
        headers = {"X-SSKAI-Tenant": tenant, "X-SSKAI-Internal": token}
        return await self._http.get("/v1/jobs/job_1/logs", params=params, headers=headers)


async def test_the_newest_attempt_is_told_of_and_any_other_by_its_number(database: Database) -> None:
    stage = Stage(database)
    ask = Asked(stage)
    machine = await stage.run_first_attempt()
    stage.cluster.prints[machine] = ["a", "b", "c"]
    told = (await ask(tail=2)).json()
    assert (told["attempt"], told["attempts"], told["truncated"]) == (1, [1], True)
    assert [line["text"] for line in told["lines"]] == ["b", "c"]
    assert (told["ended"], told["job_ended"], told["missing"]) == (False, False, "")
    stage.cluster.prints[machine] += ["d"]
    assert [line["text"] for line in (await ask(attempt=1, after=told["after"])).json()["lines"]] == ["d"]
    del stage.cluster.prints[machine]
    gone = (await ask()).json()
    assert (gone["lines"], gone["missing"]) == ([], "the machine is gone")
    assert (await ask(attempt=7)).json()["detail"] == "attempt: job_1 has the attempts 1"
    stage.cluster.away = True
    away = await ask()
    assert (away.status_code, away.headers["retry-after"]) == (503, "2")


async def test_only_the_gateway_may_ask_and_only_for_the_jobs_tenant(database: Database) -> None:
    stage = Stage(database)
    ask = Asked(stage)
    await stage.run_first_attempt()
    assert (await ask(token="wrong")).status_code == 403
    assert (await ask(tenant="tenant_b")).status_code == 404
    assert (await ask(tenant="")).status_code == 400


async def test_no_cluster_has_no_log() -> None:
    with pytest.raises(NoLogError):
        await NoCluster().log("m-1", tail=1)


# What is kept of a pod that is deleted.


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS))
async def test_a_cluster_that_does_not_tell_a_log_is_told_so(
    database: Database, objects: Objects, action: Action
) -> None:
    """Whoever asks is told when to ask again; a pod that has ended is given back, with or without its log."""
    stage = Stage(database)
    stage.world.objects = objects
    ask = Asked(stage, objects)
    machine = await stage.run_first_attempt()
    stage.cluster.prints[machine] = ["a"]
    if action in SAYS_NO:
        with struck("cluster.log", action):
            away = await ask()
        assert (away.status_code, away.headers["content-type"]) == (503, "application/problem+json")
        assert away.headers["retry-after"] == "2"
        assert [line["text"] for line in (await ask()).json()["lines"]] == ["a"]
    await stage.tell(FINISHED)
    stage.cluster.exit(machine, 0)
    with struck("cluster.log", action), suppress(Crash):
        await stage.turn(seconds=5)
    if action in ENDS:
        assert not stage.cluster.deletes
        await stage.turn(seconds=5)
    assert stage.cluster.deletes


async def test_a_log_outlives_its_pod(database: Database, objects: Objects) -> None:
    stage = Stage(database)
    stage.world.objects = objects
    ask = Asked(stage, objects)
    machine = await stage.run_first_attempt()
    stage.cluster.prints[machine] = ["a", "b", "c"]
    begun = (await ask(tail=2)).json()
    await stage.tell(FINISHED)
    stage.cluster.exit(machine, 0)
    await stage.turn(seconds=5)
    assert stage.cluster.deletes, "its pod is deleted"
    del stage.cluster.prints[machine]
    told = (await ask(tail=2)).json()
    assert [line["text"] for line in told["lines"]] == ["b", "c"]
    assert (told["truncated"], told["ended"], told["job_ended"], told["missing"]) == (True, True, True, "")
    for position in (begun["after"], told["after"]):
        rest = (await ask(tail=2, after=position)).json()
        assert (rest["lines"], rest["missing"]) == ([], ""), "who has read it comes to its end"


async def test_a_log_that_cannot_be_kept_holds_nothing_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(database)
    stage.world.objects = Objects("http://127.0.0.1:9", "sskai", "key", "secret")
    monkeypatch.setattr(keptlogs, "KEEP_SECONDS", 0.05)
    machine = await stage.run_first_attempt()
    stage.cluster.prints[machine] = ["a"]
    await stage.tell(FINISHED)
    stage.cluster.exit(machine, 0)
    await stage.turn(seconds=5)
    assert stage.cluster.deletes


def test_the_last_lines_are_kept_and_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    page = LogPage((Line("first"), Line("last", "2026-11-29T22:00:00Z")), "1")
    whole = keptlogs.written(page).splitlines()
    assert [json.loads(line) for line in whole] == [
        {"truncated": False},
        {"text": "first"},
        {"text": "last", "at": "2026-11-29T22:00:00Z"},
    ]
    monkeypatch.setattr(keptlogs, "KEPT_BYTES", 60)
    assert [json.loads(line) for line in keptlogs.written(page).splitlines()] == [
        {"truncated": True},
        {"text": "last", "at": "2026-11-29T22:00:00Z"},
    ]
