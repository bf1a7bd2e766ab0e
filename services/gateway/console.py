"""The web console's built files at `/`, for every path that is no route of the API's.

Whatever is not a file answers `index.html`: the console reads its own addresses. Hashed assets are kept by browsers for
good, `index.html` is asked for each time. Nothing is compressed while it is served: `make console` did that.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

API_PREFIXES = ("/v1", "/v2", "/docs", "/redoc", "/openapi.json", "/asyncapi.yaml", "/healthz", "/readyz", "/metrics")
ENCODINGS = {"br": ".br", "gzip": ".gz"}  # the better one first
FOREVER = "public, max-age=31536000, immutable"
NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>SSKAI</title>
<body><h1>The console is not built</h1><p>Run <code>make console</code> and load this page again.
The API works without it; <a href="/docs">its reference</a> says how.</p></body></html>"""
# antd writes the styles of its components into the page, hence 'unsafe-inline' for them. A nonce would not do: parts of
# it (the lock of the page's scrolling under a dialogue) write styles without one. Scripts come from files only.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src {connect}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class Built:
    """One file of the build, and its compressed twins by encoding."""

    path: Path
    media_type: str
    encoded: Mapping[str, Path]


class Console:
    """What the router asks where no route matches. `otherwise` answers for the API's paths."""

    def __init__(self, folder: Path, otherwise: ASGIApp, objects_url: str) -> None:
        self._folder = folder
        self._otherwise = otherwise
        # Large files go from the browser straight to the object store.
        objects = urlsplit(objects_url)
        policy = CONTENT_SECURITY_POLICY.format(connect=f"'self' {objects.scheme}://{objects.netloc}")
        self._headers = SECURITY_HEADERS | {"Content-Security-Policy": policy}
        self._built_at = 0
        self._files: dict[str, Built] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or is_of_the_api(path):
            await self._otherwise(scope, receive, send)
            return
        self._look()
        await self._answer(path, Headers(scope=scope))(scope, receive, send)

    def _answer(self, path: str, asked: Headers) -> Response:
        if not self._files:
            return HTMLResponse(NOT_BUILT, 503, self._headers | {"Cache-Control": "no-store"})
        file = self._files.get(path)
        # A page of an older build must not get HTML for a script that is gone.
        if file is None and path.startswith("/assets/"):
            return PlainTextResponse("Not found", 404, self._headers)
        return self._response(file or self._files["/index.html"], asked)

    def _response(self, file: Built, asked: Headers) -> Response:
        kept = FOREVER if file.path.parent.name == "assets" else "no-cache"
        headers = self._headers | {"Cache-Control": kept, "Vary": "Accept-Encoding"}
        accepted = {part.split(";")[0].strip() for part in asked.get("accept-encoding", "").split(",")}
        for encoding, path in file.encoded.items():
            if encoding in accepted:
                headers["Content-Encoding"] = encoding
                return FileResponse(path, headers=headers, media_type=file.media_type)
        return FileResponse(file.path, headers=headers, media_type=file.media_type)

    def _look(self) -> None:
        """Reads the folder's listing again after a build: only what is in it can be asked for."""
        index = self._folder / "index.html"
        built_at = index.stat().st_mtime_ns if index.is_file() else 0
        if built_at != self._built_at:
            self._files = listing(self._folder) if built_at else {}
            self._built_at = built_at


def is_of_the_api(path: str) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in API_PREFIXES)


def listing(folder: Path) -> dict[str, Built]:
    """Every built file by its path in a URL."""
    suffixes = tuple(ENCODINGS.values())
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        f"/{path.relative_to(folder).as_posix()}": Built(
            path,
            mimetypes.guess_type(path.name)[0] or "application/octet-stream",
            {
                encoding: twin
                for encoding, suffix in ENCODINGS.items()
                if (twin := path.with_name(path.name + suffix)).is_file()
            },
        )
        for path in paths
        if not path.name.endswith(suffixes)
    }
