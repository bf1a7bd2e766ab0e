"""Programs of services, for commands of operators: the client itself knows none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from sskai.cli import common
from sskai.local.paths import home_folder
from sskai.local.state import told_by_the_stack


def run(module: str, *arguments: str) -> dict[str, Any]:
    """What the program says, in JSON. It is told where the parts are as services are."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, env=told_by_the_stack(home_folder()) | dict(os.environ), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise common.fail(f"{module} ended with {done.returncode}; its words stand above.")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
