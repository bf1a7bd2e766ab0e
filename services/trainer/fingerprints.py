"""Rows by what they say, so that two jobs can tell whether one has learnt what the other is tested with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator

MAX_ROWS = 1_000_000  # 13 MB as text; of more nothing is kept
HEX_DIGITS = 12  # 48 bits: of a million rows one is taken for another with a chance of 4e-9


def of_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """(number from 1, fingerprint) of each row of a JSON Lines file: the order of keys and white space say nothing."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            plain = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
            yield number, hashlib.blake2b(plain.encode(), digest_size=HEX_DIGITS // 2).hexdigest()


def split(lines: Iterable[bytes], held_out: Collection[int]) -> tuple[dict[int, str], set[str]] | None:
    """(held-out rows' fingerprints by number, those of all others); None: there are too many rows."""
    kept: dict[int, str] = {}
    others: set[str] = set()
    for number, fingerprint in of_lines(lines):
        if len(others) > MAX_ROWS:
            return None
        if number in held_out:
            kept[number] = fingerprint
        else:
            others.add(fingerprint)
    return kept, others


def to_text(fingerprints: Iterable[str]) -> str:
    return "".join(f"{each}\n" for each in sorted(fingerprints))
