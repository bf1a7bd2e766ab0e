"""How a user names a dataset or a model, taken apart. Pure.

`NAME` (its newest version), `NAME@VERSION`, `dataset://NAME/VERSION`, `model://NAME/VERSION`, or an id; of a model also
`NAME@champion` and `NAME@challenger`, with or without `model://`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_REFERENCE = re.compile(
    r"(?:(?P<scheme>dataset|model)://)?(?P<name>[A-Za-z0-9._-]{1,100})(?:[@/](?P<version>\d{1,9})|@(?P<alias>champion|challenger))?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """`version` None: the newest, unless there is an `alias`."""

    name: str
    version: int | None
    alias: str = ""


def parse(text: str, kind: str) -> Reference | None:
    """What `text` names, `kind` being "dataset" or "model"; None: it names nothing of that kind."""
    match = _REFERENCE.fullmatch(text)
    if match is None or match["scheme"] not in (None, kind) or ("/" in text and not match["scheme"]):
        return None
    if match["alias"] and kind != "model":
        return None
    return Reference(match["name"], int(match["version"]) if match["version"] else None, match["alias"] or "")
