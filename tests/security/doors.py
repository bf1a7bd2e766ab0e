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
    "key_id": "key",
    "trace_id": "trace",
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
    "endpoint_id": "endpoint",
    "endpoint": "endpoint",
    "subject": "job",
    "tenant_id": "tenant",
}
# Names nothing, or cuts one's own list alone (`after`).
HARMLESS = {
    "after", "alias", "attempt", "dry_run", "format", "group_by", "kind", "limit", "model", "model_version", "month",
    "name", "project", "rows", "service", "shape", "since", "state", "types", "until", "whole", "window",
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
    ("POST", "/v1/datasets"), ("GET", "/v1/datasets"), ("GET", "/v1/models"), ("POST", "/v1/models"),
    ("GET", "/v1/jobs"), ("GET", "/v1/endpoints"), ("GET", "/v1/receipts"), ("GET", "/v1/costs/export"),
    ("GET", "/v1/budgets"), ("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"), ("GET", "/asyncapi.yaml"),
}  # fmt: skip
# Where 404 of a route would tell less than what stands there: 403 for everybody who is no operator, whatever is named.
FORBIDDEN = {("POST", "/v1/keys")}
# Answers that are sums: of what one does not have they are nothing, in 200.
SUMS = {"/v1/costs", "/v1/figures", "/v1/plans", "/v1/events"}
# Found by nobody in these tests, also not by its owner: no request is traced here.
NOT_HERE = {"/v1/jobs/{job_id}/trace"}
