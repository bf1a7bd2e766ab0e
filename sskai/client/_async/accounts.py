"""Who may do what: keys, members, projects, the session, limits, and the log of all that was done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sskai.client._async.transport import AsyncResource
from sskai.client.documents import AuditEntry, Document, Documents, Key, Member, Session, SignInLink, Tenant
from sskai.client.wire import given


class AsyncKeys(AsyncResource):
    async def create(
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
        return await self._client.ask(Key, "POST", "/v1/keys", json=form)

    def list(self) -> AsyncIterator[Key]:
        return self._client.pages(Key, "/v1/keys")

    async def revoke(self, key_id: str) -> None:
        """It is refused from now on."""
        await self._client.ask(dict[str, Any], "DELETE", f"/v1/keys/{key_id}")


class AsyncMembers(AsyncResource):
    """People in the project, with their roles: viewer, developer or admin."""

    async def invite(self, email: str, role: str) -> Member:
        return await self._client.ask(Member, "POST", "/v1/members", json={"email": email, "role": role})

    def list(self) -> AsyncIterator[Member]:
        return self._client.pages(Member, "/v1/members")

    async def change(self, member_id: str, role: str) -> Member:
        return await self._client.ask(Member, "PATCH", f"/v1/members/{member_id}", json={"role": role})

    async def remove(self, member_id: str) -> None:
        """The last admin stays: 409."""
        await self._client.ask(dict[str, Any], "DELETE", f"/v1/members/{member_id}")


class AsyncTenants(AsyncResource):
    """Projects."""

    async def create(self, name: str) -> Tenant:
        return await self._client.ask(Tenant, "POST", "/v1/tenants", json={"name": name})

    def list(self) -> AsyncIterator[Tenant]:
        return self._client.pages(Tenant, "/v1/tenants")

    async def get(self, tenant_id: str) -> Tenant:
        return await self._client.ask(Tenant, "GET", f"/v1/tenants/{tenant_id}")

    async def rename(self, tenant_id: str, name: str) -> Tenant:
        return await self._client.ask(Tenant, "PATCH", f"/v1/tenants/{tenant_id}", json={"name": name})


class AsyncSignIn(AsyncResource):
    async def get(self) -> Session:
        """Who asks by this key, for which project, and what they may do."""
        return await self._client.ask(Session, "GET", "/v1/session")

    async def link(self) -> SignInLink:
        """An address that signs a browser in, once, within five minutes."""
        return await self._client.ask(SignInLink, "POST", "/v1/session/links")


class AsyncAudit(AsyncResource):
    """What was done, by whom, each entry chained to the one before by its hash."""

    def list(
        self, *, actor: str | None = None, action: str | None = None, target: str | None = None
    ) -> AsyncIterator[AuditEntry]:
        return self._client.pages(AuditEntry, "/v1/audit", actor=actor, action=action, target=target)

    async def verify(self) -> Document:
        """Whether the chain is whole: `{"valid": True, "entries": n, "broken_at": None}`."""
        return await self._client.ask(dict[str, Any], "GET", "/v1/audit/verify")


class AsyncLimits(AsyncResource):
    async def list(self) -> Documents:
        """What the project may use, and how much it uses."""
        found = await self._client.ask(dict[str, Any], "GET", "/v1/limits")
        limits: Documents = found["data"]
        return limits
