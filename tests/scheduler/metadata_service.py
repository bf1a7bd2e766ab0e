"""A small metadata service of EC2, version 2 (EC2 User Guide, "Use the Instance Metadata Service"): a session token is
put with its lifetime, and every question needs one. What it answers are files below a folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

MAX_TOKEN_SECONDS = 21600  # six hours


@contextmanager
def metadata_service(folder: Path) -> Iterator[str]:
    """The service's address, as far as /latest; `folder` holds what lies below meta-data."""
    tokens: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if self.path != "/latest/api/token":
                self._answer(404)
            elif not lifetime.isdigit() or not 1 <= int(lifetime) <= MAX_TOKEN_SECONDS:
                self._answer(400)
            else:
                tokens.add(token := secrets.token_urlsafe(16))
                self._answer(200, token.encode())

        def do_GET(self) -> None:
            if self.headers.get("X-aws-ec2-metadata-token") not in tokens:
                self._answer(401)
                return
            path = folder / self.path.removeprefix("/latest/meta-data/")
            self._answer(200, path.read_bytes()) if path.is_file() else self._answer(404)

        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Questions come every few milliseconds here."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/latest"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
