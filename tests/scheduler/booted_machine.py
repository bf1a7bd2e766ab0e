"""A machine of EC2 at its boot: bash runs the script for real, and it asks its metadata service over HTTP; docker, aws,
the object store and shutdown are small stand-ins."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import signal
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import sskai.cluster.settings
from services.scheduler.settings import Settings
from sskai.cluster import Pod, ec2_requests
from sskai.testing import wait_for
from tests.scheduler.examples import placement

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

    def kill(self) -> None:
        """The watch for notices goes on until the machine is off."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
