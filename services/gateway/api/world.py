"""What every route can reach, and the parameters that many of them share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast

import httpx2
from fastapi import Depends, Header, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, StringConstraints

from services.gateway.admission import Admission, Limits, Targets
from services.gateway.answers import Answer, KeyReusedError
from services.gateway.attempts import Attempts
from services.gateway.catalogue import Catalogue
from services.gateway.feeds import Feeds
from services.gateway.hub import Hub
from services.gateway.jobfile import JobFileError
from services.gateway.keys import KnownKeys
from services.gateway.oidc import Provider
from services.gateway.onward import Onward
from services.gateway.paging import Paging
from services.gateway.settings import Settings
from sskai.database import Database
from sskai.http import Problem
from sskai.objects import Objects

MAX_PAGE = 100
_PROBLEM = {
    "application/problem+json": {
        "schema": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
            },
        }
    }
}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "Refused: the document says what is wrong and what to do (RFC 9457)",
        "content": _PROBLEM,
    },
    "503": {"description": "A part is away or busy: `Retry-After` says when to ask again", "content": _PROBLEM},
}


@dataclass
class World:
    """The parts around the API. `http` is there while the application runs."""

    database: Database
    objects: Objects
    settings: Settings
    catalogue: Catalogue
    hub: Hub
    http: httpx2.AsyncClient
    onward: Onward = field(default_factory=Onward)
    admission: Admission = field(default_factory=Admission)
    targets: Targets = field(default_factory=Targets)
    known_keys: KnownKeys = field(default_factory=KnownKeys)
    attempts: Attempts = field(default_factory=Attempts)
    provider: Provider | None = None  # None: nobody signs in but with a key
    waiting_for_inference: int = 0
    feeds: Feeds = field(init=False)

    def __post_init__(self) -> None:
        self.feeds = Feeds(self.database, self.hub)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def public_url(self, request: Request) -> str:
        """Where a browser finds us, without a slash at its end."""
        return (self.settings.public_url or str(request.base_url)).rstrip("/")

    def api_limits(self) -> Limits:
        """Of all else; half of what may be under way may be one caller's."""
        settings = self.settings
        most = settings.max_api_requests_under_way
        return Limits(settings.api_requests_per_second, settings.api_request_burst, max(1, most // 2), most)

    def request_limits(self) -> Limits:
        """Of what is passed on to inference."""
        settings = self.settings
        return Limits(
            settings.requests_per_second_per_key,
            settings.request_burst_per_key,
            settings.max_concurrent_requests_per_key,
            settings.max_concurrent_requests,
        )

    def inference_urls(self) -> list[str]:
        """One or several, with commas between them."""
        return [url.strip().rstrip("/") for url in self.settings.inference_url.split(",") if url.strip()]

    def internal_headers(self, tenant_id: str) -> dict[str, str]:
        """By these the other services know that the gateway asks, and for whom."""
        return {
            "X-SSKAI-Tenant": tenant_id,
            "X-SSKAI-Internal": self.settings.internal_token.get_secret_value(),
        }


async def _world(request: Request) -> World:  # async: a plain function would go through a thread, for each request
    return cast(World, request.app.state.world)


Here = Annotated[World, Depends(_world)]

ID_PATTERN = r"^[A-Za-z0-9._@-]{1,120}$"


def _possible_id(text: str) -> str:
    if not re.fullmatch(ID_PATTERN, text):
        raise Problem(404, "Not found", "Nothing can have this id")
    return text


# What cannot be an id is not found, as any other id that nothing has.
Id = Annotated[str, Path(), AfterValidator(_possible_id)]
After = Annotated[str | None, Query(pattern=ID_PATTERN, description="The last id of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


def _written_out(value: Any) -> Any:
    """A number is no time: pydantic would take it for seconds since 1970."""
    if not (isinstance(value, str) and re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", value)):
        raise ValueError("write a time with its offset, such as 2026-12-01T09:00:00Z")
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_written_out)]


async def _paging(
    after: After = None,
    limit: Limit = 20,
    order: Annotated[Literal["desc", "asc"], Query(description="Newest first, or oldest first")] = "desc",
    created_after: Annotated[Time | None, Query(description="A time with its offset")] = None,
    created_before: Annotated[Time | None, Query(description="A time with its offset")] = None,
) -> Paging:
    return Paging(limit, after, order == "asc", created_after, created_before)


Paged = Annotated[Paging, Depends(_paging)]
IdempotencyKey = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")] | None,
    Header(alias="Idempotency-Key", description="Sent again, the request changes nothing twice (kept for two days)"),
]


def page(items: list[dict[str, Any]], limit: int, *, cursor: str = "id") -> dict[str, Any]:
    """A page, newest first; `items` holds one more than `limit` if there are more."""
    more = len(items) > limit
    shown = items[:limit]
    return {
        "object": "list",
        "data": shown,
        "has_more": more,
        "next": shown[-1][cursor] if more else None,
    }


def not_found(kind: str, id_: str) -> Problem:
    """The same for what does not exist and for what is somebody else's."""
    return Problem(404, f"No such {kind}", f"{kind} {id_[:120]!r} does not exist")


def unprocessable(title: str, error: JobFileError) -> Problem:
    return Problem(422, title, str(error), field=error.field)


def key_reused(error: KeyReusedError) -> Problem:
    detail = f"Idempotency-Key {error} was used for another request: take a new key for a new request"
    return Problem(422, "The idempotency key was used before", detail)


def respond(answer: Answer) -> JSONResponse:
    headers = {"Idempotency-Replayed": "true"} if answer.replayed else None
    return JSONResponse(answer.body, status_code=answer.status, headers=headers)
