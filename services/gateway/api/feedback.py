"""`/v1/feedback`: what a user thought of an answer. Inference knows which version gave it."""

from __future__ import annotations

from typing import Annotated, Any

import httpx2
from fastapi import APIRouter
from pydantic import Field

from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, World
from services.gateway.jobfile import Form
from services.gateway.keys import Principal
from sskai.http import Problem

router = APIRouter(prefix="/v1/feedback", tags=["inference"])

INFERENCE_SECONDS = 5.0


class FeedbackForm(Form):
    id: Annotated[str, Field(min_length=1, max_length=120)]  # of the answer: chatcmpl_..., cmpl_...
    score: Annotated[float, Field(ge=0, le=1)] | None = None  # 1 is best
    label: Annotated[str, Field(max_length=100)] | None = None  # "up" and "down" count as 1 and 0
    correction: Annotated[str, Field(max_length=2_000)] | None = None  # what it should have said


@router.post("", status_code=200)
async def give_feedback(form: FeedbackForm, here: Here, caller: Caller) -> dict[str, Any]:
    """Praise or blame an answer, for the version that gave it. The newest word on an answer counts."""
    answer = await ask(here, caller, "POST", "/v1/feedback", form.model_dump(exclude_none=True))
    if answer.status_code != 200:
        error = answer.json().get("error", {})
        status = answer.status_code if answer.status_code in (400, 404) else 502
        raise Problem(status, "The feedback was not taken", str(error.get("message", "Try again")))
    return dict(answer.json())


async def ask(here: World, caller: Principal, method: str, path: str, body: Any = None) -> httpx2.Response:
    """Inference's answer to a short question. Raises Problem: it is away."""
    headers = here.internal_headers(caller.tenant_id)
    failure: httpx2.HTTPError | None = None
    for url in here.inference_urls():
        try:
            return await here.http.request(method, url + path, json=body, headers=headers, timeout=INFERENCE_SECONDS)
        except httpx2.HTTPError as error:
            failure = error
    raise Problem(503, "Inference is away", "Try again in a few seconds", headers={"Retry-After": "2"}) from failure
