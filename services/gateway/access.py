"""Who may do what: the scope that each route needs, and by what name the audit log knows what it does. Pure.

A route that is not in the table is refused to everybody, and the application is not built with one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a caller may do, or what a route needs."""

    PUBLIC = "public"  # nobody need be known
    SIGNED_IN = "signed-in"  # anybody who is known, member of a project or not
    READ = "read"
    INFER = "infer"
    WRITE = "write"
    ADMIN = "admin"
    OPERATOR = "operator"


SCOPES = (Scope.READ, Scope.INFER, Scope.WRITE, Scope.ADMIN)  # what a key may be given


class Role(StrEnum):
    """What a person is in a project."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    ADMIN = "admin"


SCOPES_OF = {
    Role.VIEWER: frozenset({Scope.READ}),
    Role.DEVELOPER: frozenset({Scope.READ, Scope.INFER, Scope.WRITE}),
    Role.ADMIN: frozenset(SCOPES),
}


def role_of(scopes: frozenset[Scope]) -> Role | None:
    """The greatest role that a key's scopes fill."""
    return next((role for role in reversed(Role) if SCOPES_OF[role] <= scopes), None)


@dataclass(frozen=True, slots=True)
class Access:
    """`action`: what the audit log calls it; None: it changes nothing, or asks a model.

    `elsewhere`: the change is another service's, so it is recorded before it is passed on."""

    scope: Scope
    action: str | None = None
    elsewhere: bool = False


PUBLIC, SIGNED_IN = Access(Scope.PUBLIC), Access(Scope.SIGNED_IN)
READ, INFER, ADMIN = Access(Scope.READ), Access(Scope.INFER), Access(Scope.ADMIN)


def _signed_in(action: str) -> Access:
    return Access(Scope.SIGNED_IN, action)


def _write(action: str, *, elsewhere: bool = False) -> Access:
    return Access(Scope.WRITE, action, elsewhere)


def _admin(action: str) -> Access:
    return Access(Scope.ADMIN, action)


