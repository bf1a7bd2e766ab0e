"""`python -m tools.mutants [NAME...] [--json]`: does a test catch each seeded bug? Exit code 1: one is not caught."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from tools.mutants import running
from tools.mutants.patches import Mutant, PatchError, read_all
from tools.mutants.running import Outcome, Verdict


def chosen(mutants: Sequence[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Those whose name begins with, or holds, one of the names; all, if there are none. Raises PatchError."""
    if unknown := [name for name in names if not any(name in mutant.name for mutant in mutants)]:
        raise PatchError(f"no seeded bug is called {unknown[0]!r}")
    return [mutant for mutant in mutants if not names or any(name in mutant.name for name in names)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of a name; without one, all are run")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument(
        "--limit-seconds", type=float, default=running.LIMIT_SECONDS, help="for each (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    try:
        mutants = chosen(read_all(), given.names)
    except PatchError as error:
        parser.error(str(error))
    if given.list:
        _list(mutants, as_json=given.json)
        return 0
    return _run(mutants, given.limit_seconds, as_json=given.json)


def _list(mutants: Sequence[Mutant], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"name": one.name, "breaks": one.breaks, "about": one.about} for one in mutants], indent=1))
        return
    for one in mutants:
        print(f"{one.name:44} {', '.join(one.breaks):12} {one.about}")


def _run(mutants: Sequence[Mutant], limit_seconds: float, *, as_json: bool) -> int:
    begun = time.monotonic()
    verdicts = []
    with running.copied() as tree:
        plain = running.without_bugs(tree, mutants, limit_seconds)
        sound = plain.code == running.PASSED
        if not sound:
            print("The tests fail without any seeded bug:", file=sys.stderr)
            print("\n".join(plain.failed) or plain.output[-4000:], file=sys.stderr)
        for mutant in mutants if sound else ():
            verdicts.append(running.verdict(tree, mutant, limit_seconds))
            if not as_json:
                _tell(verdicts[-1])
    caught = sum(one.outcome is Outcome.CAUGHT for one in verdicts)
    seconds = time.monotonic() - begun
    if as_json:
        found = [asdict(one) for one in verdicts]
        summary = {"mutants": len(mutants), "caught": caught, "sound": sound, "seconds": round(seconds, 1)}
        print(json.dumps({**summary, "verdicts": found}, indent=1))
    elif sound:
        print(f"{caught} of {len(mutants)} seeded bugs caught in {seconds:.0f} s")
    return 0 if sound and caught == len(mutants) else 1


def _tell(one: Verdict) -> None:
    print(f"{one.name:44} {one.outcome:18} {one.seconds:5.1f} s  {one.caught_by.rpartition('/')[2]}", flush=True)
    if one.outcome is not Outcome.CAUGHT and one.detail:
        print(one.detail)


if __name__ == "__main__":
    sys.exit(main())
