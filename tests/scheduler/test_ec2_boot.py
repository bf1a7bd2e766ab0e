"""The boot script of a machine (tests/scheduler/booted_machine.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import services.inference.settings
from services.scheduler.settings import Settings
from sskai.cluster import ec2_requests
from sskai.testing import wait_for
from tests.scheduler.booted_machine import POD, BootedMachine
from tests.scheduler.examples import placement
from tests.scheduler.metadata_contract import Metadata, MetadataContract
from tests.scheduler.metadata_service import metadata_service


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BootedMachine]:
    monkeypatch.setattr(ec2_requests, "POLL_SECONDS", 0.05)
    machine = BootedMachine(tmp_path)
    with metadata_service(machine.fate / "imds") as machine.imds:
        yield machine
        machine.kill()


@pytest.mark.parametrize("code", [0, 70])
async def test_the_pod_runs_and_its_exit_code_is_told(machine: BootedMachine, code: int) -> None:
    await machine.boot(replace(POD, lifetime_seconds=3601))
    await machine.started()
    assert machine.read("shutdown") == "-h +61\n", "the machine ends itself, whatever becomes of the scheduler"
    machine.say("exit", str(code))
    assert await machine.exit_code() == code
    options = machine.options()
    assert options[-4:] == ["sskai/trainer:0.1.0", "python", "-m", "services.trainer.pod"]
    assert {"--read-only", "no-new-privileges", "ALL"} <= set(options)
    assert "--network" not in options
    assert "--gpus" not in options
    told = machine.environment()
    assert told["ODD"] == POD.env["ODD"], "values arrive as they are"
    assert (told["SSKAI_ATTEMPT"], told["SSKAI_MACHINE_ID"]) == ("1", "i-1")


async def test_the_schedulers_wish_to_drain_becomes_a_sigterm(machine: BootedMachine) -> None:
    await machine.boot(POD)
    await machine.started()
    machine.say("imds/tags/instance/sskai:drain", "2026-11-25T22:00:00+00:00")
    assert await machine.exit_code() == 75
    assert "terminates-at" not in machine.read("tags")


async def test_a_pod_that_is_drained_before_it_runs_is_not_started(machine: BootedMachine) -> None:
    machine.say("slow-pull")
    await machine.boot(POD)
    await wait_for(lambda: "pull" in machine.read("docker"))
    machine.say("imds/tags/instance/sskai:drain")
    await wait_for((machine.work / "stopping").exists)
    (machine.fate / "slow-pull").unlink()
    assert await machine.exit_code() == 75
    assert "start" not in machine.read("docker").split()


async def test_a_container_that_was_killed_for_memory_is_out_of_memory(machine: BootedMachine) -> None:
    machine.say("oom", "true")
    machine.say("exit", "137")
    await machine.boot(POD)
    assert await machine.exit_code() == 71


async def test_a_replica_is_published_and_told_its_machines_address(machine: BootedMachine) -> None:
    machine.say("imds/local-ipv4", "10.0.0.7")
    machine.say("exit", "0")
    await machine.boot(POD, of=services.inference.settings.Settings)
    assert await machine.exit_code() == 0
    created = machine.read("created").split("\0")
    assert "8080:8080" in created
    assert {"SSKAI_REPLICA_HOST=10.0.0.7", "SSKAI_REPLICA_PORT=8080"} <= set(created)
    assert created[-4:-1] == ["python", "-m", "services.inference.replica"]


async def test_secrets_come_from_the_parameter_store(machine: BootedMachine) -> None:
    machine.say("ssm/sskai/tenant_a/HF_TOKEN", "hf_1234\n")
    machine.say("exit", "0")
    await machine.boot(replace(POD, secrets=("HF_TOKEN",)))
    assert await machine.exit_code() == 0
    assert machine.environment()["HF_TOKEN"] == "hf_1234"


async def test_a_secret_that_is_not_there_is_a_misconfiguration(machine: BootedMachine) -> None:
    await machine.boot(replace(POD, secrets=("HF_TOKEN",)))
    assert await machine.exit_code() == 78
    assert machine.read("docker") == ""


async def test_a_large_environment_is_fetched(machine: BootedMachine) -> None:
    machine.say("object", ec2_requests.environment(POD, Settings()))
    machine.say("exit", "0")
    await machine.boot(POD, env_url="https://objects.example.com/env?signature=1")
    assert await machine.exit_code() == 0
    assert machine.environment()["ODD"] == POD.env["ODD"]


async def test_a_gangs_member_waits_for_rank_0s_address_and_keeps_the_pod_from_the_machines_keys(
    machine: BootedMachine,
) -> None:
    machine.say("imds/ami-launch-index", "2")
    machine.say("exit", "0")
    where = placement()
    where.accelerator_count = 4
    await machine.boot(replace(POD, machines=3, placement=where))
    await wait_for((machine.work / "work").exists)
    assert machine.read("docker") == "", "nobody runs before all know each other"
    machine.say("imds/tags/instance/sskai:master", "10.0.0.7")
    assert await machine.exit_code() == 0
    told = machine.environment()
    members = {name: told[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SSKAI_MACHINE_ID")}
    assert members == {
        "RANK": "2",
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "10.0.0.7",
        "MASTER_PORT": "29500",
        "SSKAI_MACHINE_ID": "job-1-1",
    }
    options = machine.options()
    assert options[options.index("--network") + 1] == "host"
    assert options[options.index("--gpus") + 1] == "all"
    assert "-d 169.254.169.254 -m owner --uid-owner 10001 -j REJECT" in machine.read("iptables")


async def test_without_a_wall_before_the_keys_no_pod_runs_on_the_hosts_network(machine: BootedMachine) -> None:
    machine.say("no-iptables")
    machine.say("imds/ami-launch-index", "0")
    machine.say("imds/tags/instance/sskai:master", "10.0.0.7")
    await machine.boot(replace(POD, machines=2))
    assert await machine.exit_code() == 78
    assert machine.read("docker") == ""


async def test_a_private_registry_is_logged_in_to(machine: BootedMachine) -> None:
    machine.say("exit", "0")
    registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    await machine.boot(POD, trainer_image=f"{registry}/sskai/trainer:0.1.0")
    assert await machine.exit_code() == 0
    assert machine.read("login") == f"{registry}\n"


async def test_without_an_image_a_command_runs_and_is_drained(machine: BootedMachine) -> None:
    command = 'bash -c \'trap "exit 75" TERM; echo "$ODD" >seen; touch $FATE/pod; while :; do sleep 0.02; done\''
    await machine.boot(POD, trainer_image="", ec2_command=command)
    await machine.started()
    assert (machine.work / "work/seen").read_text() == POD.env["ODD"] + "\n"
    machine.say("imds/tags/instance/sskai:drain")
    assert await machine.exit_code() == 75


class Files(Metadata):
    """What the small metadata service of the tests answers are files."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        for name in ("spot", "events/recommendations"):
            (folder / name).mkdir(parents=True)
        self._say("instance-id", "i-1")

    def notice_spot(self, at: str) -> None:
        self._say("spot/instance-action", f'{{"action": "terminate", "time": "{at}"}}')

    def recommend_rebalance(self, at: str) -> None:
        self._say("events/recommendations/rebalance", f'{{"noticeTime": "{at}"}}')

    def _say(self, name: str, text: str) -> None:
        part = self._folder / "part"
        part.write_text(text)
        part.rename(self._folder / name)


class TestSmallMetadataService(MetadataContract):
    @pytest.fixture
    def metadata(self, tmp_path: Path) -> Iterator[Metadata]:
        with metadata_service(tmp_path / "answers") as url:
            yield Files(url, tmp_path / "answers")
