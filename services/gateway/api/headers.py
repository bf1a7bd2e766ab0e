"""What every answer tells a browser: guess no types, be framed by nobody, keep nothing; and who may read elsewhere."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HSTS = "max-age=31536000; includeSubDomains"
# JSON, events and files: nothing in them is ever run, loaded or framed.
POLICY_OF_DATA = "default-src 'none'; frame-ancestors 'none'"
# Pages load from here alone. Styles may stand in the page: that is how components of the console bring theirs.
POLICY_OF_PAGES = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI is begun by a script that stands in its page, and shows nothing of anybody's.
POLICY_OF_DOCUMENTS = POLICY_OF_PAGES + "; script-src 'self' 'unsafe-inline'"
DOCUMENTS = ("/docs", "/redoc")
API = ("/v1/", "/v2/")
TAKEN = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID")
EXPOSED = ("Location", "ETag", "Retry-After", "Idempotency-Replayed", "Content-Disposition", "X-Request-Id")


class SecureHeaders:
    """Adds them to each answer, also to one that refuses or fails; a route's own word on caching or content stands."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), scope)
            await send(message)

        await self._app(scope, receive, with_headers)


def allow_origins(app: ASGIApp, origins: list[str]) -> ASGIApp:
    """Pages of these origins may read answers, by a key in `Authorization` and never by a cookie. None: nobody may."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "If-None-Match",
            "Last-Event-ID",
        ],
        expose_headers=EXPOSED,
        max_age=600,
    )


def _add(headers: MutableHeaders, scope: Scope) -> None:
    policy = POLICY_OF_DATA
    if headers.get("content-type", "").startswith("text/html"):
        policy = POLICY_OF_DOCUMENTS if scope["path"] in DOCUMENTS else POLICY_OF_PAGES
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    headers.setdefault("Content-Security-Policy", policy)
    if scope["path"].startswith(API):
        # A document with an ETag may be kept by its reader, who has to ask whether it still holds.
        headers.setdefault("Cache-Control", "private, no-cache" if "etag" in headers else "no-store")
    if scope["scheme"] == "https":
        headers["Strict-Transport-Security"] = HSTS
