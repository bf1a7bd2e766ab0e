"""Writes what the console is typed by: the gateway's OpenAPI document and the names of all events.

`--check` writes nothing and fails where the committed files are old. Nothing is started: no database, no broker.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import httpx2

from services.gateway.api.world import World
from services.gateway.app import build_app
from services.gateway.catalogue import Catalogue
from services.gateway.hub import Hub
from services.gateway.settings import Settings
from sskai import contract
from sskai.database import Database
from sskai.objects import Objects

CONSOLE = Path(__file__).parents[1] / "console"
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def openapi() -> str:
    settings = Settings(database_url=NOWHERE)
    world = World(
        Database(NOWHERE, "gateway"),
        Objects.from_settings(settings),
        settings,
        Catalogue.load(settings.models_dir),
        Hub(),
        httpx2.AsyncClient(),
    )
    return json.dumps(build_app(world).openapi(), indent=1, ensure_ascii=False) + "\n"


def event_types() -> str:
    names = sorted(name.rsplit(".", 1)[1] for name in contract.MESSAGES)
    lines = "".join(f'  "{name}",\n' for name in names)
    return (
        "// Made by tools/export_openapi.py (`make console-api`); not edited by hand.\n"
        f"export const EVENT_TYPES = [\n{lines}] as const;\n\nexport type EventType = (typeof EVENT_TYPES)[number];\n"
    )


def main() -> int:
    files = {CONSOLE / "openapi.json": openapi(), CONSOLE / "src/api/event-types.ts": event_types()}
    old = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path.relative_to(CONSOLE.parent)} is old: run `make console-api`", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
