"""Draws the scheduler's tables into its README: `python -m tools.scheduler_tables` (a test says when it is stale).

The arrows come from `domain.NEXT_STATES`; the reasons from `EndReason` and `retrying.BACKOFF`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.scheduler.domain import NEXT_STATES, EndReason, State
from services.scheduler.retrying import BACKOFF

README = Path(__file__).parents[1] / "services" / "scheduler" / "README.md"


def diagram() -> str:
    """Every arrow, as Mermaid draws it."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.PLANNING}"]
    for state, following in NEXT_STATES.items():
        lines += [f"    {state} --> {one}" for one in State if one in following]
        lines += [f"    {state} --> [*]"] if not following else []
    return "\n".join([*lines, "```"])


def reasons() -> str:
    """What follows from each reason."""
    lines = ["| reason | tried again | under `retry.on_events` | waits |", "|---|---|---|---|"]
    for reason in EndReason:
        if reason in (EndReason.SUCCEEDED, EndReason.CANCELLED, EndReason.NOT_NEEDED):
            continue
        again = "no" if not reason.retries else "yes"
        if reason is EndReason.OUT_OF_MEMORY:
            again = "once, on a larger machine of the plan"
        listed = reason.on_event or ("always" if reason.retries else "")
        lines.append(f"| `{reason.word}` | {again} | {listed} | {_waits(reason)} |")
    return "\n".join(lines)


def _waits(reason: EndReason) -> str:
    if not reason.retries:
        return ""
    backoff = BACKOFF[reason]
    if not backoff.most_seconds:
        return "0 s"
    first = "0 s, " * backoff.free + f"{backoff.first_seconds:g} s"
    return f"{first}, doubling up to {backoff.most_seconds:g} s"


def drawn(text: str) -> str:
    """The README with both tables as they are now."""
    for name, table in (("states", diagram()), ("reasons", reasons())):
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        head, mark, rest = text.partition(f"<!-- {name} -->")
        _, end_mark, tail = rest.partition(f"<!-- /{name} -->")
        text = head + block + tail
        if not mark or not end_mark:
            raise ValueError(f"{README} needs one pair of marks <!-- {name} --> and <!-- /{name} -->")
    return text


def main() -> int:
    README.write_text(drawn(README.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
