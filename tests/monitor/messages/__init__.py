"""Messages of AWS by the name of their file; README.md says where each is documented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def message(name: str, machine_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """One of them, perhaps of another machine, and with other fields."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    if machine_id is not None:
        document["detail"]["instance-id"] = machine_id
    return document | changes
