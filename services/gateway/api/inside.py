"""What is asked, for a tenant, of the services behind the gateway; their refusals are told in their own words."""

from __future__ import annotations

from typing import Any

import httpx2

from services.gateway.api.world import World
from services.gateway.keys import Principal
from sskai.http import PROBLEM_JSON, Problem

ANSWER_SECONDS = 30
REFUSALS = (400, 404, 422, 503)


async def send(
    here: World, caller: Principal, who: str, url: str, params: dict[str, Any], *, stream: bool = False
) -> httpx2.Response:
    """The answer of `who` ("monitor"). None as a parameter: it is not sent. Raises Problem if nothing answers."""
    request = here.http.build_request(
        "GET",
        url,
        params={name: value for name, value in params.items() if value is not None},
        headers=here.internal_headers(caller.tenant_id),
        timeout=ANSWER_SECONDS,
    )
    try:
        return await here.http.send(request, stream=stream)
    except httpx2.HTTPError as error:
        title = f"The {who} is away"
        raise Problem(503, title, "Try again in a few seconds", headers={"Retry-After": "2"}) from error


def refusal(answer: httpx2.Response, who: str) -> Problem:
    """What an answer that is no 200 means for the caller."""
    if answer.status_code in REFUSALS and answer.headers.get("content-type", "").startswith(PROBLEM_JSON):
        body = answer.json()
        more = {name: body[name] for name in ("field", "errors") if body.get(name)}
        return Problem(answer.status_code, str(body.get("title", "")), str(body.get("detail", "")), **more)
    return Problem(502, f"The {who} failed", f"It answered {answer.status_code}: try again")
