"""Programs in Go that tests run for real, built from their modules at the versions and hashes that `go.sum` pins.

A folder beside this file is one module: its `go.mod` names programs as `tool` directives, or it holds `main` packages
of its own. What was built once stays in the cache under the hash of the folder, for every checkout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from sskai.local.paths import cache_folder

HERE = Path(__file__).parent
LIMIT_SECONDS = 3000


class GoPartError(Exception):
    """It cannot be built here; the message says what is missing."""


def names() -> list[str]:
    """Of the modules that can be built."""
    return sorted(found.parent.name for found in HERE.glob("*/go.mod"))


def built(module: str) -> Path:
    """The folder with the module's programs, built now if they are not there. Processes take turns.

    Raises GoPartError."""
    source = HERE / module
    if not (source / "go.mod").exists():
        raise GoPartError(f"there is no {module} in {HERE}: there are {', '.join(names())}")
    target = cache_folder() / "goparts" / f"{module}-{_hash(source)}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f"{module}.lock", timeout=LIMIT_SECONDS):
        if not target.exists():
            _build(source, target)
    return target


def program(module: str, name: str) -> Path:
    """One of its programs. Raises GoPartError."""
    found = built(module) / name
    if not found.exists():
        raise GoPartError(f"{module} has no program {name}: it has {', '.join(sorted(os.listdir(found.parent)))}")
    return found


def _build(source: Path, target: Path) -> None:
    if shutil.which("go") is None:
        raise GoPartError("Go 1.24 or newer is needed to build it: https://go.dev/dl or your distribution's package")
    print(f"Building {source.name} (once; it stays in {target.parent})", file=sys.stderr, flush=True)
    new = target.with_name(target.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    what = "tool" if "tool " in (source / "go.mod").read_text() else "./..."
    command = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", f"{new}/", what]
    done = subprocess.run(
        command,
        cwd=source,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise GoPartError(f"{' '.join(command)} in {source}: {done.stderr[-2000:]}")
    new.rename(target)


def _hash(source: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(source)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
