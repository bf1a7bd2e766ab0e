"""The cloud without its process: time is an argument, pods are real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sskai.local.cloud import machines
from sskai.local.cloud.cloud import CapacityDeniedError, Cloud, Launch
from sskai.local.cloud.market import Market
from sskai.local.cloud.pods import Pods
from sskai.local.cloud.records import Trace
from sskai.local.processes import wait_until


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def market() -> Market:
    # Ten seconds of capacity, then twenty without, at ten times the recorded pace.
    return Market(traces={"a": Trace(100, (4, 0, 0))}, speed=10)


@pytest.fixture
def cloud(tmp_path: Path, market: Market, clock: Clock) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, market, clock)
    yield cloud
    for machine in cloud.machines():
        cloud.terminate(machine.machine_id)


def wanted(token: str, command: str = "sleep 600", zone: str = "a", capacity_type: str = "spot", **more) -> Launch:
    return Launch(
        instance_type="g5.xlarge",
        region="us-east-1",
        zone=zone,
        capacity_type=capacity_type,
        client_token=token,
        pod_name=token,
        command=["sh", "-c", command],
        environment={},
        tags={},
        **more,
    )


def one(launched):
    (machine,), _ = launched
    return machine


def test_a_zone_that_runs_dry_warns_its_spot_machines_and_takes_them(cloud, clock):
    spot = one(cloud.launch(wanted("spot")))
    others = [one(cloud.launch(wanted("other", zone="b"))), one(cloud.launch(wanted("od", capacity_type="on-demand")))]
    clock.now += 9.9
    cloud.tick()
    assert spot.state == "running"
    clock.now += 0.2
    cloud.tick()
    assert (spot.state, spot.terminate_at) == ("interrupted", clock.now + 12)
    assert [message.notice_seconds for message in cloud.messages(0)] == [12]
    with pytest.raises(CapacityDeniedError):
        cloud.launch(wanted("too late"))
    clock.now += 11.9
    cloud.tick()
    assert (spot.state, spot.pod.state) == ("interrupted", "running")
    clock.now += 0.2
    cloud.tick()
    assert (spot.state, spot.pod.exit_code) == ("gone", machines.KILLED_EXIT_CODE)
    assert [machine.state for machine in others] == ["running", "running"]
    assert len(cloud.messages(0)) == 1


def test_the_replay_goes_on_where_it_was_after_a_restart(cloud, clock, market, tmp_path):
    clock.now += 15
    again = Cloud(tmp_path, Market(traces=market.traces, speed=market.speed), clock)
    with pytest.raises(CapacityDeniedError):
        again.launch(wanted("in the dry"))


def test_a_crash_between_the_entry_and_the_process_starts_the_pod_once(cloud, clock, market, tmp_path, monkeypatch):
    with monkeypatch.context() as crash:
        crash.setattr(Pods, "start", lambda *_: (_ for _ in ()).throw(SystemExit("killed here")))
        with pytest.raises(SystemExit):
            cloud.launch(wanted("crashed", command="echo started; sleep 600"))
    again = Cloud(tmp_path, market, clock)
    (machine,), is_new = again.launch(wanted("crashed"))
    assert not is_new
    assert machine.pod.state == "running"
    third = Cloud(tmp_path, market, clock)
    assert third.machine(machine.machine_id).pod.pid == machine.pod.pid
    assert wait_until(lambda: third.log(machine.machine_id, 10) == "started", 5)
    third.terminate(machine.machine_id)


def test_a_pod_whose_shim_is_killed_is_ended_and_told(cloud, tmp_path):
    machine = one(cloud.launch(wanted("orphan")))
    import psutil

    psutil.Process(machine.pod.pid).parent().kill()
    assert wait_until(lambda: cloud.machine(machine.machine_id).pod.state == "exited", 5)
    assert machine.pod.exit_code == machines.KILLED_EXIT_CODE
    assert wait_until(lambda: not psutil.pid_exists(machine.pod.pid), 5)


def test_the_book_forgets_the_oldest_gone_machines(monkeypatch, tmp_path, market, clock):
    monkeypatch.setattr(machines, "GONE_MACHINES_KEPT", 2)
    cloud = Cloud(tmp_path, market, clock)
    ids = [one(cloud.launch(wanted(f"token-{n}", "true", zone="b"))).machine_id for n in range(4)]
    for machine_id in ids:
        cloud.terminate(machine_id)
    assert [machine.machine_id for machine in cloud.machines()] == ids[2:]
    assert sorted(folder.name for folder in (tmp_path / "machines").iterdir()) == sorted(ids[2:])


def test_the_book_is_private(cloud, tmp_path):
    assert (tmp_path / "cloud.json").stat().st_mode & 0o077 == 0


@pytest.fixture
def small(tmp_path: Path, clock: Clock) -> Iterator[Cloud]:
    """Three machines, then two, then none, for ten seconds each; notices of two seconds, hints four seconds before."""
    market = Market(traces={"a": Trace(10, (3, 2, 0))}, notice_seconds=2, rebalance_seconds=4)
    cloud = Cloud(tmp_path, market, clock)
    yield cloud
    for machine in cloud.machines():
        cloud.terminate(machine.machine_id)


def kinds(cloud: Cloud) -> list[tuple[str, str]]:
    told = [message.body for message in cloud.messages(0)]
    return [(body["detail-type"].removeprefix("EC2 "), body["detail"]["instance-id"]) for body in told]


def test_a_zone_gives_as_many_machines_as_it_has_and_takes_the_youngest_back(small, clock):
    first, second, third = (one(small.launch(wanted(f"token-{number}"))) for number in range(3))
    with pytest.raises(CapacityDeniedError, match="3 spot machines in a now, of which 3 run already"):
        small.launch(wanted("fourth"))
    one(small.launch(wanted("elsewhere", zone="b")))
    clock.now += 7
    small.tick()
    small.tick()
    assert kinds(small) == [("Instance Rebalance Recommendation", third.machine_id)]
    assert {machine.state for machine in (first, second, third)} == {"running"}
    clock.now += 3
    small.tick()
    assert kinds(small)[1:] == [("Spot Instance Interruption Warning", third.machine_id)]
    assert [machine.state for machine in (first, second, third)] == ["running", "running", "interrupted"]
    with pytest.raises(CapacityDeniedError):  # the warned one has lost its place, and there is no other
        small.launch(wanted("fifth"))
    clock.now += 2.1
    small.tick()
    assert [machine.state for machine in (first, second, third)] == ["running", "running", "gone"]
    clock.now += 8
    small.tick()
    assert [machine.state for machine in (first, second)] == ["interrupted", "interrupted"]


def test_a_market_without_notices_takes_at_once(tmp_path, clock):
    cloud = Cloud(tmp_path, Market(traces={"a": Trace(10, (1, 0))}, notice_seconds=0), clock)
    machine = one(cloud.launch(wanted("sudden")))
    clock.now += 10
    cloud.tick()
    assert (machine.state, machine.pod.exit_code) == ("gone", machines.KILLED_EXIT_CODE)
    assert cloud.messages(0) == []


def test_a_gang_gets_all_of_its_machines_or_none(small, clock):
    with pytest.raises(CapacityDeniedError):
        small.launch(wanted("four", machines=4))
    assert small.machines() == []
    gang, is_new = small.launch(wanted("three", machines=3))
    assert is_new
    assert [(machine.rank, machine.size, machine.pod.name) for machine in gang] == [
        (0, 3, "three-0"),
        (1, 3, "three-1"),
        (2, 3, "three-2"),
    ]
    assert small.launch(wanted("three", machines=3)) == (gang, False)


def test_each_member_of_a_gang_is_told_its_part(small):
    script = 'echo "$RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT, $GREETING"'
    gang, _ = small.launch(replace(wanted("told", script, machines=3), environment={"GREETING": "hello"}))
    assert wait_until(lambda: all(small.log(machine.machine_id, 5).endswith("hello") for machine in gang), 5)
    said = [small.log(machine.machine_id, 5) for machine in gang]
    port = said[0].split(":")[1].split(",")[0]
    assert 1024 < int(port) < 65536
    assert said == [f"{rank} of 3 at 127.0.0.1:{port}, hello" for rank in range(3)]


def test_when_one_of_a_gang_is_taken_the_others_stay(small, clock):
    saves = "trap 'echo saved; exit 75' TERM; echo ready; while :; do sleep 0.05; done"
    gang, _ = small.launch(wanted("three", saves, machines=3))
    assert wait_until(lambda: all("ready" in small.log(machine.machine_id, 5) for machine in gang), 5)
    small.terminate(gang[1].machine_id)
    clock.now += 3600
    small.tick()
    assert [machine.state for machine in gang] == ["running", "gone", "running"]
    assert {gang[0].pod.state, gang[2].pod.state} == {"running"}
    small.terminate(gang[0].machine_id, gang=True)
    assert {machine.state for machine in gang} == {"gone"}


def test_the_cloud_ends_a_machine_whose_lifetime_is_over(cloud, clock):
    machine = one(cloud.launch(wanted("short", zone="b", lifetime_seconds=60)))
    clock.now += 59
    cloud.tick()
    assert machine.state == "running"
    clock.now += 1
    cloud.tick()
    assert (machine.state, machine.pod.state) == ("gone", "exited")
    assert cloud.messages(0) == []


def test_a_book_of_an_older_version_is_read(cloud, clock, market, tmp_path):
    """It knew no gangs, lifetimes and hints."""
    machine = one(cloud.launch(wanted("old", zone="b")))
    raw = json.loads((tmp_path / "cloud.json").read_text())
    for name in ("rank", "size", "expires_at", "rebalance_at"):
        del raw["machines"][machine.machine_id][name]
    (tmp_path / "cloud.json").write_text(json.dumps(raw))
    again = Cloud(tmp_path, market, clock)
    assert (again.machine(machine.machine_id).pod.pid, again.machine(machine.machine_id).size) == (machine.pod.pid, 1)
