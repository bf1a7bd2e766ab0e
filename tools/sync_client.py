"""Makes `sskai/client/_sync` of `sskai/client/_async`: `python -m tools.sync_client`.

The same text without `async` and `await`, and with the names of the other world. A test holds the two equal, so that
nobody edits what is made.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1] / "sskai" / "client"
BY_HAND = {"io.py"}
HEADER = "# Made by `python -m tools.sync_client` of ../_async: edit that.\n"
# Whole words, in this order. What begins with Async loses it: AsyncJobs, AsyncIterator, AsyncExitStack.
WORDS = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b_async\b", "_sync"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(close|read|iter_lines|iter_bytes)\b", r"\1"),
    (r"where everything else may run meanwhile; `_sync` is made of these files", "where nothing else runs meanwhile"),
)


def translated(text: str) -> str:
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return HEADER + text


def made() -> dict[str, str]:
    """The files of `_sync` by their names, as they should be."""
    texts = {
        path.name: translated(path.read_text()) for path in (CLIENT / "_async").glob("*.py") if path.name not in BY_HAND
    }
    return {name: _formatted(text) for name, text in sorted(texts.items())}


def _formatted(text: str) -> str:
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(CLIENT / "_sync" / "made.py"), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


def main() -> None:
    for name, text in made().items():
        (CLIENT / "_sync" / name).write_text(text)


if __name__ == "__main__":
    main()
