# Made by `python -m tools.sync_client` of ../_async: edit that.
"""Who may do what: keys, members, projects, the session, limits, and the log of all that was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sskai.client._sync.transport import Resource
from sskai.client.documents import AuditEntry, Document, Documents, Key, Member, Session, SignInLink, Tenant
from sskai.client.wire import given


class Keys(Resource):
    def create(
        self,
        name: str,
        tenant_id: str | None = None,
        *,
        scopes: Sequence[str] | None = None,
        expires_in: str | None = None,
        sampled: bool | None = None,
    ) -> Key:
        """A new key; `key` is in this answer only. `scopes`: read, infer, write, admin; `expires_in`: "90d"."""
        form = given(name=name, tenant_id=tenant_id, scopes=scopes, expires_in=expires_in, sampled=sampled)
        return self._client.ask(Key, "POST", "/v1/keys", json=form)

    def list(self) -> Iterator[Key]:
        return self._client.pages(Key, "/v1/keys")

    def revoke(self, key_id: str) -> None:
        """It is refused from now on."""
        self._client.ask(dict[str, Any], "DELETE", f"/v1/keys/{key_id}")


class Members(Resource):
    """People in the project, with their roles: viewer, developer or admin."""

    def invite(self, email: str, role: str) -> Member:
        return self._client.ask(Member, "POST", "/v1/members", json={"email": email, "role": role})

    def list(self) -> Iterator[Member]:
        return self._client.pages(Member, "/v1/members")

    def change(self, member_id: str, role: str) -> Member:
        return self._client.ask(Member, "PATCH", f"/v1/members/{member_id}", json={"role": role})

    def remove(self, member_id: str) -> None:
        """The last admin stays: 409."""
        self._client.ask(dict[str, Any], "DELETE", f"/v1/members/{member_id}")


class Tenants(Resource):
    """Projects."""

    def create(self, name: str) -> Tenant:
        return self._client.ask(Tenant, "POST", "/v1/tenants", json={"name": name})

    def list(self) -> Iterator[Tenant]:
        return self._client.pages(Tenant, "/v1/tenants")

    def get(self, tenant_id: str) -> Tenant:
        return self._client.ask(Tenant, "GET", f"/v1/tenants/{tenant_id}")

    def rename(self, tenant_id: str, name: str) -> Tenant:
        return self._client.ask(Tenant, "PATCH", f"/v1/tenants/{tenant_id}", json={"name": name})


class SignIn(Resource):
    def get(self) -> Session:
        """Who asks by this key, for which project, and what they may do."""
        return self._client.ask(Session, "GET", "/v1/session")

    def link(self) -> SignInLink:
        """An address that signs a browser in, once, within five minutes."""
        return self._client.ask(SignInLink, "POST", "/v1/session/links")


class Audit(Resource):
    """What was done, by whom, each entry chained to the one before by its hash."""

    def list(
        self, *, actor: str | None = None, action: str | None = None, target: str | None = None
    ) -> Iterator[AuditEntry]:
        return self._client.pages(AuditEntry, "/v1/audit", actor=actor, action=action, target=target)

    def verify(self) -> Document:
        """Whether the chain is whole: `{"valid": True, "entries": n, "broken_at": None}`."""
        return self._client.ask(dict[str, Any], "GET", "/v1/audit/verify")


class Limits(Resource):
    def list(self) -> Documents:
        """What the project may use, and how much it uses."""
        found = self._client.ask(dict[str, Any], "GET", "/v1/limits")
        limits: Documents = found["data"]
        return limits
