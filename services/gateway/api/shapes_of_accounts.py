"""What answers about people, projects, keys and the audit log look like; see `shapes.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.gateway.access import Role
from services.gateway.api.keys import KeyScope
from services.gateway.api.shapes import At


class Named(BaseModel):
    id: str
    name: str


class OwnTenant(Named):
    role: Role | None


class User(Named):
    email: str


class ProviderLink(BaseModel):
    name: str
    start: str


class SignInWays(BaseModel):
    object: Literal["auth"]
    oidc: ProviderLink | None
    key: bool
    sign_up: Literal["invited", "open"]


class Session(BaseModel):
    """`csrf_token` is null for whoever asks with a header."""

    object: Literal["session"]
    id: str
    user: User | None
    tenant: Named | None
    role: Role | None
    scopes: list[KeyScope]
    operator: bool
    csrf_token: str | None
    tenants: list[OwnTenant]
    created_at: At
    expires_at: At


class SignInLink(BaseModel):
    url: str
    expires_at: datetime


class Tenant(OwnTenant):
    object: Literal["tenant"]
    created_at: datetime


class Member(BaseModel):
    id: str
    object: Literal["member"]
    email: str
    name: str
    role: Role
    state: Literal["invited", "active"]
    created_at: datetime


class Key(BaseModel):
    id: str
    object: Literal["key"]
    tenant_id: str
    name: str
    prefix: str
    scopes: list[KeyScope]
    operator: bool
    sampled: bool
    created_by: str | None
    created_at: datetime
    expires_at: At
    last_used_at: At
    revoked_at: At


class NewKey(Key):
    key: Annotated[str, Field(description="Shown once")]


class AuditActor(BaseModel):
    kind: Literal["key", "operator", "user"]
    id: str
    name: str


class AuditEntry(BaseModel):
    """`before_sha256` and `after_sha256` are of the rows that changed; none did where both are null."""

    id: str
    object: Literal["audit.entry"]
    seq: int
    at: datetime
    actor: AuditActor
    action: str
    target: str
    status: int
    before_sha256: str | None
    after_sha256: str | None
    previous_sha256: str
    sha256: str


class AuditVerdict(BaseModel):
    valid: bool
    entries: int
    broken_at: int | None


class Limit(BaseModel):
    name: str
    limit: float | None
    used: float | None
    unit: str


class Limits(BaseModel):
    object: Literal["limits"]
    data: list[Limit]
