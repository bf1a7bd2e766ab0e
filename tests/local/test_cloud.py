"""The simulated cloud as a process of its own, with real pods, over its HTTP API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from sskai.local import parts, stack
from sskai.local.cloud.client import CloudClient
from sskai.local.layout import Layout
from sskai.local.processes import Child, wait_until

GONE_EXIT_CODE = 137


class CloudProcess:
    """The cloud and a client of it; `restart` replaces the process and keeps the book."""

    def __init__(self, home: Path) -> None:
        self.layout = Layout.of(home)
        self.token = self.layout.secrets.cloud_token
        self.client = httpx2.Client(
            base_url=self.layout.url("cloud"), headers={"Authorization": f"Bearer {self.token}"}, timeout=20
        )
        self.start()

    def start(self) -> None:
        self.child = Child.spawn(parts.infrastructure(self.layout)["cloud"]())
        self.child.wait_ready()

    def kill(self) -> None:
        os.kill(self.child.identity.pid, signal.SIGKILL)
        assert wait_until(lambda: self.child.exit_code() is not None, 5)

    def launch(self, command: str | list[str], token: str, **changes: Any) -> httpx2.Response:
        argv = ["sh", "-c", command] if isinstance(command, str) else command
        request = {
            "instance_type": "g5.xlarge",
            "region": "us-east-1",
            "zone": "use1-az2",
            "capacity_type": "spot",
            "client_token": token,
            "tags": {"job": token},
            "pod": {"name": token, "command": argv, "env": {"GREETING": "hello"}},
        }
        return self.client.post("/machines", json=request | changes)

    def machine(self, machine_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(f"/machines/{machine_id}").raise_for_status().json()
        return shown

    def log(self, machine_id: str) -> str:
        return self.client.get(f"/machines/{machine_id}/log").raise_for_status().text

    def wait_for_exit(self, machine_id: str, limit_seconds: float = 10) -> int:
        assert wait_until(lambda: self.machine(machine_id)["pod"]["state"] == "exited", limit_seconds)
        return int(self.machine(machine_id)["pod"]["exit_code"])

    def end(self) -> None:
        if self.child.exit_code() is not None:
            self.start()
        for machine in self.client.get("/machines").json()["machines"]:
            self.client.delete(f"/machines/{machine['machine_id']}")
        self.child.stop()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudProcess]:
    process = CloudProcess(tmp_path_factory.mktemp("cloud"))
    yield process
    process.end()


@pytest.fixture(autouse=True)
def _open_market(cloud: CloudProcess) -> None:
    cloud.client.put("/market", json={"denied": []}).raise_for_status()


def test_the_same_client_token_gives_the_same_machine_also_when_asked_at_once(cloud):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: cloud.launch("echo once; sleep 60", "token-same"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    (machine_id,) = {answer.json()["machine_id"] for answer in answers}
    assert wait_until(lambda: cloud.log(machine_id) == "once", 5)
    cloud.client.delete(f"/machines/{machine_id}")
    assert cloud.launch("echo twice", "token-same").json()["state"] == "gone"


def test_a_pod_sees_its_own_environment_and_no_secret_of_the_cloud(cloud):
    machine = cloud.launch(["python", "-c", "import os, json; print(json.dumps(dict(os.environ)))"], "env").json()
    assert cloud.wait_for_exit(machine["machine_id"]) == 0
    seen = json.loads(cloud.log(machine["machine_id"]))
    assert seen["GREETING"] == "hello"
    assert {name for name in seen if name.startswith("SSKAI_")} == {"SSKAI_MACHINE_ID"}
    assert seen["SSKAI_MACHINE_ID"] == machine["machine_id"]


@pytest.mark.parametrize(("command", "exit_code"), [("exit 7", 7), ("kill -9 $$", 137), (["/no/such/program"], 127)])
def test_the_exit_code_is_the_pods_own(cloud, command, exit_code):
    machine = cloud.launch(command, f"exit-{exit_code}").json()
    assert cloud.wait_for_exit(machine["machine_id"]) == exit_code
    assert cloud.machine(machine["machine_id"])["state"] == "running"  # and is paid for until it is given back


def test_drain_is_heard_by_the_pod_and_leaves_the_rest_to_it(cloud):
    machine = cloud.launch("trap 'echo saved; exit 3' TERM; echo ready; while :; do sleep 0.05; done", "drain").json()
    assert wait_until(lambda: "ready" in cloud.log(machine["machine_id"]), 5)
    cloud.client.post(f"/machines/{machine['machine_id']}/drain").raise_for_status()
    assert cloud.wait_for_exit(machine["machine_id"]) == 3
    assert "saved" in cloud.log(machine["machine_id"])


def test_what_a_pod_left_on_its_disk_goes_with_the_machine(cloud):
    machine_id = cloud.launch('echo scratch > "$TMPDIR/file"; echo "$TMPDIR"; sleep 600', "disk").json()["machine_id"]
    assert wait_until(lambda: cloud.log(machine_id).strip() != "", 5)
    disk = Path(cloud.log(machine_id).strip())
    assert (disk / "file").exists()
    cloud.client.delete(f"/machines/{machine_id}").raise_for_status()
    assert not disk.exists()


def test_a_second_drain_is_not_heard(cloud):
    """Two signals mean "leave at once" to a trainer; a scheduler that repeats itself after a crash means it once."""
    command = "trap 'echo heard' TERM; while :; do echo tick; sleep 0.05; done"
    machine_id = cloud.launch(command, "drain-twice").json()["machine_id"]
    assert wait_until(lambda: "tick" in cloud.log(machine_id), 5)
    cloud.client.post(f"/machines/{machine_id}/drain").raise_for_status()
    assert wait_until(lambda: "heard" in cloud.log(machine_id), 5)
    cloud.client.post(f"/machines/{machine_id}/drain").raise_for_status()
    ticks = cloud.log(machine_id).count("tick")
    assert wait_until(lambda: cloud.log(machine_id).count("tick") >= ticks + 3, 5)
    assert cloud.log(machine_id).count("heard") == 1


def test_a_notice_is_queued_in_awss_shape_and_then_the_whole_group_is_killed(cloud):
    machine = cloud.launch("trap '' TERM; sleep 600 & echo $!; wait", "notice").json()
    machine_id = machine["machine_id"]
    assert wait_until(lambda: cloud.log(machine_id).strip().isdigit(), 5)
    grandchild = psutil.Process(int(cloud.log(machine_id)))
    before = [message["sequence"] for message in cloud.client.get("/interruptions").json()["messages"]]
    noticed = cloud.client.post(f"/machines/{machine_id}/interrupt", json={"notice_seconds": 0.6}).json()
    assert (noticed["state"], noticed["pod"]["state"]) == ("interrupted", "running")
    (message,) = cloud.client.get("/interruptions", params={"after": max(before, default=0)}).json()["messages"]
    assert message["notice_seconds"] == 0.6
    assert message["body"]["detail-type"] == "EC2 Spot Instance Interruption Warning"
    assert message["body"]["detail"] == {"instance-id": machine_id, "instance-action": "terminate"}
    assert wait_until(lambda: cloud.machine(machine_id)["state"] == "gone", 5)
    gone = cloud.machine(machine_id)
    assert gone["gone_at"] >= gone["terminate_at"]
    assert gone["pod"]["exit_code"] == GONE_EXIT_CODE
    assert wait_until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE, 5)


def test_no_notice_means_no_message_and_an_instant_end(cloud):
    machine_id = cloud.launch("sleep 600", "sudden").json()["machine_id"]
    before = cloud.client.get("/interruptions").json()
    gone = cloud.client.post(f"/machines/{machine_id}/interrupt", json={"notice_seconds": 0}).json()
    assert (gone["state"], gone["pod"]["exit_code"]) == ("gone", GONE_EXIT_CODE)
    assert cloud.client.get("/interruptions").json() == before


def test_who_takes_machines_away_finds_a_jobs_machine_and_what_its_pod_said(cloud):
    market = CloudClient(cloud.layout.url("cloud"), cloud.token)
    line = json.dumps({"event": "first step", "step": 1})
    machine_id = cloud.launch(f"echo '{line}'; sleep 600", "told", tags={"sskai-job": "job_1"}).json()["machine_id"]
    assert wait_until(lambda: bool(market.said(machine_id, "first step")), 5)
    found = market.machine_of("job_1")
    assert found is not None
    assert found["machine_id"] == machine_id
    assert market.machine_of("job_2") is None
    market.interrupt(machine_id, 0)
    assert cloud.machine(machine_id)["state"] == "gone"


def test_a_machine_on_demand_gets_no_notice(cloud):
    machine_id = cloud.launch("sleep 600", "safe", capacity_type="on-demand").json()["machine_id"]
    refused = cloud.client.post(f"/machines/{machine_id}/interrupt", json={"notice_seconds": 1})
    assert (refused.status_code, refused.json()["error"]) == (409, "not-interruptible")
    cloud.client.delete(f"/machines/{machine_id}")


def test_denied_capacity_is_said_and_nothing_is_launched(cloud):
    cloud.client.put("/market", json={"denied": ["use1-az2/*/spot"]}).raise_for_status()
    before = len(cloud.client.get("/machines").json()["machines"])
    refused = cloud.launch("sleep 600", "denied")
    assert (refused.status_code, refused.json()["error"]) == (409, "capacity-denied")
    assert len(cloud.client.get("/machines").json()["machines"]) == before
    granted = cloud.launch("true", "granted", capacity_type="on-demand")
    assert granted.status_code == 201


def test_deleting_is_idempotent_and_the_unknown_is_not_found(cloud):
    machine_id = cloud.launch("sleep 600", "delete").json()["machine_id"]
    first = cloud.client.delete(f"/machines/{machine_id}").json()
    assert cloud.client.delete(f"/machines/{machine_id}").json() == first
    assert cloud.client.delete("/machines/i-unknown").status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}])
def test_nobody_without_the_token_gets_in(cloud, headers):
    for path in ("/machines", "/market", "/prices", "/interruptions"):
        assert httpx2.get(cloud.layout.url("cloud") + path, headers=headers).status_code == 401


def test_wrong_requests_are_refused_field_by_field(cloud):
    refused = cloud.launch("true", "wrong", capacity_type="reserved", colour="red")
    assert refused.status_code == 422
    assert {error["loc"][-1] for error in refused.json()["detail"]} == {"capacity_type", "colour"}


def test_pods_and_their_exit_codes_outlive_the_cloud(cloud):
    """Killed and started again, the cloud finds the running pod, the ended one's code, and takes what was due."""
    ended = cloud.launch("sleep 0.3; exit 42", "ended").json()
    running = cloud.launch("sleep 600", "running").json()
    due = cloud.launch("sleep 600", "due").json()
    cloud.client.post(f"/machines/{due['machine_id']}/interrupt", json={"notice_seconds": 0.3})
    cloud.kill()
    assert psutil.Process(running["pod"]["pid"]).is_running()
    assert wait_until(lambda: not psutil.pid_exists(ended["pod"]["pid"]), 5)
    cloud.start()
    assert cloud.wait_for_exit(ended["machine_id"]) == 42
    assert cloud.machine(running["machine_id"])["pod"] == running["pod"]
    assert wait_until(lambda: cloud.machine(due["machine_id"])["state"] == "gone", 5)
    assert cloud.launch("sleep 600", "running").json()["machine_id"] == running["machine_id"]
    cloud.client.delete(f"/machines/{running['machine_id']}")
    assert wait_until(lambda: not psutil.pid_exists(running["pod"]["pid"]), 5)


