"""Pods as local processes: start one under its shim, see how it is, signal it. Everything is found again from disk."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from sskai.local.cloud.machines import KILLED_EXIT_CODE, Pod
from sskai.local.processes import ProcessIdentity, tail, wait_until

SHIM = Path(__file__).with_name("shim.py")
START_LIMIT_SECONDS = 15.0
KILL_LIMIT_SECONDS = 5.0
SHIM_LIMIT_SECONDS = 5.0  # it drains the log for at most 2


class Pods:
    """The pods of a cloud, one folder each under `folder`, named after their machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, machine_id: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Write down what the machine runs, readable by us only: its environment holds secrets."""
        folder = self.folder / machine_id
        folder.mkdir(parents=True, mode=0o700)
        # A pod sees its own variables and the host's ordinary ones, never the cloud's settings (its token, for one).
        host = {name: value for name, value in os.environ.items() if not name.startswith("SSKAI_")}
        # `python` in a pod's command means the interpreter that carries SSKAI.
        host["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), host.get("PATH", os.defpath)])
        # The machine's disk: what a pod leaves there goes with the machine.
        disk = folder / "disk"
        disk.mkdir()
        merged = {**host, "TMPDIR": str(disk), **environment, "SSKAI_MACHINE_ID": machine_id}
        (folder / "pod.json").write_text(json.dumps({"command": list(command), "environment": merged}))

    def start(self, machine_id: str, pod: Pod) -> None:
        """Start the prepared pod, at most once however often it is asked, and wait until it has a pid."""
        folder = self.folder / machine_id
        shim = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SHIM), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(lambda: self._status(machine_id) is not None or shim.poll() is not None, START_LIMIT_SECONDS)
        self.refresh(machine_id, pod)

    def refresh(self, machine_id: str, pod: Pod) -> bool:
        """Bring the pod's entry up to date with its process; True when that changed it."""
        before = (pod.state, pod.pid, pod.exit_code)
        # Asked first: a shim that ends after this still had its last word in the status file.
        shim_alive = self._shim_alive(machine_id)
        status = self._status(machine_id)
        if status is not None and pod.pid is None:
            pod.state, pod.pid, pod.started_at = "running", status["pid"], _start_time(status["pid"])
        if status is not None and status["exit_code"] is not None:
            pod.state, pod.exit_code = "exited", status["exit_code"]
        elif not shim_alive and pod.state != "exited":
            # Nobody would ever tell its exit code or keep its log, so what may be left of it is ended.
            self._signal_group(pod, signal.SIGKILL)
            pod.state, pod.exit_code = "exited", KILLED_EXIT_CODE
        return before != (pod.state, pod.pid, pod.exit_code)

    def drain(self, pod: Pod) -> None:
        """Ask the pod to save and leave: SIGTERM to its first process, once. A second one would mean: leave at once."""
        if pod.pid is not None and not pod.drained and ProcessIdentity(pod.pid, pod.started_at).alive():
            os.kill(pod.pid, signal.SIGTERM)
            pod.drained = True

    def kill(self, machine_id: str, pod: Pod) -> None:
        """`kill -9` to every process of the pod; returns once its end is written down."""
        self.refresh(machine_id, pod)
        if pod.state != "exited":
            self._signal_group(pod, signal.SIGKILL)
            wait_until(lambda: self._ended(machine_id, pod), KILL_LIMIT_SECONDS)
        shutil.rmtree(self.folder / machine_id / "disk", ignore_errors=True)

    def await_shim(self, machine_id: str) -> None:
        """Return once the pod's parent, which keeps its last output, has ended, too."""
        wait_until(lambda: not self._shim_alive(machine_id), SHIM_LIMIT_SECONDS)

    def log(self, machine_id: str, lines: int) -> str:
        """The last lines of the pod's output, empty when it is no longer kept."""
        return tail(self.log_file(machine_id), lines, window_bytes=1024 * 1024)

    def log_file(self, machine_id: str) -> Path:
        """Where the pod's output is kept; what was full is beside it, as `.1`."""
        return self.folder / machine_id / "pod.log"

    def forget(self, machine_id: str) -> None:
        """Remove what is kept of the pod of a machine that is gone."""
        shutil.rmtree(self.folder / machine_id, ignore_errors=True)

    def _ended(self, machine_id: str, pod: Pod) -> bool:
        self.refresh(machine_id, pod)
        return pod.state == "exited"

    def _status(self, machine_id: str) -> dict[str, int | None] | None:
        try:
            status: dict[str, int | None] = json.loads((self.folder / machine_id / "status.json").read_text())
        except FileNotFoundError:
            return None
        return status

    def _shim_alive(self, machine_id: str) -> bool:
        """Whether a shim holds the pod's lock, which the kernel frees when it dies."""
        try:
            with (self.folder / machine_id / "shim.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _signal_group(self, pod: Pod, number: int) -> None:
        if pod.pid is not None:
            ProcessIdentity(pod.pid, pod.started_at).signal_group(number)


def _start_time(pid: int | None) -> float:
    """When the process began, epoch seconds; 0 when it is over already or never was."""
    try:
        return 0.0 if pid is None else psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0
