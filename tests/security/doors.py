"""Every place of the API where something can be named, and what may stand there. A new one without a row is a failure.

`PATH` and `QUERY` say of parameters what kind of thing they name (see `estate.py`), `REFERENCES` of a body's fields.
`BODIES` are right but for what they name.
"""

from __future__ import annotations

from typing import Any

from tests.gateway.conftest import MODEL

# By the name of a parameter in a path; by path and name where one name means different things.
PATH: dict[str, str] = {
    "job_id": "job",
    "dataset_id": "dataset",
    "model_id": "model",
    "endpoint_id": "endpoint",
    "endpoint": "endpoint or name",
    "plan_id": "plan",
    "replay_id": "replay",
    "retrain_id": "retrain",
    "budget_id": "budget",
    "webhook_id": "webhook",
    "delivery_id": "delivery",
    "key_id": "key",
    "tenant_id": "tenant",
    "member_id": "member",
    "file_id": "file",
    "upload_id": "upload",
    "trace_id": "trace",
    "/v1/fine_tuning/jobs/{job_id}": "fine-tune",
    "/v1/fine_tuning/jobs/{job_id}/cancel": "fine-tune",
    "/v1/fine_tuning/jobs/{job_id}/pause": "fine-tune",
    "/v1/fine_tuning/jobs/{job_id}/resume": "fine-tune",
    "/v1/fine_tuning/jobs/{job_id}/events": "fine-tune",
    "/v1/fine_tuning/jobs/{job_id}/checkpoints": "fine-tune",
    "/v1/models/{name}/aliases": "model name",
    "/v1/models/{name}/aliases/{alias}": "model name",
    "/v2/models/{name}": "endpoint name",
    "/v2/models/{name}/infer": "endpoint name",
    "/v2/models/{name}/ready": "endpoint name",
}
CHOICES = {"alias": "champion"}  # of a path, out of a few words

# Of a query: somebody else's id finds what nobody's finds.
QUERY: dict[str, str] = {
    "job_id": "job",
    "job": "job",
    "dataset": "dataset",
    "endpoint_id": "endpoint",
    "endpoint": "endpoint",
    "subject": "job",
    "tenant_id": "tenant",
}
# Names nothing, or cuts one's own list alone (`after`).
HARMLESS = {
    "action", "actor", "after", "alias", "attempt", "code", "created_after", "created_before", "dry_run", "error",
    "follow", "format", "group_by", "kind", "limit", "metadata", "model", "model_version", "month", "name", "next",
    "order", "origin", "project", "purpose", "rows", "service", "shape", "since", "state", "status", "tail", "target",
    "types", "until", "whole", "window",
}  # fmt: skip

_JOB = {"name": "mine", "model": {"base": MODEL}, "dataset": {"uri": "mine"}}
_ENDPOINT = {"name": "new", "model": MODEL}
_V2 = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]}

BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/datasets/{dataset_id}/cut"): {"endpoint": "mine"},
    ("PUT", "/v1/models/{name}/aliases/{alias}"): {"version": 1},
    ("POST", "/v1/jobs"): _JOB,
    ("POST", "/v1/plans"): _JOB,
    ("POST", "/v1/plans/{plan_id}/replay"): {},
    ("POST", "/v1/endpoints"): _ENDPOINT,
    ("PATCH", "/v1/endpoints/{endpoint_id}"): {"roll_back": True},
    ("PUT", "/v1/endpoints/{endpoint}/objectives"): {"objectives": [{"name": "availability", "target": 0.99}]},
    ("PUT", "/v1/endpoints/{endpoint}/retraining"): {"mode": "auto"},
    ("POST", "/v1/chat/completions"): {"model": "mine", "messages": [{"role": "user", "content": "hi"}]},
    ("POST", "/v1/completions"): {"model": "mine", "prompt": "hi"},
    ("POST", "/v1/embeddings"): {"model": "mine", "input": "hi"},
    ("POST", "/v1/images/generations"): {"model": "mine", "prompt": "hi"},
    ("POST", "/v2/models/{name}/infer"): _V2,
    ("POST", "/v1/feedback"): {"id": "chatcmpl_mine", "score": 1.0},
    ("POST", "/v1/keys"): {"name": "mine"},
    ("PUT", "/v1/budgets"): {"scope": "endpoint", "target": "endpoint_mine", "amount_usd": 1.0},
    ("POST", "/v1/webhooks"): {"url": "https://example.com/mine"},
    ("PATCH", "/v1/webhooks/{webhook_id}"): {"types": ["JobFailed"]},
    ("POST", "/v1/webhooks/{webhook_id}/secret"): {"revoke_previous": True},
    ("POST", "/v1/webhooks/{webhook_id}/replay"): {"after": 0},
    ("POST", "/v1/session"): {"key": "sskai_nobodys"},
    ("PATCH", "/v1/session"): {"tenant_id": "tenant_mine"},
    ("POST", "/v1/tenants"): {"name": "mine"},
    ("PATCH", "/v1/tenants/{tenant_id}"): {"name": "mine"},
    ("POST", "/v1/members"): {"email": "mine@example.com", "role": "viewer"},
    ("PATCH", "/v1/members/{member_id}"): {"role": "viewer"},
    ("POST", "/v1/uploads"): {"bytes": 9, "filename": "mine.jsonl", "mime_type": "text/plain", "purpose": "fine-tune"},
    ("POST", "/v1/uploads/{upload_id}/complete"): {},
    ("POST", "/v1/uploads/{upload_id}/urls"): {"part_numbers": [1]},
    ("POST", "/v1/fine_tuning/jobs"): {"model": MODEL, "training_file": "mine"},
}
REFERENCES: dict[tuple[str, str], dict[str, str]] = {
    ("POST", "/v1/datasets/{dataset_id}/cut"): {"endpoint": "endpoint or name"},
    ("POST", "/v1/jobs"): {"dataset.uri": "dataset uri", "model.artifact": "model uri", "model.base": "model"},
    ("POST", "/v1/plans"): {"dataset.uri": "dataset uri", "model.artifact": "model uri", "model.base": "model"},
    ("POST", "/v1/endpoints"): {"model": "model uri", "canary": "model uri", "plan": "plan"},
    ("PATCH", "/v1/endpoints/{endpoint_id}"): {"canary": "model uri"},
    ("POST", "/v1/chat/completions"): {"model": "endpoint name"},
    ("POST", "/v1/completions"): {"model": "endpoint name"},
    ("POST", "/v1/embeddings"): {"model": "endpoint name"},
    ("POST", "/v1/images/generations"): {"model": "endpoint name"},
    ("POST", "/v1/feedback"): {"id": "answer"},
    ("POST", "/v1/keys"): {"tenant_id": "tenant"},
    ("PUT", "/v1/budgets"): {"target": "job"},
    ("PATCH", "/v1/session"): {"tenant_id": "tenant"},
    ("POST", "/v1/fine_tuning/jobs"): {"model": "model", "training_file": "dataset", "validation_file": "file"},
}
# What has to stand beside a reference, and what must not.
BESIDE: dict[tuple[str, str, str], dict[str, Any]] = {
    ("POST", "/v1/jobs", "model.artifact"): {"model": {}},
    ("POST", "/v1/plans", "model.artifact"): {"model": {}},
    ("POST", "/v1/endpoints", "plan"): {"kind": "spot"},
    ("PATCH", "/v1/endpoints/{endpoint_id}", "canary"): {"roll_back": None},
    ("PUT", "/v1/budgets", "target"): {"scope": "job", "period": "total"},
}
# Fields of a body that, by their names, could name something of somebody's.
NAMING = {
    "uri", "artifact", "base", "plan", "canary", "endpoint", "target", "id", "model", "tenant_id", "job_id",
    "dataset_id", "model_id", "endpoint_id", "key_id", "budget_id", "webhook_id", "file_id", "training_file",
    "validation_file", "upload_id", "user_id", "member_id",
}  # fmt: skip
# Routes that name nothing, but for the uploads that they take.
WITHOUT_NAMES = {
    ("GET", "/asyncapi.yaml"), ("GET", "/v1/audit"), ("GET", "/v1/audit/verify"), ("GET", "/v1/auth"),
    ("GET", "/v1/auth/oidc/callback"), ("GET", "/v1/auth/oidc/start"), ("GET", "/v1/budgets"),
    ("GET", "/v1/costs/export"), ("GET", "/v1/datasets"), ("POST", "/v1/datasets"), ("GET", "/v1/endpoints"),
    ("GET", "/v1/files"), ("POST", "/v1/files"), ("GET", "/v1/fine_tuning/jobs"), ("GET", "/v1/limits"),
    ("GET", "/v1/members"), ("POST", "/v1/members"), ("GET", "/v1/models"), ("POST", "/v1/models"),
    ("GET", "/v1/overview"), ("GET", "/v1/receipts"), ("GET", "/v1/session"), ("POST", "/v1/session"),
    ("DELETE", "/v1/session"), ("POST", "/v1/session/links"), ("GET", "/v1/tenants"), ("POST", "/v1/tenants"),
    ("GET", "/v1/uploads"), ("POST", "/v1/uploads"), ("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"),
}  # fmt: skip
# What a route answers before it looks at what is named: a key belongs to one tenant, and has no other to choose.
BEFORE = {("PATCH", "/v1/session"): 409}
# Answers that are sums or lists: of what one does not have they are nothing, in 200.
SUMS = {"/v1/costs", "/v1/figures", "/v1/plans", "/v1/events", "/v1/jobs"}
# Not answered in these tests, also not to its owner: no request is traced here, and no scheduler runs.
NOT_HERE = {"/v1/jobs/{job_id}/trace", "/v1/jobs/{job_id}/logs"}
