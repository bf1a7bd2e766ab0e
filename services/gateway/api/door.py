"""The limits of the API itself: before anything of a request is looked at, so that to refuse one costs next to nothing.

Of whoever asks, by what they show (a key, a session's cookie, else their address), and of all together. Requests to
inference and event streams are not counted here: `chat.py` and the feeds have limits of their own for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256

from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.admission import Admission, Limits, Refusal
from services.gateway.api import openai_errors, ratelimits
from sskai.http import BUSY, Problem, problem_response

API = "/v1/"
ELSEWHERE = ("/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/images/", "/v1/events")
FOLLOWED = "/logs"  # streams as well

REFUSED = Counter("sskai_gateway_refused_at_the_door", "Requests to the API over its limits", ["code"])


class Door:
    """Lets in what `limits` allows; else 429 for one who asks too often, 503 when all are too many, and Retry-After."""

    def __init__(self, app: ASGIApp, limits: Callable[[], Limits]) -> None:
        self._app = app
        self._limits = limits
        self._admission = Admission()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_counted(scope["path"]):
            await self._app(scope, receive, send)
            return
        who, limits, now = _who(scope), self._limits(), asyncio.get_running_loop().time()
        refused = self._admission.enter(who, limits, now)
        if refused is not None:
            REFUSED.labels(code=refused.code).inc()
            rate = ratelimits.of_requests(limits, self._admission.left(who, limits, now))
            await problem_response(_problem(scope["path"], refused, rate))(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._admission.leave(who)


def _is_counted(path: str) -> bool:
    return path.startswith(API) and not path.startswith(ELSEWHERE) and not path.endswith(FOLLOWED)


def _who(scope: Scope) -> str:
    shown = {name: value for name, value in scope["headers"] if name in (b"authorization", b"cookie")}
    if said := shown.get(b"authorization") or shown.get(b"cookie"):
        return sha256(said).hexdigest()  # what lies in memory for long is no secret
    return str((scope.get("client") or ("",))[0])


def _problem(path: str, refused: Refusal, rate: dict[str, str]) -> Problem:
    headers = {"Retry-After": str(refused.retry_after_seconds), **rate}
    detail = f"{refused.message}: wait for the seconds in Retry-After"
    title, status = (BUSY, 503) if refused.shed else ("Too many requests", 429)
    return openai_errors.shaped(path, Problem(status, title, detail, headers=headers, code=refused.code))
