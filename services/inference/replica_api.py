"""Where replicas tell of themselves: `POST /internal/replicas/ID`, with the replica's own token."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.inference.replicas import Heard, Replicas, Report, url_problem

MAX_BODY_BYTES = 64 * 1024
Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class ReportForm(BaseModel):
    """Unknown fields are those of a newer replica."""

    model_config = ConfigDict(extra="ignore")

    state: Literal["ready", "draining", "failed"]
    url: str = Field(default="", max_length=300)
    load_seconds: Figure = 0.0
    active: Count = 0
    waiting: Count = 0
    tokens_per_second: Figure = 0.0
    reason: str = Field(default="", max_length=100)
    detail: str = Field(default="", max_length=10_000)


# A replica that gets one of these knows that nobody wants it.
_REFUSED = {
    Heard.UNKNOWN: (404, "there is no replica of this id"),
    Heard.FORBIDDEN: (401, "Authorization: Bearer and the replica's own token"),
    Heard.ENDED: (410, "this replica has ended; leave"),
}


def routes(replicas: Replicas) -> APIRouter:
    router = APIRouter()

    @router.post("/internal/replicas/{replica_id}")
    async def report(replica_id: str, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _refusal(413, f"a report has at most {MAX_BODY_BYTES} bytes")
        try:
            told = ReportForm.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            return _refusal(422, f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}")
        if told.state == "ready" and (problem := url_problem(told.url)):
            return _refusal(422, f"url {problem}")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        heard = await replicas.hear(
            replica_id, token if scheme.lower() == "bearer" else "", Report(**told.model_dump())
        )
        return _refusal(*_REFUSED[heard]) if heard in _REFUSED else Response(status_code=204)

    return router


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)


async def _body(request: Request) -> bytes | None:
    """None: it is too long."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            return None
    return bytes(data)
