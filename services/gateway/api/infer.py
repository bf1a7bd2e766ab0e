"""`/v2/models/NAME`: classifiers of texts and pictures and models as code, by the Open Inference Protocol; passed on to
inference as `chat.py` passes on."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from services.gateway.api.auth import Caller
from services.gateway.api.chat import pass_on
from services.gateway.api.world import Here

router = APIRouter(prefix="/v2/models", tags=["inference"])
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "required": ["inputs"]}}},
    }
}


@router.post("/{name}/infer", openapi_extra=_BODY)
async def infer(name: str, request: Request, here: Here, caller: Caller) -> Response:
    """The labels and probabilities of texts or pictures, or what a model as code makes of tensors; `name` is the
    endpoint's."""
    return await pass_on(request, here, caller, f"/v2/models/{quote(name, safe='')}/infer")


@router.get("/{name}")
async def metadata(name: str, request: Request, here: Here, caller: Caller) -> Response:
    """What the model takes and gives; of a classifier, its labels too."""
    return await pass_on(request, here, caller, f"/v2/models/{quote(name, safe='')}")


@router.get("/{name}/ready")
async def ready(name: str, request: Request, here: Here, caller: Caller) -> Response:
    """Whether it can be asked."""
    return await pass_on(request, here, caller, f"/v2/models/{quote(name, safe='')}/ready")
