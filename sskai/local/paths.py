"""Where the embedded stack keeps its data (`SSKAI_HOME`) and its downloads (`SSKAI_CACHE`)."""

from __future__ import annotations

import os
from pathlib import Path


def home_folder() -> Path:
    """Data, logs and the state file of the stack."""
    return _folder("SSKAI_HOME", for_root="/var/lib/sskai", for_users=".local/share/sskai")


def cache_folder() -> Path:
    """Downloads that any number of stacks share: the broker's jars, model weights."""
    return _folder("SSKAI_CACHE", for_root="/var/cache/sskai", for_users=".cache/sskai")


def _folder(variable: str, *, for_root: str, for_users: str) -> Path:
    named = os.environ.get(variable)
    if named:
        return Path(named).absolute()
    return Path(for_root) if os.geteuid() == 0 else Path.home() / for_users
