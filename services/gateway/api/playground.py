"""`/v1/endpoints/ID/playground`: how to ask an endpoint, what may be turned, what to ask, and code to copy."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from services.gateway import playground
from services.gateway.api import datasets
from services.gateway.api.auth import Caller
from services.gateway.api.world import Here, Id, World, not_found
from services.gateway.keys import Principal
from services.gateway.library import Library
from services.gateway.playground import MAX_EXAMPLES
from services.gateway.store import Store
from services.gateway.values import Dataset, Model
from sskai.objects import ObjectsUnavailableError

router = APIRouter(prefix="/v1/endpoints", tags=["endpoints"])


@router.get("/{endpoint_id}/playground")
async def get_playground(endpoint_id: Id, request: Request, here: Here, caller: Caller) -> dict[str, Any]:
    """The operation and its route, its parameters with their bounds, questions from the training data, snippets."""
    async with here.database.transaction() as session:
        store = Store(session)
        row = await store.endpoint(caller.tenant_id, endpoint_id)
        if row is None:
            raise not_found("endpoint", endpoint_id)
        model, base, dataset = await _behind(store.library, row.model, here, caller)
    task = base.task if base else ""
    context = playground.context_tokens(base.config_json) if base else None
    is_code = base is not None and base.origin == "code"
    way = playground.way_of(task, row.name, is_code=is_code, context_tokens=context)
    asked = await _examples(here, dataset)
    body = playground.body_of(way, row.name, asked[0] if asked else "", task)
    return {
        "object": "endpoint.playground",
        "endpoint_id": row.endpoint_id,
        "name": row.name,
        "model": model.id if model else row.model,
        "state": row.state,
        "task": task or None,
        "context_tokens": context,
        **playground.shown(way),
        "examples": asked,
        "body": body,
        "snippets": playground.snippets(way, str(request.base_url), body),
    }


async def _behind(
    library: Library, reference: str, here: World, caller: Principal
) -> tuple[Model | None, Model | None, Dataset | None]:
    """The model, the one that it was trained from (or itself), and what it was trained on."""
    model = await library.model(caller.tenant_id, reference, here.catalogue)
    if model is None or not model.artifact_uri:
        return model, model, None
    base = await library.model(caller.tenant_id, model.base_model_id, here.catalogue)
    dataset = await library.dataset_at(caller.tenant_id, model.dataset_uri) if model.dataset_uri else None
    return model, base, dataset


async def _examples(here: World, dataset: Dataset | None) -> list[str]:
    if dataset is None:
        return []
    try:
        return playground.examples(await asyncio.to_thread(datasets.head, here, dataset, MAX_EXAMPLES))
    except ObjectsUnavailableError:
        return []  # the rest is worth an answer
