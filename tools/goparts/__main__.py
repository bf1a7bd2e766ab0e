"""`python -m tools.goparts [NAME ...]` builds them (all, if none is named) and prints where they lie."""

from __future__ import annotations

import sys

from tools import goparts


def main(wanted: list[str]) -> int:
    for name in wanted or goparts.names():
        try:
            print(goparts.built(name))
        except goparts.GoPartError as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
