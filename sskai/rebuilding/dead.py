"""Records that a service set aside when it read them: in a rebuild they are left out where they stand, too.

What was mended and redriven stands on its topic once more, later, and is handled there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from sskai import contract
from sskai.bus import Incoming

Place: TypeAlias = tuple[str, int, int]  # topic, partition, offset


def set_aside(letters: Iterable[Incoming], service: str) -> set[Place]:
    """Where those stood that this service set aside. Letters whose headers do not say so are left out."""
    found = set()
    for letter in letters:
        headers = dict(letter.headers)
        if headers.get("dlq_consumer") != service.encode():
            continue
        partition, offset = (headers.get(name, b"") for name in ("dlq_partition", "dlq_offset"))
        if partition.isdigit() and offset.isdigit():
            found.add((letter.topic.removesuffix(contract.DEAD_LETTER_SUFFIX), int(partition), int(offset)))
    return found
