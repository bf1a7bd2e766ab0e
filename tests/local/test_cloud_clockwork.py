"""The cloud without its process: time is an argument, pods are real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sskai.local.cloud import machines
from sskai.local.cloud.cloud import CapacityDeniedError, Cloud, Launch
from sskai.local.cloud.market import Market, Trace
from sskai.local.cloud.pods import Pods
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


def wanted(token: str, command: str = "sleep 600", zone: str = "a", capacity_type: str = "spot") -> Launch:
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
    )


def test_a_zone_that_runs_dry_warns_its_spot_machines_and_takes_them(cloud, clock):
    spot, _ = cloud.launch(wanted("spot"))
    others = [cloud.launch(wanted("other", zone="b"))[0], cloud.launch(wanted("od", capacity_type="on-demand"))[0]]
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
    machine, is_new = again.launch(wanted("crashed"))
    assert not is_new
    assert machine.pod.state == "running"
    third = Cloud(tmp_path, market, clock)
    assert third.machine(machine.machine_id).pod.pid == machine.pod.pid
    assert wait_until(lambda: third.log(machine.machine_id, 10) == "started", 5)
    third.terminate(machine.machine_id)


def test_a_pod_whose_shim_is_killed_is_ended_and_told(cloud, tmp_path):
    machine, _ = cloud.launch(wanted("orphan"))
    import psutil

    psutil.Process(machine.pod.pid).parent().kill()
    assert wait_until(lambda: cloud.machine(machine.machine_id).pod.state == "exited", 5)
    assert machine.pod.exit_code == machines.KILLED_EXIT_CODE
    assert wait_until(lambda: not psutil.pid_exists(machine.pod.pid), 5)


def test_the_book_forgets_the_oldest_gone_machines(monkeypatch, tmp_path, market, clock):
    monkeypatch.setattr(machines, "GONE_MACHINES_KEPT", 2)
    cloud = Cloud(tmp_path, market, clock)
    ids = [cloud.launch(wanted(f"token-{n}", "true"))[0].machine_id for n in range(4)]
    for machine_id in ids:
        cloud.terminate(machine_id)
    assert [machine.machine_id for machine in cloud.machines()] == ids[2:]
    assert sorted(folder.name for folder in (tmp_path / "machines").iterdir()) == sorted(ids[2:])


def test_the_book_is_private(cloud, tmp_path):
    assert (tmp_path / "cloud.json").stat().st_mode & 0o077 == 0
