"""What the client raises: the gateway's problem documents, and silence."""

from __future__ import annotations

from typing import Any

import httpx2

UNAUTHORISED = 401


class SskaiError(Exception):
    """The gateway refused. `problem` is its RFC 9457 document: title, detail, and what it says beyond."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(f"{problem.get('title', 'error')}: {problem.get('detail', '')}")
        self.problem = problem
        self.status = int(problem.get("status", 0))


class UnreachableError(SskaiError):
    """Nothing answered for as long as it was tried."""

    def __init__(self, reason: str) -> None:
        super().__init__({"title": "The gateway is not reachable", "detail": reason, "status": 0})


def problem_of(answer: httpx2.Response) -> dict[str, Any]:
    """The problem document of an answer that has been read; routes that models answer have OpenAI's shape instead."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict):
        if "title" in document:
            return {"status": answer.status_code, **document}
        error = document.get("error")
        if isinstance(error, dict) and "message" in error:
            return {"title": "Refused", "detail": str(error["message"]), "status": answer.status_code, "error": error}
    return {"title": f"HTTP {answer.status_code}", "detail": answer.text[:500], "status": answer.status_code}


def refused(title: str, detail: str, **facts: Any) -> SskaiError:
    """What the gateway would have said, had the answer come while it waited."""
    return SskaiError({"title": title, "detail": detail, "status": 422, **facts})
