"""The stack's state file: what runs, where, and with which keys. Private and always whole."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from sskai.local.processes import ProcessIdentity

Phase = Literal["starting", "running", "stopping", "failed"]
PartPhase = Literal["starting", "running", "restarting", "stopped", "external"]


@dataclass(slots=True)
class PartState:
    """One part as its supervisor sees it. `port` is the one that others use; an external part has no process."""

    state: PartPhase
    port: int | None = None
    process: ProcessIdentity | None = None
    restarts: int = 0


@dataclass(slots=True)
class StackState:
    """What `state.json` holds. `environment` is what every service is given; secrets are in it."""

    phase: Phase
    supervisor: ProcessIdentity
    environment: dict[str, str]
    parts: dict[str, PartState] = field(default_factory=dict)
    error: str | None = None

    @property
    def gateway_url(self) -> str:
        """Where users knock."""
        return self.environment["SSKAI_GATEWAY_URL"]

    @property
    def admin_key(self) -> str:
        """The first administrator's API key."""
        return self.environment["SSKAI_ADMIN_KEY"]

    def supervised(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        return self.supervisor.alive()


def state_file(home: Path) -> Path:
    """The state file of the stack in this home folder."""
    return home / "state.json"


def read_state(home: Path) -> StackState | None:
    """The state that was written last, or None when the stack is down."""
    try:
        raw = json.loads(state_file(home).read_text())
    except FileNotFoundError:
        return None
    parts = {
        name: PartState(**{**part, "process": part["process"] and ProcessIdentity(**part["process"])})
        for name, part in raw["parts"].items()
    }
    return StackState(**{**raw, "supervisor": ProcessIdentity(**raw["supervisor"]), "parts": parts})


def told_by_the_stack(home: Path) -> dict[str, str]:
    """The variables of its services; none when the stack is down."""
    state = read_state(home)
    return state.environment if state is not None else {}


def write_state(home: Path, state: StackState) -> None:
    """Replace the state file."""
    write_privately(state_file(home), json.dumps(asdict(state), indent=2) + "\n")


def write_privately(path: Path, text: str) -> None:
    """Replace the file in one step; nobody but us may read it, and a crash leaves the old text or the new."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
