"""The gateway as the console sees it: the built files as they are served, and answers that a test chooses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.gateway.console import Console

KEY = "sskai_key-of-the-tests"
LINK = "link-of-one-use"
CSRF_TOKEN = "csrf-of-the-tests"
SESSION: dict[str, Any] = {
    "object": "session",
    "id": "session_1",
    "user": {"id": "user_1", "email": "ann@acme.example", "name": "Ann Lee"},
    "tenant": {"id": "tenant_acme", "name": "Acme"},
    "role": "admin",
    "scopes": ["read", "infer", "write", "admin"],
    "operator": False,
    "csrf_token": CSRF_TOKEN,
    "tenants": [
        {"id": "tenant_acme", "name": "Acme", "role": "admin"},
        {"id": "tenant_lab", "name": "Lab", "role": "viewer"},
    ],
    "created_at": "2026-11-29T12:00:00Z",
    "expires_at": "2026-12-06T12:00:00Z",
}
AUTH = {"object": "auth", "oidc": {"name": "Acme SSO", "start": "/v1/auth/oidc/start"}, "key": True, "sign_up": "open"}


@dataclass
class Asked:
    method: str
    path: str
    body: Any
    query: str = ""


@dataclass
class Stub:
    """`answers` holds documents by "GET /v1/jobs", or with a query; a (status, document) is a refusal, a text a stream,
    a Response goes as it is, the rest is 404.

    A request of the console's that changes something without its CSRF token is refused, as the gateway does.
    """

    answers: dict[str, Any] = field(default_factory=lambda: {"GET /v1/auth": AUTH})
    asked: list[Asked] = field(default_factory=list)
    session: dict[str, Any] | None = None
    told: int = 0
    streams: set[asyncio.Queue[bytes | None]] = field(default_factory=set)
    pages: dict[str, Any] = field(default_factory=dict)  # of the event log, by the query that asks for one

    def sign_in(self, **changes: Any) -> None:
        self.session = SESSION | changes

    def tell(self, type_: str, subject: str, **data: Any) -> None:
        """An event to every open stream."""
        event = {"type": f"sskai.events.v1.{type_}", "time": "2026-11-29T12:00:00Z", "partitionkey": subject}
        self.told += 1
        text = f"id: {self.told}\nevent: {type_}\ndata: {json.dumps(event | {'data': data})}\n\n"
        for stream in self.streams:
            stream.put_nowait(text.encode())

    def close(self) -> None:
        for stream in self.streams:
            stream.put_nowait(None)

    async def answer(self, request: Request) -> Response:
        method, path = request.method, request.url.path
        text = await request.body()
        is_json = request.headers.get("content-type", "").startswith("application/json")
        self.asked.append(Asked(method, path, json.loads(text) if is_json else text or None, request.url.query))
        if path == "/v1/session":
            return self._session(request, self.asked[-1].body)
        if path == "/v1/auth":
            return JSONResponse(self.answers[f"{method} {path}"])
        if self.session is None:
            return problem(401, "Unauthorized", "Sign in")
        if method != "GET" and request.headers.get("x-csrf-token") != CSRF_TOKEN:
            return problem(403, "CSRF token missing or wrong", "")
        if path == "/v1/events" and request.url.query in self.pages:
            return JSONResponse(self.pages[request.url.query])
        if path == "/v1/events":
            return StreamingResponse(self._events(), media_type="text/event-stream")
        plain = f"{method} {path}"
        document = self.answers.get(f"{plain}?{request.url.query}", self.answers.get(plain))
        if document is None:
            return problem(404, "Not found", f"{path} does not exist")
        if isinstance(document, Response):
            return document
        if isinstance(document, tuple):
            status, body = document
            return problem(status, **({"detail": ""} | body))
        if isinstance(document, str):
            return Response(document, media_type="text/event-stream")
        return JSONResponse(document)

    def _session(self, request: Request, body: Any) -> Response:
        if request.method == "POST":
            if body not in ({"key": KEY}, {"link": LINK}):
                return problem(401, "Unauthorized", "No such key")
            self.sign_in()
        if self.session is None:
            return problem(401, "Unauthorized", "Sign in")
        if request.method != "POST" and request.method != "GET" and request.headers.get("x-csrf-token") != CSRF_TOKEN:
            return problem(403, "CSRF token missing or wrong", "")
        if request.method == "DELETE":
            self.session = None
            return Response(status_code=204)
        if request.method == "PATCH":
            tenant = next(each for each in SESSION["tenants"] if each["id"] == body["tenant_id"])
            self.session |= {"tenant": {"id": tenant["id"], "name": tenant["name"]}, "role": tenant["role"]}
        return JSONResponse(self.session, 201 if request.method == "POST" else 200)

    async def _events(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.streams.add(queue)
        try:
            yield b": connected\nid: 0\nretry: 200\n\n"
            while (text := await queue.get()) is not None:
                yield text
        finally:
            self.streams.discard(queue)


def problem(status: int, title: str, detail: str, **more: Any) -> JSONResponse:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(body, status, media_type="application/problem+json")


class StubGateway:
    """The application; `stub` is what the running test set."""

    def __init__(self, dist: Path) -> None:
        self.stub = Stub()
        self._console = Console(dist, self._api, "http://127.0.0.1:8333")

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.stub.answer(Request(scope, receive))
        await response(scope, receive, send)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._console(scope, receive, send)