def test_a_pods_log_stays_within_its_limit(cloud):
    machine = cloud.launch("yes 0123456789 | head -c 12000000; echo the end", "chatty").json()
    assert cloud.wait_for_exit(machine["machine_id"], 20) == 0
    assert cloud.log(machine["machine_id"]).endswith("the end")
    folder = parts.cloud_folder(cloud.layout.home) / "machines" / machine["machine_id"]
    assert sum(file.stat().st_size for file in folder.glob("pod.log*")) < 10 * 1024 * 1024 + 65_536


def test_prices_are_the_tables(tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text(
        "instance_type,region,availability_zone,price_usd_hour,spot_price_usd_hour\ng5.xlarge,us-east-1,*,1.006,0.42\n"
    )
    monkeypatch.setenv("SSKAI_CLOUD_CATALOGUE", str(tmp_path / "table.csv"))
    priced = CloudProcess(tmp_path)
    try:
        row = {"instance_type": "g5.xlarge", "region": "us-east-1", "zone": "*", "live": False}
        for capacity_type, price in (("spot", 0.42), ("on-demand", 1.006)):
            answer = priced.client.get("/prices", params={"capacity_type": capacity_type}).json()
            assert answer["prices"] == [row | {"capacity_type": capacity_type, "price_usd_per_hour": price}]
        assert priced.launch("true", "priced").json()["price_usd_per_hour"] == 0.42
    finally:
        priced.end()


def test_a_recorded_market_is_replayed_with_its_prices_and_a_gang_is_launched_in_it(tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text(
        "instance_type,region,availability_zone,price_usd_hour,spot_price_usd_hour\n"
        "g5.xlarge,us-east-1,use1-az2,1.006,0.4\n"
    )
    # The first hour has nothing; then two machines at half the price of that hour, for as long as this test takes.
    record = {"metadata": {"gap_seconds": 3600}, "data": [0, 2, 2], "prices": [1.0, 0.5, 1.0]}
    (tmp_path / "market").mkdir()
    (tmp_path / "market" / "us-east-1a_v100_1.json").write_text(json.dumps(record))
    monkeypatch.setenv("SSKAI_CLOUD_CATALOGUE", str(tmp_path / "table.csv"))
    monkeypatch.setenv("SSKAI_MARKET_TRACE", str(tmp_path / "market"))
    monkeypatch.setenv("SSKAI_MARKET_ZONES", "use1-az2=us-east-1a")
    monkeypatch.setenv("SSKAI_MARKET_OFFSET_HOURS", "1")
    played = CloudProcess(tmp_path)
    try:
        told = played.client.get("/market").json()
        assert (told["zones_replayed"], told["notice_seconds"]) == (["us-east-1a"], 120)
        assert 1 <= told["replayed_hours"] < 1.5
        (row,) = played.client.get("/prices").json()["prices"]
        assert (row["price_usd_per_hour"], row["live"]) == (0.2, True)
        assert played.launch("true", "three", machines=3).status_code == 409
        gang = played.launch("sleep 600", "two", machines=2, lifetime_seconds=900).json()
        assert len(gang["members"]) == 2
        assert gang["price_usd_per_hour"] == 0.2
        played.client.delete(f"/machines/{gang['machine_id']}", params={"gang": True}).raise_for_status()
        assert [played.machine(member)["state"] for member in gang["members"]] == ["gone", "gone"]
    finally:
        played.end()


def test_the_api_fails_as_it_is_told_to(cloud):
    def tell(**faults: Any) -> None:
        cloud.client.put("/faults", json=faults).raise_for_status()

    tell(answers=[503, "ok", 500], method="GET")
    refused = cloud.client.delete("/machines/i-unknown")  # not a GET: the faults wait
    assert refused.status_code == 404
    assert [cloud.client.get("/machines").status_code for _ in range(4)] == [503, 200, 500, 200]

    tell(answers=["hang"], hang_seconds=20)
    with pytest.raises(httpx2.TimeoutException):
        cloud.client.get("/machines", timeout=0.2)
    assert cloud.client.get("/faults").json()["answers"] == []

    tell(lost_launches=1, failed_terminates=1)
    assert cloud.launch("sleep 600", "lost").status_code == 500
    again = cloud.launch("sleep 600", "lost")
    assert again.status_code == 200  # it had been launched
    machine_id = again.json()["machine_id"]
    assert cloud.client.delete(f"/machines/{machine_id}").status_code == 500
    assert cloud.machine(machine_id)["state"] == "running"
    assert cloud.client.delete(f"/machines/{machine_id}").json()["state"] == "gone"

    wrong = cloud.client.put("/faults", json={"answers": [200, "sulk"]})
    assert wrong.status_code == 422


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "cloud_token"),
        ({"SSKAI_CLOUD_TOKEN": "a-token-of-the-test", "SSKAI_MARKET_TRACE": "/nowhere"}, "/nowhere is not there"),
        ({"SSKAI_CLOUD_TOKEN": "a-token-of-the-test", "SSKAI_MARKET_SPEED": "0"}, "market_speed"),
    ],
)
def test_the_cloud_refuses_to_start_with_wrong_settings_and_says_why(variables, said):
    environment = {name: value for name, value in os.environ.items() if name != "SSKAI_CLOUD_TOKEN"}
    done = subprocess.run(
        [sys.executable, "-m", "sskai.local.cloud"],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert said in done.stderr


def test_paths_mean_what_they_mean_where_the_stack_is_started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {"SSKAI_MARKET_TRACE": "traces", "SSKAI_CLOUD_CATALOGUE": "/etc/table.csv", "SSKAI_MARKET_SPEED": "60"}
    assert stack.with_whole_paths(given) == given | {"SSKAI_MARKET_TRACE": str(tmp_path / "traces")}
    assert stack.with_whole_paths({"SSKAI_MARKET_TRACE": ""}) == {"SSKAI_MARKET_TRACE": ""}
