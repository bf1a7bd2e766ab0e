"""The boot script of a machine, run by bash for real and with its questions to the metadata service over HTTP; docker,
aws, the object store and shutdown are small stand-ins."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import services.inference.settings
import sskai.cluster.settings
from services.scheduler.settings import Settings
from sskai.cluster import Pod, ec2_requests
from sskai.testing import wait_for
from tests.scheduler.examples import placement
from tests.scheduler.metadata_service import metadata_service

POD = Pod("job_1", "tenant_a", 1, placement(), {"SSKAI_ATTEMPT": "1", "ODD": 'two\nlines \'n "quotes" $HOME'})

PROGRAMS = {
    # The object store; the metadata service is asked by the real one.
    "curl": """
case ${!#} in
    $IMDS/*) exec "$CURL" "$@" ;;
    *) cat "$FATE/object" || exit 22 ;;
esac""",
    "aws": """
case "$1 $2" in
    "ec2 create-tags") printf '%s\\n' "$*" >>"$FATE/tags" ;;
    "ssm get-parameter")
        while [ "$1" != --name ]; do shift; done
        cat "$FATE/ssm$2" 2>/dev/null || exit 254 ;;
    "ecr get-login-password") echo a-password ;;
esac""",
    # The container ends with 75 at SIGTERM, else with what fate says.
    "docker": """
echo "$1" >>"$FATE/docker"
case $1 in
    pull) while [ -e "$FATE/slow-pull" ]; do sleep 0.02; done ;;
    create) printf '%s\\0' "$@" >"$FATE/created" ;;
    start)
        trap 'exit 75' TERM
        echo $$ >"$FATE/pod.part"; mv "$FATE/pod.part" "$FATE/pod"
        while [ ! -e "$FATE/exit" ]; do sleep 0.02; done
        exit "$(cat "$FATE/exit")" ;;
    kill) kill -TERM "$(cat "$FATE/pod")" ;;
    inspect) cat "$FATE/oom" 2>/dev/null || echo false ;;
    login) cat >/dev/null; echo "${!#}" >"$FATE/login" ;;
esac""",
    "shutdown": 'echo "$*" >>"$FATE/shutdown"',
    "iptables": 'echo "$*" >>"$FATE/iptables"; [ ! -e "$FATE/no-iptables" ]',
    "setpriv": 'while [[ $1 == --* ]]; do [ "$1" = --clear-groups ] || shift; shift; done; exec "$@"',
}


class BootedMachine:
    def __init__(self, folder: Path, imds: str = "") -> None:
        self.imds = imds
        self.fate = folder / "fate"
        self.work = folder / "work"
        for name in ("imds/spot", "imds/events/recommendations", "imds/tags/instance", "ssm/sskai/tenant_a", "bin"):
            (self.fate / name).mkdir(parents=True)
        (self.fate / "imds/instance-id").write_text("i-1")
        for name, text in PROGRAMS.items():
            program = self.fate / "bin" / name
            program.write_text(f"#!/bin/bash\n{text}\n")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.process: asyncio.subprocess.Process | None = None

    async def boot(
        self, pod: Pod, env_url: str = "", of: type[sskai.cluster.settings.Settings] = Settings, **settings: Any
    ) -> None:
        script = self.work.with_name("user-data")
        script.write_bytes(gzip.decompress(ec2_requests.user_data(pod, of(**settings), "us-east-1", env_url)))
        self.process = await asyncio.create_subprocess_exec(
            "bash",
            str(script),
            env={
                "PATH": f"{self.fate / 'bin'}:{os.environ['PATH']}",
                "FATE": str(self.fate),
                "WORK": str(self.work),
                "IMDS": self.imds,
                "CURL": str(shutil.which("curl")),
            },
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def started(self) -> None:
        await wait_for((self.fate / "pod").exists)

    async def exit_code(self) -> int:
        """What the machine told at its end, which it must have come to."""
        assert self.process is not None
        async with asyncio.timeout(30):
            await self.process.wait()
        assert self.read("shutdown").splitlines()[-1] == "-h now"
        (told,) = [line for line in self.read("tags").splitlines() if "sskai:exit-code" in line]
        assert "--region us-east-1 --resources i-1 " in told
        assert "Key=sskai:ended-at,Value=20" in told
        return int(told.partition("Key=sskai:exit-code,Value=")[2].split(maxsplit=1)[0])

    def read(self, name: str) -> str:
        path = self.fate / name
        return path.read_text() if path.exists() else ""

    def say(self, name: str, text: str = "") -> None:
        """A file that is there at once and whole."""
        part = self.fate / "part"
        part.write_text(text)
        part.rename(self.fate / name)

    def options(self) -> list[str]:
        """What the container was made with."""
        return self.read("created").split("\0")[:-1]

    def environment(self) -> dict[str, str]:
        options = self.options()
        pairs = [options[at + 1] for at, option in enumerate(options) if option == "--env"]
        return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BootedMachine]:
    monkeypatch.setattr(ec2_requests, "POLL_SECONDS", 0.05)
    machine = BootedMachine(tmp_path)
    with metadata_service(machine.fate / "imds") as machine.imds:
        yield machine
        if machine.process is not None:
            # The watch for notices goes on until the machine is off.
            with suppress(ProcessLookupError):
                os.killpg(machine.process.pid, signal.SIGKILL)


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


async def test_a_spot_notice_becomes_a_sigterm_and_is_told(machine: BootedMachine) -> None:
    await machine.boot(POD)
    await machine.started()
    machine.say("imds/spot/instance-action", '{"action": "terminate", "time": "2026-11-25T22:00:00Z"}')
    assert await machine.exit_code() == 75
    await wait_for(lambda: "Key=sskai:terminates-at,Value=2026-11-25T22:00:00Z" in machine.read("tags"))


async def test_a_rebalance_recommendation_is_told_once_and_nothing_stops(machine: BootedMachine) -> None:
    await machine.boot(POD)
    await machine.started()
    machine.say("imds/events/recommendations/rebalance", '{"noticeTime": "2026-11-25T21:50:00Z"}')
    await wait_for(lambda: "Key=sskai:rebalance-at,Value=2026-11-25T21:50:00Z" in machine.read("tags"))
    machine.say("imds/spot/instance-action", '{"action": "terminate", "time": "2026-11-25T22:00:00Z"}')
    assert await machine.exit_code() == 75
    await wait_for(lambda: "Key=sskai:terminates-at,Value=2026-11-25T22:00:00Z" in machine.read("tags"))
    assert machine.read("tags").count("rebalance-at") == 1


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