ACCESS: dict[tuple[str, str], Access] = {
    ("GET", "/asyncapi.yaml"): PUBLIC,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/docs/assets/{name}"): PUBLIC,
    # Signing in
    ("GET", "/v1/auth"): PUBLIC,
    ("GET", "/v1/auth/oidc/start"): PUBLIC,
    ("GET", "/v1/auth/oidc/callback"): PUBLIC,
    ("POST", "/v1/session"): Access(Scope.PUBLIC, "session.create"),
    ("GET", "/v1/session"): SIGNED_IN,
    ("PATCH", "/v1/session"): _signed_in("session.switch"),
    ("DELETE", "/v1/session"): _signed_in("session.end"),
    ("POST", "/v1/session/links"): _signed_in("session.link"),
    # The project
    ("GET", "/v1/tenants"): SIGNED_IN,
    ("POST", "/v1/tenants"): _signed_in("tenant.create"),
    ("GET", "/v1/tenants/{tenant_id}"): SIGNED_IN,
    ("PATCH", "/v1/tenants/{tenant_id}"): _signed_in("tenant.update"),  # the route asks for its admin
    ("GET", "/v1/members"): READ,
    ("POST", "/v1/members"): _admin("member.invite"),
    ("PATCH", "/v1/members/{member_id}"): _admin("member.update"),
    ("DELETE", "/v1/members/{member_id}"): _admin("member.remove"),
    ("GET", "/v1/keys"): READ,
    ("POST", "/v1/keys"): _admin("key.create"),
    ("DELETE", "/v1/keys/{key_id}"): _admin("key.revoke"),
    ("GET", "/v1/audit"): ADMIN,
    ("GET", "/v1/audit/verify"): ADMIN,
    ("GET", "/v1/limits"): READ,
    # Data and models
    ("GET", "/v1/datasets"): READ,
    ("POST", "/v1/datasets"): _write("dataset.upload"),
    ("GET", "/v1/datasets/{dataset_id}"): READ,
    ("GET", "/v1/datasets/{dataset_id}/preview"): READ,
    ("DELETE", "/v1/datasets/{dataset_id}"): _write("dataset.delete"),
    ("POST", "/v1/datasets/{dataset_id}/cut"): _write("dataset.cut"),
    ("GET", "/v1/files"): READ,
    ("POST", "/v1/files"): _write("file.upload"),
    ("GET", "/v1/files/{file_id}"): READ,
    ("GET", "/v1/files/{file_id}/content"): READ,
    ("DELETE", "/v1/files/{file_id}"): _write("file.delete"),
    ("GET", "/v1/uploads"): READ,
    ("POST", "/v1/uploads"): _write("upload.create"),
    ("GET", "/v1/uploads/{upload_id}"): READ,
    ("POST", "/v1/uploads/{upload_id}/parts"): _write("upload.part"),
    ("POST", "/v1/uploads/{upload_id}/urls"): _write("upload.urls"),
    ("POST", "/v1/uploads/{upload_id}/complete"): _write("upload.complete"),
    ("POST", "/v1/uploads/{upload_id}/cancel"): _write("upload.cancel"),
    ("GET", "/v1/models"): READ,
    ("POST", "/v1/models"): _write("model.upload"),
    ("GET", "/v1/models/{model_id}"): READ,
    ("DELETE", "/v1/models/{model_id}"): _write("model.delete"),
    ("GET", "/v1/models/{name}/aliases"): READ,
    ("GET", "/v1/models/{name}/aliases/{alias}"): READ,
    ("PUT", "/v1/models/{name}/aliases/{alias}"): _write("model.alias"),
    # Plans and jobs
    ("GET", "/v1/plans"): READ,
    ("POST", "/v1/plans"): _write("plan.create"),
    ("GET", "/v1/plans/{plan_id}"): READ,
    ("POST", "/v1/plans/{plan_id}/replay"): _write("plan.replay"),
    ("GET", "/v1/plans/{plan_id}/replays/{replay_id}"): READ,
    ("GET", "/v1/jobs"): READ,
    ("POST", "/v1/jobs"): _write("job.submit"),
    ("GET", "/v1/jobs/{job_id}"): READ,
    ("POST", "/v1/jobs/{job_id}/cancel"): _write("job.cancel"),
    ("GET", "/v1/jobs/{job_id}/logs"): READ,
    ("GET", "/v1/jobs/{job_id}/timeline"): READ,
    ("GET", "/v1/jobs/{job_id}/trace"): READ,
    ("GET", "/v1/traces/{trace_id}"): READ,
    ("GET", "/v1/fine_tuning/jobs"): READ,
    ("POST", "/v1/fine_tuning/jobs"): _write("fine-tune.submit"),
    ("GET", "/v1/fine_tuning/jobs/{job_id}"): READ,
    ("POST", "/v1/fine_tuning/jobs/{job_id}/cancel"): _write("fine-tune.cancel"),
    ("POST", "/v1/fine_tuning/jobs/{job_id}/pause"): _write("fine-tune.pause"),
    ("POST", "/v1/fine_tuning/jobs/{job_id}/resume"): _write("fine-tune.resume"),
    ("GET", "/v1/fine_tuning/jobs/{job_id}/events"): READ,
    ("GET", "/v1/fine_tuning/jobs/{job_id}/checkpoints"): READ,
    # Endpoints
    ("GET", "/v1/endpoints"): READ,
    ("POST", "/v1/endpoints"): _write("endpoint.create"),
    ("GET", "/v1/endpoints/{endpoint_id}"): READ,
    ("PATCH", "/v1/endpoints/{endpoint_id}"): _write("endpoint.update"),
    ("DELETE", "/v1/endpoints/{endpoint_id}"): _write("endpoint.delete"),
    ("GET", "/v1/endpoints/{endpoint_id}/drift"): READ,
    ("GET", "/v1/endpoints/{endpoint_id}/playground"): READ,
    ("GET", "/v1/endpoints/{endpoint}/objectives"): READ,
    ("PUT", "/v1/endpoints/{endpoint}/objectives"): _write("objectives.set"),
    ("DELETE", "/v1/endpoints/{endpoint}/objectives"): _write("objectives.remove"),
    ("GET", "/v1/endpoints/{endpoint}/retraining"): READ,
    ("PUT", "/v1/endpoints/{endpoint}/retraining"): _write("retraining.set"),
    ("DELETE", "/v1/endpoints/{endpoint}/retraining"): _write("retraining.remove"),
    ("POST", "/v1/endpoints/{endpoint}/retraining/{retrain_id}/approve"): _write("retraining.approve"),
    ("POST", "/v1/endpoints/{endpoint}/retraining/{retrain_id}/decline"): _write("retraining.decline"),
    # Asking models
    ("POST", "/v1/chat/completions"): INFER,
    ("POST", "/v1/completions"): INFER,
    ("POST", "/v1/embeddings"): INFER,
    ("POST", "/v1/images/generations"): INFER,
    ("POST", "/v2/models/{name}/infer"): INFER,
    ("GET", "/v2/models/{name}"): READ,
    ("GET", "/v2/models/{name}/ready"): READ,
    ("POST", "/v1/feedback"): _write("feedback.give", elsewhere=True),
    # Money, events
    ("GET", "/v1/overview"): READ,
    ("GET", "/v1/costs"): READ,
    ("GET", "/v1/costs/export"): READ,
    ("GET", "/v1/receipts"): READ,
    ("GET", "/v1/receipts/endpoints/{endpoint_id}"): READ,
    ("GET", "/v1/receipts/{job_id}"): READ,
    ("GET", "/v1/budgets"): READ,
    ("PUT", "/v1/budgets"): _admin("budget.set"),
    ("GET", "/v1/budgets/{budget_id}"): READ,
    ("DELETE", "/v1/budgets/{budget_id}"): _admin("budget.remove"),
    ("GET", "/v1/figures"): READ,
    ("GET", "/v1/events"): READ,
    ("GET", "/v1/webhooks"): READ,
    ("POST", "/v1/webhooks"): _admin("webhook.create"),
    ("GET", "/v1/webhooks/{webhook_id}"): READ,
    ("PATCH", "/v1/webhooks/{webhook_id}"): _admin("webhook.update"),
    ("POST", "/v1/webhooks/{webhook_id}/secret"): _admin("webhook.rotate-secret"),
    ("POST", "/v1/webhooks/{webhook_id}/test"): _admin("webhook.test"),
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): READ,
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay"): _admin("webhook.replay-delivery"),
    ("POST", "/v1/webhooks/{webhook_id}/replay"): _admin("webhook.replay"),
    ("DELETE", "/v1/webhooks/{webhook_id}"): _admin("webhook.delete"),
}


def require_complete(routes: Iterable[tuple[str, str]]) -> None:
    """Raises LookupError for routes that the table does not know."""
    missing = sorted(f"{method} {path}" for method, path in routes if (method, path) not in ACCESS)
    if missing:
        raise LookupError(f"services/gateway/access.py does not say who may use {', '.join(missing)}")
