"""Errors on OpenAI's routes, for what refuses a request before its route is reached."""

from __future__ import annotations

from typing import Any

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/images/generations")


def extensions(path: str, message: str, code: str) -> dict[str, Any]:
    """What a problem document on this path needs besides, so that OpenAI's clients can read it."""
    if path.rstrip("/") not in PATHS:
        return {}
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
