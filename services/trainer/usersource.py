"""From a model's zip to a folder that may be trained: unpacked, its packages installed, a step tried. No torch here."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import structlog

from services.trainer import patience
from services.trainer.domain import TrainingFailedError
from sskai import archives, requirements, sandbox
from sskai.archives import ArchiveError
from sskai.events import v1 as events
from sskai.objects import NotFoundError
from sskai.requirements import Requirement, RequirementError
from sskai.sandbox import Limits, Outcome, SandboxError

log = structlog.get_logger()

PROGRAM = Path(sandbox.__file__).with_name("usermodel.py")
CODE, PACKAGES, WEIGHTS = "code", "packages", "weights.safetensors"
# The pod's own: another version cannot live in one process with them.
PROVIDED = ("torch", "numpy", "safetensors")
INSTALL_SECONDS = 300
MAX_INSTALLED_BYTES = 4 * sandbox.GIB
CHECK_SECONDS = 120
TOLD_LENGTH = 600
# Variables by which a site says where packages come from.
_INSTALLERS = re.compile(r"PATH|HOME|TMPDIR|(UV|PIP|SSL)_.*|.*_PROXY|.*_proxy")


@dataclass(frozen=True, slots=True)
class Source:
    """A folder with `code` (the zip's files) and, where any had to be installed, `packages`."""

    place: Path

    @property
    def code(self) -> Path:
        return self.place / CODE

    @property
    def packages(self) -> Path:
        return self.place / PACKAGES


def fetch(reference: events.ModelRef, bucket: patience.Source, folder: Path) -> Source:
    """Unpack the zip, and lay a trained version's weights over its own. Raises TrainingFailedError("user-error")."""
    source = Source(folder / "own")
    source.code.mkdir(parents=True)
    for closed in (folder, source.place):
        closed.chmod(closed.stat().st_mode | 0o011)  # the check's user has to pass through
    archive = folder / "code.zip"
    try:
        bucket.download(bucket.key(reference.code_uri), archive)
        with archive.open("rb") as file:
            archives.check(file)
            archives.unpack(file, source.code)
        if reference.uri:
            (source.code / WEIGHTS).unlink(missing_ok=True)
            bucket.download(f"{bucket.key(reference.uri).rstrip('/')}/{WEIGHTS}", source.code / WEIGHTS)
    except ArchiveError as error:
        raise TrainingFailedError("user-error", str(error)) from error
    except (NotFoundError, ValueError) as error:
        raise TrainingFailedError(
            "user-error", f"model: {error} is not in the object store: upload it again"
        ) from error
    archive.unlink()
    return source


def install(source: Source, *, allowed: bool) -> None:
    """What requirements.txt asks for beyond what the pod has, as wheels, so that nothing of it runs while it is
    installed. Raises TrainingFailedError("user-error"), which names the line."""
    path = source.code / "requirements.txt"
    try:
        wanted = requirements.parse(path.read_text()) if path.exists() else ()
    except RequirementError as error:
        raise TrainingFailedError("user-error", f"requirements.txt: {error}") from error
    missing = [each for each in wanted if not _is_here(each)]
    if not missing:
        return
    if not allowed:
        raise _refused(missing[0], "is not installed in this pod, and pods here install nothing")
    # Beside this interpreter first: a pod's PATH need not have the environment's own folder.
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise _refused(missing[0], "is not installed in this pod, and there is no uv to install it with")
    _run_installer(uv, missing, source)
    size = sum(each.stat().st_size for each in source.packages.rglob("*") if each.is_file())
    if size > MAX_INSTALLED_BYTES:
        raise _refused(missing[0], f"and the others take {size} bytes; the limit is {MAX_INSTALLED_BYTES}")


def check(source: Source) -> None:
    """Try one step on two samples without network, variables or rights, before a training step is paid for.

    Raises TrainingFailedError("user-error") with the user's file and line.
    """
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limits = Limits(wall_seconds=CHECK_SECONDS, cpu_seconds=CHECK_SECONDS, memory_bytes=memory_bytes)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    walls: tuple[sandbox.Walls, ...] = (*sandbox.CLOSED, "limits")
    try:
        outcome = asyncio.run(
            sandbox.run(PROGRAM, source.place, arguments=(CODE, PACKAGES), limits=limits, env=threads, walls=walls)
        )
    except SandboxError as error:
        # The pod is a wall too, and the first step says what the check would have said.
        log.warning("the model is not checked beforehand", error=str(error))
        return
    log.info("checked", walls=outcome.walls)
    if words := _mistake(outcome):
        raise TrainingFailedError("user-error", words)


def _mistake(outcome: Outcome) -> str:
    """What the check found; empty: nothing."""
    if outcome.killed_for:
        return f"one step of two samples was stopped for its {outcome.killed_for}: load and compute less in it"
    try:
        return str(json.loads(outcome.stdout).get("error", ""))
    except (ValueError, AttributeError):
        last = outcome.stderr_tail.strip().rpartition("\n")[2]
        return f"the process ended with code {outcome.exit_code} before a step was made: {last[:TOLD_LENGTH]}"


def _is_here(wanted: Requirement) -> bool:
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return False
    if wanted.version in ("", version, version.partition("+")[0]):
        return True
    if wanted.name.lower() in PROVIDED:
        raise _refused(wanted, f"cannot be had: pods have {version}; write {wanted.name} alone")
    return False


def _run_installer(uv: str, missing: Sequence[Requirement], source: Source) -> None:
    # What depends on torch must not bring another one.
    own = source.place / "provided.txt"
    own.write_text("".join(f"{name}; python_version < '0'\n" for name in PROVIDED))
    command = [
        uv,
        "pip",
        "install",
        "--python",
        sys.executable,
        "--target",
        str(source.packages),
        "--only-binary",
        ":all:",
        "--no-progress",
    ]
    command += ["--override", str(own), *(str(each) for each in missing)]
    environment = {name: value for name, value in os.environ.items() if _INSTALLERS.fullmatch(name)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _refused(missing[0], f"and the others took more than {INSTALL_SECONDS} s to install") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split())
        named = next((each for each in missing if each.name.lower() in words.lower()), missing[0])
        raise _refused(named, f"cannot be installed: {words[-TOLD_LENGTH:]}")
    log.info("installed", packages=[str(each) for each in missing])


def _refused(wanted: Requirement, why: str) -> TrainingFailedError:
    return TrainingFailedError("user-error", f"requirements.txt, line {wanted.line}: {wanted} {why}")
