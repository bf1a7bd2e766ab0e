"""vLLM's own server as a child process on loopback: found, started, waited for, ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import structlog

from services.inference.artifacts import LoadError
from services.inference.domain import FailureReason
from services.inference.replica import vllm_settings
from services.inference.replica.vllm_settings import Machine
from sskai import sandbox_walls as walls

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 0.2
END_SECONDS = 10.0
LOG_CHARACTERS = 2000
QUERY = ("nvidia-smi", "--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits")
# Adapters may be loaded while it runs; nothing is fetched from elsewhere, and nobody is told of its use.
ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def machine() -> Machine:
    """This pod's GPUs. Raises LoadError."""
    try:
        found = subprocess.run(QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise LoadError(FailureReason.MISSING_ENGINE, f"no GPU is found, by nvidia-smi: {error}"[:500]) from error
    return vllm_settings.machine_of(found)


class VllmProcess:
    """`url`: its API, once `start` has returned."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.url = ""

    def start(self, folder: Path, arguments: Sequence[str], limit_seconds: float) -> None:
        """Start it and wait until it is healthy. Raises LoadError."""
        program = shutil.which(self._command)
        if program is None:
            detail = (
                f"the program {self._command!r} is not in this image: install vllm there, or choose engine embedded"
            )
            raise LoadError(FailureReason.MISSING_ENGINE, detail)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [program, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), *arguments]
        log.info("starting", command=command)
        self._process = subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its workers are ended with it
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread of ours holds a lock that it needs
        )
        self.url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + limit_seconds
        while not self._healthy():
            if not self.alive():
                said = self._last_words()
                reason = (
                    FailureReason.OUT_OF_MEMORY if "out of memory" in said.lower() else FailureReason.UNUSABLE_WEIGHTS
                )
                raise LoadError(reason, f"vLLM ended with {self._process.returncode}: {said}")
            if time.monotonic() > deadline:
                self.end()
                raise LoadError(FailureReason.INTERNAL, f"vLLM was not healthy within {limit_seconds:.0f} s")
            time.sleep(LOOK_AGAIN_SECONDS)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """SIGTERM to all of it, and SIGKILL after a while."""
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(END_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
            break

    def _healthy(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health", timeout=2).status_code == httpx2.codes.OK
        except httpx2.HTTPError:
            return False

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LOG_CHARACTERS))
        return self._log.read().decode(errors="replace").strip()


def _end_with_parent() -> None:
    # A replica that is killed -9 cannot end its child, which would keep the GPU's memory.
    walls.prctl(walls.PR_SET_PDEATHSIG, signal.SIGTERM)
