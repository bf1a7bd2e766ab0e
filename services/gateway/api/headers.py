"""What every answer tells a browser: guess no types, be framed by nobody, keep nothing; and who may read elsewhere."""

from __future__ import annotations

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
                message["headers"] = headers = list(message.get("headers", ()))
                _add(headers, scope)
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


def _raw(**headers: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


# Made once: Starlette's own headers are searched through, and encoded, for each that is set.
_ALWAYS = _raw(x_content_type_options="nosniff", referrer_policy="no-referrer", x_frame_options="DENY")
_POLICIES = {
    policy: _raw(content_security_policy=policy) for policy in (POLICY_OF_DATA, POLICY_OF_PAGES, POLICY_OF_DOCUMENTS)
}
# A document with an ETag may be kept by its reader, who has to ask whether it still holds.
_KEPT, _NOT_KEPT = _raw(cache_control="private, no-cache"), _raw(cache_control="no-store")
_HTTPS = _raw(strict_transport_security=HSTS)


def _add(headers: list[tuple[bytes, bytes]], scope: Scope) -> None:
    told = dict(headers)
    if b"content-security-policy" not in told:
        policy = POLICY_OF_DATA
        if told.get(b"content-type", b"").startswith(b"text/html"):
            policy = POLICY_OF_DOCUMENTS if scope["path"] in DOCUMENTS else POLICY_OF_PAGES
        headers += _POLICIES[policy]
    headers += _ALWAYS
    if scope["path"].startswith(API) and b"cache-control" not in told:
        headers += _KEPT if b"etag" in told else _NOT_KEPT
    if scope["scheme"] == "https":
        headers += _HTTPS
