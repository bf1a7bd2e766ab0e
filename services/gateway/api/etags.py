"""ETags of single documents: what is known already is not sent again, and nobody overwrites what they have not seen.

A tag has two halves: of what can be changed by hand, and of all that is shown. `If-Match` asks about the first half
alone, so that a figure that moves by itself refuses no change.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from fastapi.responses import JSONResponse

from sskai.http import Problem


async def _if_none_match(
    value: Annotated[
        str | None, Header(alias="If-None-Match", description="The ETag that is known: 304 if it is still so")
    ] = None,
) -> list[str]:
    return _tags(value)


async def _if_match(
    value: Annotated[
        str | None, Header(alias="If-Match", description="Only if the document is still so: its ETag; 412 if not")
    ] = None,
) -> list[str]:
    return _tags(value)


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what you have"}}
Conditions = Annotated[list[str], Depends(_if_none_match)]
IfMatch = Annotated[list[str], Depends(_if_match)]


def tagged(document: dict[str, Any], known: list[str], *, state: dict[str, Any] | None = None) -> Response:
    """The document, or 304 if the client has it. `state`: what of it can be changed by hand; absent: all of it."""
    tag = etag(document, state=state)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if "*" in known or tag in known:
        return Response(status_code=304, headers=headers)
    return JSONResponse(document, headers=headers)


def require_match(wanted: list[str], state: dict[str, Any] | None) -> None:
    """Raises Problem if there is nothing (`state` None), or something else than the client has seen."""
    if not wanted or ("*" in wanted and state is not None):
        return
    if state is None or _digest(state) not in {tag.strip('"').partition("-")[0] for tag in wanted}:
        detail = "It is not what If-Match names any more: read it again, and change that"
        raise Problem(412, "It was changed meanwhile", detail)


def etag(document: dict[str, Any], *, state: dict[str, Any] | None = None) -> str:
    whole = _digest(document)
    return f'"{whole if state is None else _digest(state)}-{whole}"'


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()[:20]


def _tags(value: str | None) -> list[str]:
    """A proxy that compresses makes a tag weak; it is the same document."""
    return [tag.strip().removeprefix("W/") for tag in value.split(",")] if value else []
