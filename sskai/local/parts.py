"""The stack's table of contents: every part, how it is run and when it is ready."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sskai.local import kafka, objectstore, postgres
from sskai.local.layout import CATALOGUE, SERVICES, SOURCE_FOLDER, Layout
from sskai.local.processes import Program

# A starting program is prepared (formatted, configured) anew each time, hence a function for each part.
ProgramMaker = Callable[[], Program]


def infrastructure(layout: Layout) -> dict[str, ProgramMaker]:
    """Broker, database, object store and cloud; none of them needs another one to start."""
    home, ports = layout.home, layout.ports
    return {
        "kafka": lambda: kafka.program(home / "kafka", ports["kafka"], ports["kafka_controller"], log(home, "kafka")),
        "postgres": lambda: postgres.program(
            home / "postgres", ports["postgres"], layout.secrets.postgres_password, log(home, "postgres")
        ),
        "objects": lambda: objectstore.program(
            home / "objects", layout.objectstore_ports(), layout.objectstore_credentials(), log(home, "objects")
        ),
        "cloud": partial(_cloud, layout),
    }


def services(layout: Layout) -> dict[str, ProgramMaker]:
    """The six services; they need the infrastructure, the topics and their schemas."""
    return {name: partial(_service, layout, name) for name in SERVICES}


def port(layout: Layout, part: str) -> int:
    """The port that others use to reach the part."""
    return layout.ports["objects_s3" if part == "objects" else part]


def log(home: Path, part: str) -> Path:
    """The part's log file."""
    return home / "logs" / f"{part}.log"


def cloud_folder(home: Path) -> Path:
    """Where the simulated cloud keeps its book and its pods' logs."""
    return home / "cloud"


def _cloud(layout: Layout) -> Program:
    catalogue = {"SSKAI_CLOUD_CATALOGUE": str(CATALOGUE)} if CATALOGUE.exists() else {}
    return Program(
        name="cloud",
        command=[sys.executable, "-m", "sskai.local.cloud"],
        log=log(layout.home, "cloud"),
        ready=lambda: answers_ok(f"{layout.url('cloud')}/healthz"),
        environment={
            **catalogue,
            # The caller may name another price table, or a market's record to replay.
            **{name: value for name, value in os.environ.items() if name.startswith(("SSKAI_MARKET_", "SSKAI_CLOUD_"))},
            **layout.environment(),
            "SSKAI_CLOUD_FOLDER": str(cloud_folder(layout.home)),
            "SSKAI_PORT": str(layout.ports["cloud"]),
        },
        folder=SOURCE_FOLDER,
        stop_limit_seconds=5,
    )


def _service(layout: Layout, name: str) -> Program:
    return Program(
        name=name,
        command=[sys.executable, "-m", "services", name],
        log=log(layout.home, name),
        ready=lambda: answers_ok(f"{layout.url(name)}/readyz"),
        environment={**layout.environment(), "SSKAI_PORT": str(layout.ports[name])},
        folder=SOURCE_FOLDER,
        stop_limit_seconds=15,
    )


def answers_ok(url: str) -> bool:
    """Whether it answers with 200. Raises OSError if nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own http:// addresses
            return bool(response.status == 200)
    except urllib.error.HTTPError:
        return False
