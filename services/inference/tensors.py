"""Models that are not language models, by the Open Inference Protocol: classifiers of texts and of pictures, which the
engine computes, and users' own models as code, which run in processes of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from services.inference import v2, v2_data
from services.inference.answering import CLIENT_CLOSED_REQUEST, Desk, find, loaded
from services.inference.domain import Endpoint
from services.inference.engine import PromptError
from services.inference.observation import Observation
from services.inference.openai import Refusal
from services.inference.pictures import PictureError
from services.inference.signatures import Signature
from services.inference.v2 import Asked, Classes, Output
from services.inference.vectors import observed, while_listening
from sskai.contract import new_id


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint that is loaded, and what it is."""

    endpoint: Endpoint
    kind: Classes | Signature

    @property
    def model(self) -> v2.Model:
        return v2.Model(self.endpoint.name, self.endpoint.version)


async def infer(desk: Desk, request: Request, name: str, asked: Asked, tenant_id: str) -> Response:
    """The model's outputs. Raises Refusal."""
    seen = observed(desk, request, "infer", name, tenant_id)

    async def once() -> bytes:
        found = await _find(desk, name, tenant_id, seen)
        seen.begin(found.endpoint, "", 0)
        try:
            outputs = await _outputs(desk, found, asked)
        except PictureError as error:
            where = f"inputs.0.data.{error.place}"
            raise Refusal(400, f"{where}: {error}", param=where) from error
        except PromptError as error:
            raise Refusal(400, f"inputs: {error}", param="inputs", code="model_refused") from error
        return await asyncio.to_thread(_body, asked, found, outputs)

    body = await while_listening(request, seen, loaded(name, once))
    if body is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(body, media_type="application/json")


async def described(desk: Desk, name: str, tenant_id: str) -> dict[str, Any]:
    """The model's metadata; loads the endpoint if it sleeps. Raises Refusal."""

    async def once() -> dict[str, Any]:
        found = await _find(desk, name, tenant_id, None)
        return v2.described(found.model, found.kind)

    return await loaded(name, once)


async def _find(desk: Desk, name: str, tenant_id: str, seen: Observation | None) -> Found:
    endpoint = await find(desk, tenant_id, name, seen)
    signature = desk.fleet.signature(endpoint)
    if signature is not None:
        return Found(endpoint, signature)
    target = desk.fleet.target(endpoint)

    def classes() -> Classes:
        return Classes(target.engine.labels(target.base), target.engine.picture_shape(target.base))

    found = await asyncio.to_thread(classes)
    if not found.labels:
        message = f"The model {name!r} is a language model: use /v1/chat/completions."
        raise Refusal(400, message, param="model", code="not_a_classifier")
    return Found(endpoint, found)


async def _outputs(desk: Desk, found: Found, asked: Asked) -> list[Output]:
    """Raises Refusal, PromptError and what else an engine raises."""
    kind = found.kind
    if isinstance(kind, Signature):
        v2.check_wanted(asked.request, [one.name for one in kind.outputs])
        inputs = await asyncio.to_thread(v2_data.tensors, asked, kind)
        return v2.told(await desk.fleet.infer(found.endpoint, inputs))
    v2.check_wanted(asked.request, v2.CLASS_NAMES)
    return v2.classified(kind, await asyncio.to_thread(_classify(desk, found.endpoint, kind, asked)))


def _classify(desk: Desk, endpoint: Endpoint, kind: Classes, asked: Asked) -> Callable[[], list[list[float]]]:
    target = desk.fleet.target(endpoint)
    if kind.picture is None:
        texts = v2_data.texts(asked)
        return lambda: target.engine.classify(target.base, texts)
    shape = kind.picture
    return lambda: target.engine.classify_pictures(target.base, v2_data.pictures(asked, shape))


def _body(asked: Asked, found: Found, outputs: list[Output]) -> bytes:
    document = v2.answer(asked.request, found.model, outputs, new_id("infer"))
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
