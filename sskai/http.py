"""HTTP as all services speak it: spans of requests, and errors as RFC 9457 problem documents.

Those say what is wrong, where, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"
PROBES = r"/healthz|/readyz|/metrics"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def spans_of_requests(but: str = "") -> TelemetryConfig:
    """For `FastAPI(telemetry=...)`: one span for each request, and none for what its parts do.

    `but`: a pattern of paths that get none, beside the probes.
    """
    silent = re.compile(f"{PROBES}|{but}" if but else PROBES)

    def exclude(scope: MutableMapping[str, Any]) -> bool:
        return silent.fullmatch(scope["path"]) is not None

    return TelemetryConfig(exclude=exclude, operation_spans=False, metrics=False, logs=False)


class Problem(Exception):  # noqa: N818 (it is what RFC 9457 calls it)
    """Refuse a request: `raise Problem(422, "Unknown model", "model.base 'x' is ...", field="model.base")`."""

    def __init__(
        self, status: int, title: str, detail: str = "", *, headers: dict[str, str] | None = None, **extensions: Any
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.extensions = extensions

    def body(self) -> dict[str, Any]:
        return {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extensions,
        }


def problem_response(problem: Problem) -> JSONResponse:
    return JSONResponse(
        problem.body(), status_code=problem.status, media_type=PROBLEM_JSON, headers=problem.headers or None
    )


BUSY, AWAY = "Too busy", "A part is away"


def install_problem_handlers(app: FastAPI, shaped: Callable[[str, Problem], Problem] | None = None) -> None:
    """Make every error of `app` a problem document; a bug answers 500 without its stack, which goes to the log, and a
    part that is away, or a database that is busy, 503.

    `shaped`: what a problem is told as on a path.
    """

    def told(request: Request, problem: Problem) -> JSONResponse:
        return problem_response(shaped(request.url.path, problem) if shaped is not None else problem)

    @app.exception_handler(Problem)
    async def refused(request: Request, problem: Problem) -> JSONResponse:
        return told(request, problem)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"field": _field(item["loc"], error.body), "message": item["msg"].removeprefix("Value error, ")}
            for item in error.errors()[:20]
        ]
        first = errors[0] if errors else {"field": "", "message": "the request is not valid"}
        detail = f"{first['field']}: {first['message']}" if first["field"] else first["message"]
        return told(request, Problem(422, "The request is not valid", detail, errors=errors))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        title = HTTPStatus(error.status_code).phrase
        headers = dict(error.headers) if error.headers else None
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(_allowed(request))}
        return told(request, Problem(error.status_code, title, str(error.detail), headers=headers))

    @app.exception_handler(PoolTimeoutError)
    async def busy(request: Request, _error: PoolTimeoutError) -> JSONResponse:
        """Every connection to the database was taken for too long."""
        detail = "Too many requests wait for the database: try again in a few seconds"
        return told(request, Problem(503, BUSY, detail, headers={"Retry-After": "5"}))

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(ConnectionError)
    async def away(request: Request, error: Exception) -> JSONResponse:
        """No bug of ours, and nothing was done: whoever asks again may be lucky."""
        log.warning("a part is away", path=request.url.path, error=repr(error)[:500])
        detail = "The database, or another part that this needs, does not answer: try again in a few seconds"
        return told(request, Problem(503, AWAY, detail, headers={"Retry-After": "5"}))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", path=request.url.path, exc_info=error)
        return told(
            request, Problem(500, "Internal error", "The error was logged. Try again; if it stays, ask your operator.")
        )


def _allowed(request: Request) -> list[str]:
    """The methods of all routes of a path: the router tells those of the first one alone."""
    routes, scope = request.app.router.routes, dict(request.scope)
    return [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def _field(location: Sequence[str | int], body: Any) -> str:
    """Where in a request an error is, in the sender's words: pydantic names the branches of its unions, too."""
    if location[:1] != ("body",):
        return ".".join(map(str, location))
    parts: list[str] = []
    for number, part in enumerate(location[1:], start=2):
        if isinstance(body, Mapping) and (part in body or number == len(location)):
            body = body.get(part)  # absent only at the end: the field is missing
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            body = body[part]
        else:
            continue
        parts.append(str(part))
    return ".".join(parts)
