"""Findings as tests compare them."""

from __future__ import annotations

from collections.abc import Iterable

from sskai.doctor import Finding


def states(found: Iterable[Finding]) -> dict[str, str]:
    """By check. Whatever is not sound says what to do."""
    named = {one.check: one.state for one in found}
    assert all(one.mend for one in found if one.state in ("warn", "fail"))
    return {check: str(state) for check, state in named.items()}
