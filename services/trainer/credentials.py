"""The platform's credentials leave the pod's environment before code of the user's runs in it.

What is left is what the process itself holds: code in this process can search its memory for the object store's key. A
key that opens this job's prefix alone is the wall there; these variables are only the open door.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable
from pathlib import Path

_SECRETS = re.compile(r"AWS_.*|SSKAI_.*(SECRET|ACCESS|TOKEN|PASSWORD|KEY|DATABASE).*|KUBERNETES_.*TOKEN.*")
_ENVIRONMENT_AT = 50 - 3  # env_start of proc_pid_stat(5), behind the command's name


def scrub(given: Iterable[str] = ()) -> None:
    """Drop them from `os.environ`, and wipe what the kernel shows of them in /proc. `given` are variables that the job
    itself asks for: those are the user's own."""
    names = {name for name in os.environ if _SECRETS.fullmatch(name)} - set(given)
    for name in names:
        del os.environ[name]
    _wipe(names)


def _wipe(names: set[str]) -> None:
    """The strings that the process was started with: unsetting a variable leaves them where /proc/self/environ is."""
    at = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_ENVIRONMENT_AT])
    for entry in Path("/proc/self/environ").read_bytes().split(b"\0"):
        if entry.partition(b"=")[0].decode(errors="replace") in names:
            ctypes.memset(at, 0, len(entry))
        at += len(entry) + 1
