"""Errors on OpenAI's routes: problem documents that hold, besides, what OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from sskai import http
from sskai.http import Problem

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/images/generations", "/v1/models")
# All of these are OpenAI's, and what is below them. What a request says wrongly is 400 there, as OpenAI has it.
ROOTS = ("/v1/files", "/v1/uploads", "/v1/fine_tuning")
_CODES = {http.BUSY: "overloaded", http.AWAY: "unavailable"}
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def extensions(path: str, message: str, code: str) -> dict[str, Any]:
    """What a problem document on this path needs besides, so that OpenAI's clients can read it."""
    return {"error": _error(message, "invalid_request_error", None, code)} if _is_openais(path) else {}


def shaped(path: str, problem: Problem) -> Problem:
    """The problem as it is told on this path."""
    if not _is_openais(path) or "error" in problem.extensions:
        return problem
    status = 400 if problem.status == 422 and _is_below(path, ROOTS) else problem.status
    first: dict[str, Any] = next(iter(problem.extensions.get("errors") or []), {})
    named = problem.extensions.get("field") or first.get("field") or problem.extensions.get("column") or None
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    code = _CODES.get(problem.title) or problem.title.lower().replace(" ", "_")
    error = _error(problem.detail or problem.title, kind, named, code)
    error |= {name: problem.extensions[name] for name in ("row", "column", "reason") if name in problem.extensions}
    return Problem(
        status, problem.title, problem.detail, headers=problem.headers, **{**problem.extensions, "error": error}
    )


def _error(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": param, "code": code}


def _is_openais(path: str) -> bool:
    return path.rstrip("/") in PATHS or _is_below(path, (*ROOTS, "/v1/models"))


def _is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)
