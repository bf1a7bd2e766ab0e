"""`/openapi.json` completed: what each route answers, which other answers there are, and OpenAI's shape of errors."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.api import shapes as its
from services.gateway.api import shapes_of_jobs as jobs
from services.gateway.api.openai_errors import PATHS

Document: TypeAlias = dict[str, Any]

ANSWERS: dict[tuple[str, str], type[BaseModel]] = {
    ("post", "/v1/datasets"): its.Dataset,
    ("get", "/v1/datasets"): its.Page[its.Dataset],
    ("get", "/v1/datasets/{dataset_id}"): its.Dataset,
    ("get", "/v1/datasets/{dataset_id}/preview"): its.DatasetPreview,
    ("post", "/v1/datasets/{dataset_id}/cut"): its.DatasetCut,
    ("get", "/v1/models"): its.Whole[its.Model],
    ("post", "/v1/models"): its.Model,
    ("get", "/v1/models/{model_id}"): its.Model,
    ("get", "/v1/models/{name}/aliases"): its.Whole[its.Alias],
    ("put", "/v1/models/{name}/aliases/{alias}"): its.Alias,
    ("post", "/v1/jobs"): jobs.Job,
    ("get", "/v1/jobs"): its.Page[jobs.JobSummary],
    ("get", "/v1/jobs/{job_id}"): jobs.Job,
    ("post", "/v1/jobs/{job_id}/cancel"): jobs.Job,
    ("get", "/v1/jobs/{job_id}/timeline"): jobs.Timeline,
    ("get", "/v1/jobs/{job_id}/trace"): its.Trace,
    ("post", "/v1/plans"): jobs.Plan,
    ("get", "/v1/plans"): its.Page[jobs.Plan],
    ("get", "/v1/plans/{plan_id}"): jobs.Plan,
    ("post", "/v1/plans/{plan_id}/replay"): jobs.Replay,
    ("get", "/v1/plans/{plan_id}/replays/{replay_id}"): jobs.Replay,
    ("post", "/v1/endpoints"): its.Endpoint,
    ("get", "/v1/endpoints"): its.Page[its.Endpoint],
    ("get", "/v1/endpoints/{endpoint_id}"): its.EndpointWithTraffic,
    ("patch", "/v1/endpoints/{endpoint_id}"): its.Endpoint,
    ("delete", "/v1/endpoints/{endpoint_id}"): its.Endpoint,
    ("put", "/v1/endpoints/{endpoint}/objectives"): its.Whole[its.Promise],
    ("get", "/v1/endpoints/{endpoint}/objectives"): its.Whole[its.Objective],
    ("delete", "/v1/endpoints/{endpoint}/objectives"): its.Whole[its.Promise],
    ("put", "/v1/endpoints/{endpoint}/retraining"): its.Retraining,
    ("get", "/v1/endpoints/{endpoint}/retraining"): its.Retraining,
    ("delete", "/v1/endpoints/{endpoint}/retraining"): its.Retraining,
    ("post", "/v1/endpoints/{endpoint}/retraining/{retrain_id}/approve"): its.Decided,
    ("post", "/v1/endpoints/{endpoint}/retraining/{retrain_id}/decline"): its.Decided,
    ("get", "/v1/endpoints/{endpoint_id}/drift"): its.Drift,
    ("get", "/v1/endpoints/{endpoint_id}/playground"): its.Playground,
    ("get", "/v1/receipts"): its.Page[jobs.Receipt],
    ("get", "/v1/receipts/{job_id}"): jobs.Receipt,
    ("get", "/v1/receipts/endpoints/{endpoint_id}"): its.EndpointReceipt,
    ("get", "/v1/traces/{trace_id}"): its.Trace,
    ("get", "/v1/figures"): its.Figures,
    ("post", "/v1/feedback"): its.Feedback,
    ("post", "/v1/keys"): its.NewKey,
    ("get", "/v1/keys"): its.Page[its.Key],
    ("get", "/v1/costs"): its.Costs,
    ("get", "/v1/budgets"): its.Page[its.Budget],
    ("put", "/v1/budgets"): its.Budget,
    ("get", "/v1/budgets/{budget_id}"): its.Budget,
    ("get", "/v1/webhooks"): its.Page[its.Webhook],
    ("post", "/v1/webhooks"): its.NewWebhook,
    ("get", "/v1/webhooks/{webhook_id}"): its.WebhookWithDeliveries,
    ("post", "/v1/webhooks/{webhook_id}/test"): its.Sent,
}
# Beside the first one: what was there already, or is still being worked on.
ALSO = {
    ("post", "/v1/datasets"): ("200", "This content is a version of the name already"),
    ("post", "/v1/datasets/{dataset_id}/cut"): ("200", "A dry run, or this content is a version already"),
    ("post", "/v1/models"): ("200", "This code is a version of the name already"),
    ("post", "/v1/plans"): ("202", "It is still being planned: ask for it by its id"),
    ("post", "/v1/plans/{plan_id}/replay"): ("202", "It is still being decided again: ask for it by its id"),
}
FILES = {("get", "/v1/costs/export"): ("text/csv", "application/vnd.apache.parquet")}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def complete(document: Document) -> Document:
    """The same document, with what the routes themselves do not say."""
    shapes = [(shape, "validation") for shape in dict.fromkeys(ANSWERS.values())]
    names, schemas = models_json_schema(shapes, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    kept = document.setdefault("components", {}).setdefault("schemas", {})
    for name, schema in schemas.get("$defs", {}).items():
        kept.setdefault(name, schema)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            shape = ANSWERS.get((method, path))
            schema = names[shape, "validation"] if shape is not None else None
            _answers(operation["responses"], schema, method, path)
            if path in PATHS or path.startswith("/v2/"):
                _as_openai_does(operation["responses"])
    return document


def _answers(responses: Document, schema: Document | None, method: str, path: str) -> None:
    first = next((status for status in responses if status.startswith("2")), None)
    if first is None:
        return
    if schema is not None:
        responses[first]["content"] = {"application/json": {"schema": schema}}
    if media := FILES.get((method, path)):
        responses[first]["content"] = {name: {"schema": {"type": "string", "format": "binary"}} for name in media}
    if also := ALSO.get((method, path)):
        status, description = also
        responses[status] = {**responses[first], "description": description}


def _as_openai_does(responses: Document) -> None:
    """What models answer is theirs: JSON, or events where a stream was asked for."""
    first = next(status for status in responses if status.startswith("2"))
    stream = {"schema": {"type": "string"}}
    responses[first]["content"] = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": stream}
    for status in [status for status in responses if status[0] in "45"]:
        content = {**responses[status]["content"], "application/json": {"schema": _ERROR}}
        responses[status] = {**responses[status], "content": content}
