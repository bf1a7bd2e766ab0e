"""Who may ask a service behind the gateway: the gateway, which says for which tenant."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import Depends, Header, Request

from sskai.http import Problem


def tenant(
    request: Request, x_sskai_tenant: Annotated[str, Header()] = "", x_sskai_internal: Annotated[str, Header()] = ""
) -> str:
    """The tenant that the gateway asks for. The application's `state.internal_token` is what it proves itself by."""
    token: str = request.app.state.internal_token
    # Without a token set nobody is the gateway: an empty one must not open the door to everybody.
    if not token or not hmac.compare_digest(x_sskai_internal.encode(), token.encode()):
        raise Problem(403, "Only the gateway may ask", "X-SSKAI-Internal is missing or wrong")
    if not x_sskai_tenant:
        raise Problem(400, "No tenant", "X-SSKAI-Tenant says whose data is asked for")
    return x_sskai_tenant


Tenant = Annotated[str, Depends(tenant)]
