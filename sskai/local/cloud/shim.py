"""Runs one pod and never loses its exit code: `python -I -S shim.py FOLDER`.

The shim is the pod's parent, as containerd's shim is: it has no tie to the cloud's process, keeps the pod's log within
its limit, and writes how the pod ended. FOLDER holds `pod.json` (what to run) and gets `status.json` and `pod.log`.
Only the standard library, so that it starts quickly and stays small.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

# Two files of this size: the current one and the one before it.
LOG_FILE_LIMIT_BYTES = 5 * 1024 * 1024
LOG_DRAIN_LIMIT_SECONDS = 2.0
CANNOT_RUN_EXIT_CODE = 127


def main(folder: Path) -> None:
    """Run the pod of this folder to its end, unless another shim did or does."""
    with (folder / "shim.lock").open("w") as lock:
        if not take(lock):
            return
        status = folder / "status.json"
        if not status.exists():
            run(json.loads((folder / "pod.json").read_text()), status, folder / "pod.log")
        # With the lock still held: whoever finds it free finds no shim either.
        os._exit(0)


def take(lock: IO[str]) -> bool:
    """Take the pod's lock. A look at it holds it for an instant, another shim for good: hence the second chances."""
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def run(spec: dict[str, Any], status: Path, log: Path) -> None:
    """Start the pod in a session of its own, follow it, and write its pid and in the end its exit code."""
    command, environment = spec["command"], spec["environment"]
    try:
        pod = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        log.write_text(f"cannot run {command}: {error}\n")
        write(status, {"pid": None, "exit_code": CANNOT_RUN_EXIT_CODE})
        return
    write(status, {"pid": pod.pid, "exit_code": None})
    copier = threading.Thread(target=copy_log, args=(pod.stdout, log), daemon=True)
    copier.start()
    # The pod's number is ours until it is reaped, so its group can be swept without hitting a stranger.
    os.waitid(os.P_PID, pod.pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pod.pid, signal.SIGKILL)
    code = pod.wait()
    copier.join(LOG_DRAIN_LIMIT_SECONDS)
    write(status, {"pid": pod.pid, "exit_code": 128 - code if code < 0 else code})


def copy_log(output: IO[bytes], log: Path) -> None:
    """Append the pod's output to its log; a full log becomes `.1` and a new one begins."""
    file = log.open("ab")
    while chunk := os.read(output.fileno(), 65_536):
        file.write(chunk)
        file.flush()
        if file.tell() > LOG_FILE_LIMIT_BYTES:
            file.close()
            log.replace(log.with_name(log.name + ".1"))
            file = log.open("ab")
    file.close()


def write(status: Path, value: dict[str, int | None]) -> None:
    """Replace the status file in one step, so that nobody reads half of it."""
    part = status.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
