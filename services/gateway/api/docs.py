"""`/asyncapi.yaml`: the events' contract beside the API's `/openapi.json`; `/docs` shows the latter in a browser.

The page's script and style come from here, so that it works where nothing outside can be reached.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_swagger_ui_html

from services.gateway.api.world import Here
from sskai import asyncapi
from sskai.http import Problem

router = APIRouter(tags=["documents"])

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}


@router.get("/asyncapi.yaml", response_class=Response)
async def get_asyncapi() -> Response:
    """AsyncAPI 3.0: every topic and event, with its JSON Schema."""
    return Response(_document(), media_type="application/yaml")


@router.get("/docs", include_in_schema=False)
async def get_page(here: Here) -> Response:
    """Swagger UI on `/openapi.json`."""
    if not here.settings.docs_page:
        raise Problem(404, "Not found", "This installation shows no page: /openapi.json has all of it")
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="SSKAI: the API",
        swagger_js_url="/docs/assets/swagger-ui-bundle.js",
        swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/docs/assets/favicon.png",
    )


@router.get("/docs/assets/{name}", include_in_schema=False)
async def get_asset(name: Literal["swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"]) -> Response:
    """A file of Swagger UI's."""
    return Response(_asset(name), media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=3600"})


@cache
def _document() -> str:
    return asyncapi.to_yaml(asyncapi.document())


@cache
def _asset(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()
