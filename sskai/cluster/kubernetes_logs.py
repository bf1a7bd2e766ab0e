"""What Kubernetes' log of a pod means, line by line with its time. Values only.

The API takes no position, only seconds; so a position is the newest line's time, and how many lines have that time:
`2026-11-29T22:00:00.123456789Z/1`. What is older, or was counted, is left out of the next answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sskai.cluster import LOG_PAGE_BYTES, Line, LogPage

INDEX = "batch.kubernetes.io/job-completion-index"
CLOCKS_SECONDS = 5  # by which a node's clock may differ from ours


def first_member(pods: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The newest pod of the lowest index: a gang is told by its first member."""

    def order(pod: dict[str, Any]) -> tuple[int, str]:
        return -int(_notes(pod).get(INDEX, 0)), str(pod["metadata"].get("creationTimestamp") or "")

    return max(pods, key=order, default=None)


def since_seconds(after: str, now: datetime) -> int | None:
    """How far to look back for what follows a position; None: there is none."""
    if not after:
        return None
    moment = after.partition("/")[0]
    passed = (now - datetime.fromisoformat(moment)).total_seconds()
    return max(1, math.ceil(passed) + CLOCKS_SECONDS)


def page(text: str, after: str, tail: int) -> LogPage:
    """The lines of an answer that follow the position, and the next one."""
    moment, _, counted = after.partition("/")
    last, same = moment, int(counted or 0)
    skip = same
    lines: list[Line] = []
    size = 0
    # A limit of bytes may cut the last line; the next answer has it whole.
    whole = text[: text.rfind("\n") + 1]
    for raw in whole.split("\n")[:-1]:
        at, _, said = raw.partition(" ")
        if after and _key(at) < _key(moment):
            continue
        if at == moment and skip:
            skip -= 1
            continue
        same = same + 1 if at == last else 1
        last = at
        lines.append(Line(said, at))
        size += len(raw)
        if size > LOG_PAGE_BYTES and after:
            break
    return LogPage(tuple(lines), f"{last}/{same}" if last else "", truncated=not after and len(lines) >= tail)


def _key(at: str) -> tuple[str, str]:
    """Times in their order: a fraction has as many digits as it needs."""
    seconds, _, fraction = at.removesuffix("Z").partition(".")
    return seconds, fraction


def _notes(pod: dict[str, Any]) -> dict[str, str]:
    return pod["metadata"].get("annotations") or {}
