"""`/v1/costs`: what was spent, in groups of days, kinds, jobs, endpoints and projects; and every row, as FOCUS 1.2."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BeforeValidator

from services.gateway.api import monitor
from services.gateway.api.auth import Caller
from services.gateway.api.world import ID_PATTERN, Here
from services.gateway.plain import in_utc, iso

router = APIRouter(prefix="/v1/costs", tags=["costs"])


def _written(text: Any) -> Any:
    """A number would be read as seconds since 1970, which nobody means who writes 2026."""
    if isinstance(text, str) and re.fullmatch(r"[-+]?[\d.]*(?:e[-+]?\d+)?", text, re.IGNORECASE):
        raise ValueError("write a time as RFC 3339: 2026-11-29T12:00:00Z")
    return text


def _utc(at: datetime | None) -> datetime | None:
    return in_utc(at if at.tzinfo is not None else at.replace(tzinfo=UTC)) if at is not None else None


At = Annotated[
    datetime | None,
    BeforeValidator(_written),
    AfterValidator(_utc),
    Query(description="RFC 3339; UTC where no zone is given"),
]
Only = Annotated[str | None, Query(pattern=ID_PATTERN)]


@router.get("")
async def get_costs(  # noqa: PLR0917 - filters of one question
    here: Here,
    caller: Caller,
    group_by: Annotated[str, Query(max_length=100, description="day,kind,job,endpoint,project")] = "day",
    since: At = None,
    until: At = None,
    kind: Literal["compute", "storage", "egress"] | None = None,
    job: Only = None,
    endpoint: Only = None,
    project: Only = None,
) -> Response:
    """Spend, the same machine time on demand, and the saving: of each group, in all, and of the month to date.

    By default of this month, by the day. A day is one of UTC, and a row counts in the day in which it begins.
    """
    only = {"kind": kind, "job": job, "endpoint": endpoint, "project": project}
    return await monitor.ask(here, caller, "/v1/costs", {"group_by": group_by, **_span(since, until), **only})


@router.get("/export", response_class=Response)
async def export_costs(
    here: Here,
    caller: Caller,
    format: Literal["csv", "parquet"] = "csv",
    since: At = None,
    until: At = None,
) -> Response:
    """The ledger's rows that begin in a span (by default this month) as FOCUS 1.2: a CSV or Parquet file."""
    return await monitor.stream(here, caller, "/v1/costs/export", {"format": format, **_span(since, until)})


def _span(since: datetime | None, until: datetime | None) -> dict[str, str | None]:
    return {"since": iso(since) if since else None, "until": iso(until) if until else None}
