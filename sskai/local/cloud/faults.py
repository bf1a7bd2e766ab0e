"""An API that misbehaves when told to, for tests of those who speak to it. Nothing of it outlives the process."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

# Not asked for their manners: the tests' own way in, and whether the process lives.
EXEMPT = ("/faults", "/healthz")

Fault = Literal["hang", "ok"] | Annotated[int, Field(ge=400, le=599)]


class FaultsRequest(BaseModel):
    """What the next calls get instead of an answer.

    `answers`: one per call, an HTTP status, "hang" (nothing for `hang_seconds`, then 504) or "ok"; the call does
    nothing. Only calls of `method` count, if it is named. `lost_launches`: so many launches are done and answered 500;
    `failed_terminates`: so many terminations are answered 500 and not done.
    """

    model_config = ConfigDict(extra="forbid")

    answers: list[Fault] = Field(default_factory=list, max_length=1000)
    method: Literal["GET", "POST", "PUT", "DELETE"] | None = None
    hang_seconds: float = Field(default=30, gt=0, le=600)
    lost_launches: int = Field(default=0, ge=0, le=1000)
    failed_terminates: int = Field(default=0, ge=0, le=1000)


class Faults:
    """What is still to go wrong."""

    def __init__(self) -> None:
        self.tell(FaultsRequest())

    def tell(self, request: FaultsRequest) -> None:
        """From now on this, and no more what was told before."""
        self._request = request
        self._answers = deque(request.answers)
        self._lost_launches = request.lost_launches
        self._failed_terminates = request.failed_terminates

    def left(self) -> FaultsRequest:
        """What did not happen yet."""
        return self._request.model_copy(
            update={
                "answers": list(self._answers),
                "lost_launches": self._lost_launches,
                "failed_terminates": self._failed_terminates,
            }
        )

    async def answer(self, request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        """The call's answer, or what it gets in its place."""
        method, path = request.method, request.url.path
        if path in EXEMPT:
            return await go_on(request)
        if self._answers and self._request.method in (None, method):
            fault = self._answers.popleft()
            if fault == "hang":
                await asyncio.sleep(self._request.hang_seconds)
            if fault != "ok":
                return _error(504 if fault == "hang" else int(fault))
        if method == "DELETE" and re.fullmatch(r"/machines/[^/]+", path) and self._failed_terminates:
            self._failed_terminates -= 1
            return _error(500)
        answer = await go_on(request)
        if (method, path, answer.status_code) == ("POST", "/machines", 201) and self._lost_launches:
            self._lost_launches -= 1
            return _error(500)
        return answer


def _error(status: int) -> JSONResponse:
    return JSONResponse({"error": "fault", "detail": "told to fail by PUT /faults"}, status)
