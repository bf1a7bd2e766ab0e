"""The local cluster against the real simulated cloud, with real processes as pods."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from services.scheduler.settings import Settings
from sskai.cluster import (
    ClusterUnavailableError,
    NoCapacityError,
    Observation,
    Pod,
    PodState,
    RefusedError,
)
from sskai.cluster.local_cluster import LocalCluster
from sskai.local.cloud.api import create_app
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.market import Market
from sskai.local.cloud.records import Trace
from sskai.testing import wait_for
from tests.scheduler.examples import placement

DRAINS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
while True: time.sleep(0.05)
"""


class Simulated:
    """The cloud, the app in front of it, and a cluster that speaks to the app."""

    def __init__(self, folder: Path) -> None:
        self.market = Market(speed=1.0)
        self.cloud = Cloud(folder, self.market, time.time)
        transport = httpx2.ASGITransport(create_app(self.cloud, self.market, "a-token-of-the-test"))
        command = [sys.executable, "-c", DRAINS]
        self.cluster = LocalCluster(
            "http://cloud", "a-token-of-the-test", Settings.program, command=command, transport=transport
        )

    async def seen(self, machine_id: str, condition: Callable[[Observation], bool]) -> Observation:
        async def look() -> Observation | None:
            self.cloud.tick()
            (one,) = [one for one in await self.cluster.observe() if one.machine_id == machine_id]
            return one if condition(one) else None

        found: Observation | None = await wait_for(look)
        assert found is not None
        return found


@pytest.fixture
async def simulated(tmp_path: Path) -> AsyncIterator[Simulated]:
    one = Simulated(tmp_path)
    yield one
    for machine in one.cloud.machines():
        one.cloud.terminate(machine.machine_id)
    await one.cluster.close()


def pod(attempt: int = 1, **options: object) -> Pod:
    return Pod("job_1", "tenant_a", attempt, placement(**options), {"SSKAI_ATTEMPT": str(attempt)})


async def test_the_same_attempt_is_launched_once(simulated: Simulated) -> None:
    first, second = await simulated.cluster.launch(pod()), await simulated.cluster.launch(pod())
    assert first == second
    assert first.member_ids == ()
    assert len(await simulated.cluster.observe()) == 1
    third = await simulated.cluster.launch(pod(attempt=2))
    assert third.machine_id != first.machine_id


async def test_a_drained_pod_says_so_by_its_exit_code(simulated: Simulated) -> None:
    machine = await simulated.cluster.launch(pod())
    await wait_for(lambda: "ready" in simulated.cloud.log(machine.machine_id, 10))
    await simulated.cluster.drain(machine.machine_id)
    ended = await simulated.seen(machine.machine_id, lambda one: one.state is PodState.EXITED)
    assert (ended.exit_code, ended.job_id, ended.attempt) == (75, "job_1", 1)


async def test_an_interruption_takes_machine_and_pod(simulated: Simulated) -> None:
    machine = await simulated.cluster.launch(pod())
    simulated.cloud.interrupt(machine.machine_id, 0)
    gone = await simulated.seen(machine.machine_id, lambda one: one.state is PodState.GONE)
    assert gone.ended_at is not None


async def test_a_pod_that_was_done_is_not_gone_with_its_machine_but_nothing_stands(simulated: Simulated) -> None:
    machine = await simulated.cluster.launch(pod())
    await simulated.seen(machine.machine_id, lambda one: one.state is PodState.RUNNING and one.stands)
    await simulated.cluster.drain(machine.machine_id)
    await simulated.seen(machine.machine_id, lambda one: one.state is PodState.EXITED and one.stands)
    await simulated.cluster.delete(machine.machine_id)
    await simulated.seen(machine.machine_id, lambda one: not one.stands)


async def test_delete_is_idempotent_and_so_is_asking_about_the_unknown(simulated: Simulated) -> None:
    machine = await simulated.cluster.launch(pod())
    for machine_id in (machine.machine_id, machine.machine_id, "i-unknown"):
        await simulated.cluster.delete(machine_id)
        await simulated.cluster.drain(machine_id)
    assert (await simulated.cluster.observe())[0].state is PodState.GONE


async def test_a_market_that_denies_has_no_capacity(simulated: Simulated) -> None:
    simulated.cloud.deny(["use1-az1/g5.xlarge/spot"])
    with pytest.raises(NoCapacityError):
        await simulated.cluster.launch(pod())
    await simulated.cluster.launch(pod(spot=False, zone="*"))


async def test_this_computer_is_launched_at_the_price_of_what_it_plays(simulated: Simulated) -> None:
    """No table of the cloud knows `local.m5.large`: the price comes with the launch, and zones are denied as ever."""
    where = placement(price=0.0326)
    where.cloud, where.instance_type = "local", "local.m5.large"
    machine = await simulated.cluster.launch(Pod("job_1", "tenant_a", 1, where, {}))
    known = simulated.cloud.machine(machine.machine_id)
    assert (known.instance_type, known.price_usd_per_hour) == ("local.m5.large", 0.0326)
    for pattern in ("use1-az1/*", "*/local.m5.large/spot"):
        simulated.cloud.deny([pattern])
        with pytest.raises(NoCapacityError):
            await simulated.cluster.launch(Pod("job_2", "tenant_a", 1, where, {}))


