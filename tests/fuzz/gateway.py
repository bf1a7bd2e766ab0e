"""The gateway's whole application in this process, for a caller that is known, with a database that is away.

So a request is read, checked and refused by the real code; one that is accepted ends with 503 where the database
would be asked.
"""

from __future__ import annotations

import asyncio
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy.exc import OperationalError

from services.gateway.access import SCOPES
from services.gateway.api.world import World
from services.gateway.app import build_app
from services.gateway.catalogue import Catalogue
from services.gateway.hub import Hub
from services.gateway.keys import KEY_PREFIX, Actor, Principal
from services.gateway.settings import Settings
from sskai.database import Database
from sskai.objects import Objects

KEY = f"{KEY_PREFIX}of-the-fuzzer"
CALLER = Principal("tenant_1", "key_1", Actor("key", "key_1", "fuzz"), frozenset(SCOPES))


class Away(Database):
    def transaction(self) -> Any:
        raise OperationalError("no database here", None, ConnectionError("no database here"))


@cache
def _world() -> tuple[World, Any]:
    folder = Path(tempfile.gettempdir())
    settings = Settings(
        models_dir=folder / "sskai-fuzz-no-models",
        spool_dir=folder,
        max_dataset_bytes=4_000_000,
        inference_retry_seconds=0,
    )
    world = World(
        Away("postgresql+psycopg://nobody@127.0.0.1:9/none", "gateway"),
        Objects("http://127.0.0.1:9", "none", "key", "secret"),
        settings,
        Catalogue.load(settings.models_dir),
        Hub(),
        httpx2.AsyncClient(),
    )
    return world, build_app(world)


async def ask(method: str, path: str, headers: dict[str, bytes], body: bytes) -> httpx2.Response | None:
    """One request, as KEY; None: HTTP itself does not let it pass."""
    world, app = _world()
    world.known_keys.remember(KEY, CALLER, asyncio.get_running_loop().time())
    try:
        request = httpx2.Request(
            method,
            httpx2.URL("http://gateway").join(path),
            headers=[*headers.items(), ("Authorization", f"Bearer {KEY}".encode())],
            content=body,
        )
    except (httpx2.InvalidURL, ValueError, TypeError):
        return None
    if request.url.host != "gateway" or not method.isalpha():
        return None
    transport = httpx2.ASGITransport(app=app)
    answer = await transport.handle_async_request(request)
    await answer.aread()
    return answer
