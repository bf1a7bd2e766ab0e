"""`/asyncapi.yaml`: the events' contract beside the API's `/openapi.json`."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Response

from sskai import asyncapi

router = APIRouter(tags=["documents"])


@router.get("/asyncapi.yaml", response_class=Response)
async def get_asyncapi() -> Response:
    """AsyncAPI 3.0: every topic and event, with its JSON Schema."""
    return Response(_document(), media_type="application/yaml")


@cache
def _document() -> str:
    return asyncapi.to_yaml(asyncapi.document())
