"""`python requirements.py [EXTRA ...]` prints what the project needs, or only what these extras add, for pip's `-r`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
needed = [one for extra in sys.argv[1:] for one in extras[extra]] if sys.argv[1:] else project["dependencies"]
print("\n".join(needed))
