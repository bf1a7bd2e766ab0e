"""Bodies have a limit, whatever their header says of their length."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.api import openai_errors
from sskai.http import Problem, problem_response

IN_PARTS = ("/v1/datasets", "/v1/files")


class BodyLimit:
    """Refuses a body over the limit of its path with 413: at once by its Content-Length, else when it gets there.

    `by_path`: the path itself, or (ending in "/") how it begins."""

    def __init__(self, app: ASGIApp, limit_bytes: int, by_path: dict[str, int]) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._by_path = by_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > limit:
            await problem_response(_too_large(scope["path"], limit))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(scope["path"], limit)
            return message

        await self._app(scope, counted, send)

    def _limit_of(self, path: str) -> int:
        begun = (limit for start, limit in self._by_path.items() if start.endswith("/") and path.startswith(start))
        return self._by_path.get(path.rstrip("/"), next(begun, self._limit_bytes))


def _too_large(path: str, limit: int) -> Problem:
    instead = ", or in parts: POST /v1/uploads" if path.rstrip("/") in IN_PARTS else ""
    detail = f"The limit for this path is {limit} bytes: send less{instead}"
    return Problem(413, "The body is too large", detail, **openai_errors.extensions(path, detail, "body_too_large"))
