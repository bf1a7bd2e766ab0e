"""`/openapi.json` completed: what each route answers, which other answers there are, and OpenAI's shape of errors."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.api import shapes as its
from services.gateway.api import shapes_of_accounts as accounts
from services.gateway.api import shapes_of_jobs as jobs
from services.gateway.api import shapes_of_openai as openais
from services.gateway.api.openai_errors import PATHS

Document: TypeAlias = dict[str, Any]

ANSWERS: dict[tuple[str, str], type[BaseModel]] = {
    ("post", "/v1/datasets"): its.Dataset,
    ("get", "/v1/datasets"): its.Page[its.Dataset],
    ("get", "/v1/datasets/{dataset_id}"): its.Dataset,
    ("delete", "/v1/datasets/{dataset_id}"): its.Deleted,
    ("get", "/v1/datasets/{dataset_id}/preview"): its.DatasetPreview,
    ("post", "/v1/datasets/{dataset_id}/cut"): its.DatasetCut,
    ("get", "/v1/models"): its.Page[its.Model],
    ("post", "/v1/models"): its.Model,
    ("get", "/v1/models/{model_id}"): its.Model,
    ("delete", "/v1/models/{model_id}"): its.Deleted,
    ("get", "/v1/models/{name}/aliases"): its.Whole[its.Alias],
    ("get", "/v1/models/{name}/aliases/{alias}"): its.Alias,
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
    ("get", "/v1/overview"): jobs.Overview,
    ("get", "/v1/costs"): its.Costs,
    ("get", "/v1/budgets"): its.Page[its.Budget],
    ("put", "/v1/budgets"): its.Budget,
    ("get", "/v1/budgets/{budget_id}"): its.Budget,
    ("get", "/v1/webhooks"): its.Page[its.Webhook],
    ("post", "/v1/webhooks"): its.NewWebhook,
    ("get", "/v1/webhooks/{webhook_id}"): its.WebhookWithDeliveries,
    ("patch", "/v1/webhooks/{webhook_id}"): its.Webhook,
    ("post", "/v1/webhooks/{webhook_id}/secret"): its.NewWebhook,
    ("post", "/v1/webhooks/{webhook_id}/test"): its.Sent,
    ("get", "/v1/webhooks/{webhook_id}/deliveries"): its.Page[its.Delivery],
    ("post", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"): its.Delivery,
    ("post", "/v1/webhooks/{webhook_id}/replay"): its.WebhookReplay,
    # People, projects and keys
    ("get", "/v1/auth"): accounts.SignInWays,
    ("post", "/v1/session"): accounts.Session,
    ("get", "/v1/session"): accounts.Session,
    ("patch", "/v1/session"): accounts.Session,
    ("post", "/v1/session/links"): accounts.SignInLink,
    ("get", "/v1/tenants"): its.Page[accounts.Tenant],
    ("post", "/v1/tenants"): accounts.Tenant,
    ("get", "/v1/tenants/{tenant_id}"): accounts.Tenant,
    ("patch", "/v1/tenants/{tenant_id}"): accounts.Tenant,
    ("get", "/v1/members"): its.Page[accounts.Member],
    ("post", "/v1/members"): accounts.Member,
    ("patch", "/v1/members/{member_id}"): accounts.Member,
    ("post", "/v1/keys"): accounts.NewKey,
    ("get", "/v1/keys"): its.Page[accounts.Key],
    ("get", "/v1/audit"): its.Page[accounts.AuditEntry],
    ("get", "/v1/audit/verify"): accounts.AuditVerdict,
    ("get", "/v1/limits"): accounts.Limits,
    # As OpenAI has it
    ("get", "/v1/files"): its.Page[openais.File],
    ("post", "/v1/files"): openais.File,
    ("get", "/v1/files/{file_id}"): openais.File,
    ("delete", "/v1/files/{file_id}"): its.Deleted,
    ("get", "/v1/uploads"): its.Page[openais.Upload],
    ("post", "/v1/uploads"): openais.Upload,
    ("get", "/v1/uploads/{upload_id}"): openais.UploadWithParts,
    ("post", "/v1/uploads/{upload_id}/parts"): openais.UploadPart,
    ("post", "/v1/uploads/{upload_id}/urls"): openais.PartUrls,
    ("post", "/v1/uploads/{upload_id}/complete"): openais.Upload,
    ("post", "/v1/uploads/{upload_id}/cancel"): openais.Upload,
    ("get", "/v1/fine_tuning/jobs"): its.Page[openais.FineTune],
    ("post", "/v1/fine_tuning/jobs"): openais.FineTune,
    ("get", "/v1/fine_tuning/jobs/{job_id}"): openais.FineTune,
    ("post", "/v1/fine_tuning/jobs/{job_id}/cancel"): openais.FineTune,
    ("get", "/v1/fine_tuning/jobs/{job_id}/events"): its.Page[openais.FineTuneEvent],
    ("get", "/v1/fine_tuning/jobs/{job_id}/checkpoints"): its.Page[openais.FineTuneCheckpoint],
}
# Beside the first one: what was there already, or is still being worked on.
ALSO = {
    ("post", "/v1/datasets"): ("200", "This content is a version of the name already"),
    ("post", "/v1/datasets/{dataset_id}/cut"): ("200", "A dry run, or this content is a version already"),
    ("post", "/v1/files"): ("201", "The dataset has a new version"),
    ("post", "/v1/models"): ("200", "This code is a version of the name already"),
    ("post", "/v1/plans"): ("202", "It is still being planned: ask for it by its id"),
    ("post", "/v1/plans/{plan_id}/replay"): ("202", "It is still being decided again: ask for it by its id"),
}
PASSED_ON = [path for path in PATHS if path != "/v1/models"]  # to inference, which answers
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
            if path in PASSED_ON or path.startswith("/v2/"):
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
