"""`python -m services scheduler`: one of the six as a process, told all by `SSKAI_*`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from sskai.importing import without_garbage_collection

NAMES = sorted(path.parent.name for path in Path(__file__).parent.glob("*/main.py"))


def main() -> None:
    """Run the named service until it is told to stop. Exit code 2: there is none of that name."""
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        print(f"say which service: python -m services {{{','.join(NAMES)}}}", file=sys.stderr)
        sys.exit(2)
    with without_garbage_collection():
        service = import_module(f"services.{sys.argv[1]}.main")
    service.main()


if __name__ == "__main__":
    main()
