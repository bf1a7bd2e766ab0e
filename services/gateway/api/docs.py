"""`/asyncapi.yaml`: the events' contract beside the API's `/openapi.json`; `/docs`: that one for people."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from sskai import asyncapi

router = APIRouter(tags=["documents"])

# Swagger UI without a line of script in the page itself: the content policy allows files of ours alone.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SSKAI: the API</title>
<link rel="icon" href="/docs/assets/favicon.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"""
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
    "start.js": "text/javascript",
}


@router.get("/asyncapi.yaml", response_class=Response)
async def get_asyncapi() -> Response:
    """AsyncAPI 3.0: every topic and event, with its JSON Schema."""
    return Response(_document(), media_type="application/yaml")


@router.get("/docs", include_in_schema=False)
async def get_page() -> Response:
    """Swagger UI on `/openapi.json`."""
    return HTMLResponse(_PAGE)


@router.get("/docs/assets/{name}", include_in_schema=False)
async def get_asset(name: Literal["swagger-ui-bundle.js", "swagger-ui.css", "favicon.png", "start.js"]) -> Response:
    """A file of Swagger UI's, or the lines that start it."""
    return Response(_asset(name), media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=3600"})


@cache
def _document() -> str:
    return asyncapi.to_yaml(asyncapi.document())


@cache
def _asset(name: str) -> bytes:
    return _START.encode() if name == "start.js" else (files("fastapi_offline") / "static" / name).read_bytes()