async def test_secrets_come_from_the_schedulers_own_environment(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Pod("job_1", "tenant_a", 1, placement(), {}, secrets=("HF_TOKEN",))
    with pytest.raises(RefusedError, match="SSKAI_SECRET_HF_TOKEN"):
        await simulated.cluster.launch(wanted)
    monkeypatch.setenv("SSKAI_SECRET_HF_TOKEN", "hf_1234")
    command = [sys.executable, "-c", "import os; print('token', os.environ['HF_TOKEN'])"]
    simulated.cluster._command = command
    machine = await simulated.cluster.launch(wanted)
    await wait_for(lambda: "token hf_1234" in simulated.cloud.log(machine.machine_id, 10))


GANG = Pod("job_1", "tenant_a", 1, placement(), {}, machines=3)
FAILS_UNLESS_FIRST = [
    sys.executable,
    "-c",
    "import os, sys, time\nif os.environ['RANK'] == '2': sys.exit(71)\nif os.environ['RANK'] == '1': sys.exit(1)\n"
    "time.sleep(600)",
]


async def test_a_gang_is_launched_once_told_its_ranks_and_seen_as_one(simulated: Simulated) -> None:
    simulated.cluster._command = [sys.executable, "-c", "import os, time; print(os.environ['RANK']); time.sleep(600)"]
    gang = await simulated.cluster.launch(GANG)
    assert gang == await simulated.cluster.launch(GANG)
    assert (gang.machine_id, len(gang.member_ids)) == (gang.member_ids[0], 3)
    for rank, member in enumerate(gang.member_ids):
        await wait_for(lambda member=member: simulated.cloud.log(member, 5))
        assert simulated.cloud.log(member, 5) == str(rank)
    (seen,) = await simulated.cluster.observe()
    assert (seen.machine_id, seen.state, seen.exit_code) == (gang.machine_id, PodState.RUNNING, None)


async def test_a_gang_is_given_all_of_its_machines_or_none(simulated: Simulated) -> None:
    simulated.market.traces = {"use1-az1": Trace(3600, (2,))}
    with pytest.raises(NoCapacityError):
        await simulated.cluster.launch(GANG)
    assert simulated.cloud.machines() == []
    await simulated.cluster.launch(replace(GANG, machines=2))


async def test_a_drained_gang_has_ended_when_all_have(simulated: Simulated) -> None:
    gang = await simulated.cluster.launch(GANG)
    for member in gang.member_ids:
        await wait_for(lambda member=member: "ready" in simulated.cloud.log(member, 10))
    # One that saves faster than the others is no failure of the gang.
    simulated.cloud.drain(gang.member_ids[2])
    await wait_for(lambda: simulated.cloud.machine(gang.member_ids[2]).pod.exit_code == 75)
    assert (await simulated.cluster.observe())[0].state is PodState.RUNNING
    await simulated.cluster.drain(gang.machine_id)
    ended = await simulated.seen(gang.machine_id, lambda one: one.state is PodState.EXITED)
    assert ended.exit_code == 75


async def test_a_gang_has_ended_with_its_first_failure_and_says_what_tells_most(simulated: Simulated) -> None:
    simulated.cluster._command = FAILS_UNLESS_FIRST
    gang = await simulated.cluster.launch(GANG)
    ended = await simulated.seen(gang.machine_id, lambda one: one.exit_code == 71)
    assert ended.state is PodState.EXITED
    assert simulated.cloud.machine(gang.machine_id).pod.state == "running"
    await simulated.cluster.delete(gang.machine_id)
    assert {machine.state for machine in simulated.cloud.machines()} == {"gone"}


async def test_a_notice_to_one_member_is_seen_and_its_loss_is_counted(simulated: Simulated) -> None:
    gang = await simulated.cluster.launch(GANG)
    simulated.cloud.interrupt(gang.member_ids[1], 60)
    (noticed,) = await simulated.cluster.observe()
    assert noticed.state is PodState.RUNNING
    assert noticed.terminates_at is not None
    assert timedelta(seconds=50) < noticed.terminates_at - datetime.now(UTC) <= timedelta(seconds=60)
    simulated.cloud.terminate(gang.member_ids[1])
    (left,) = await simulated.cluster.observe()
    assert (left.state, left.terminates_at, left.lost) == (PodState.RUNNING, None, 1)
    assert left.lost_at is not None


async def test_a_pod_that_outstays_its_lifetime_is_ended_by_the_cloud(simulated: Simulated) -> None:
    machine = await simulated.cluster.launch(replace(pod(), lifetime_seconds=0.2))
    gone = await simulated.seen(machine.machine_id, lambda one: one.state is PodState.GONE)
    assert gone.exit_code is None, "it went with its machine"


async def test_a_launch_whose_answer_is_lost_is_found_by_asking_again(simulated: Simulated) -> None:
    await simulated.cluster._ask("PUT", "/faults", json={"lost_launches": 1, "failed_terminates": 1})
    with pytest.raises(ClusterUnavailableError):
        await simulated.cluster.launch(pod())
    machine = await simulated.cluster.launch(pod())
    assert len(simulated.cloud.machines()) == 1
    with pytest.raises(ClusterUnavailableError):
        await simulated.cluster.delete(machine.machine_id)
    await simulated.cluster.delete(machine.machine_id)
    assert (await simulated.cluster.observe())[0].state is PodState.GONE


async def test_a_cloud_that_is_away_or_refuses_us_is_unavailable() -> None:
    away = LocalCluster("http://127.0.0.1:1", "token", Settings.program)
    with pytest.raises(ClusterUnavailableError):
        await away.observe()
    await away.close()
