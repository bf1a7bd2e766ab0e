"""The request that is answered just now: whose rows its transactions see, and what the audit log will say of it.

`authenticate` sets it, every transaction of the request's task is surrounded by it. Handlers and loops have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from services.gateway.keys import Actor


@dataclass(frozen=True, slots=True)
class Asking:
    """`action` None: it changes nothing. `as_owner`: rows of all tenants are seen, for what crosses projects."""

    tenant_id: str
    actor: Actor
    action: str | None = None
    target: str = ""
    status: int = 200
    as_owner: bool = False


_asking: ContextVar[Asking | None] = ContextVar("asking", default=None)


def begin(asking: Asking) -> None:
    """From now on this task answers that request."""
    _asking.set(asking)


def current() -> Asking | None:
    return _asking.get()


@contextmanager
def acting_for(tenant_id: str, *, as_owner: bool = False) -> Iterator[None]:
    """What the block does, it does for another tenant than the caller's."""
    asking = _asking.get()
    assert asking is not None, "only a request acts for somebody"
    token = _asking.set(replace(asking, tenant_id=tenant_id, as_owner=as_owner))
    try:
        yield
    finally:
        _asking.reset(token)


@contextmanager
def crossing_projects() -> Iterator[None]:
    """The block looks at rows of several projects, and changes none: a person's list of projects."""
    token = _asking.set(None)
    try:
        yield
    finally:
        _asking.reset(token)
