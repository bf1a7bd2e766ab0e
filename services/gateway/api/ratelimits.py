"""How much more may be asked, as headers: the IETF's names (draft-ietf-httpapi-ratelimit-headers) and OpenAI's."""

from __future__ import annotations

import math

from services.gateway.admission import Limits

REQUESTS, ACTIVE_JOBS = "requests", "active-jobs"


def of_requests(limits: Limits, left: float) -> dict[str, str]:
    """Of a key that may still ask so often at once. The bucket is full again after the time that is told."""
    full_seconds = max(0.0, limits.burst - left) / limits.requests_per_second
    window_seconds = max(1, math.ceil(limits.burst / limits.requests_per_second))
    return {
        "RateLimit-Policy": f'"{REQUESTS}";q={limits.burst};w={window_seconds}',
        "RateLimit": f'"{REQUESTS}";r={int(left)};t={math.ceil(full_seconds)}',
        "x-ratelimit-limit-requests": str(limits.burst),
        "x-ratelimit-remaining-requests": str(int(left)),
        "x-ratelimit-reset-requests": f"{math.ceil(full_seconds * 1000)}ms",
    }


def of_jobs(limit: int, active: int) -> dict[str, str]:
    """Of a tenant's jobs that have not ended: there is no time after which more may come."""
    return {
        "RateLimit-Policy": f'"{ACTIVE_JOBS}";q={limit};qu="jobs"',
        "RateLimit": f'"{ACTIVE_JOBS}";r={max(0, limit - active)}',
    }
