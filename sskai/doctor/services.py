"""The services: alive, ready, and of which release."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version

import httpx2

from sskai.doctor import Finding, Findings
from sskai.doctor.settings import Settings

HTTP_SECONDS = 5
OLDER = "one that does not tell"


async def look(settings: Settings) -> list[Finding]:
    said = Findings("services")
    async with httpx2.AsyncClient(timeout=HTTP_SECONDS) as http:
        urls = settings.urls()
        releases = await asyncio.gather(*(_one(said, http, name, url) for name, url in urls.items()))
    judge_releases(said, {name: one for name, one in zip(urls, releases, strict=True) if one}, version("sskai"))
    return sorted(said.found, key=lambda one: one.check)


async def _one(said: Findings, http: httpx2.AsyncClient, name: str, url: str) -> str:
    """Its release; empty if it does not answer."""
    if not url:
        said.skip(name, f"its address is not known: set SSKAI_{name.upper()}_URL")
        return ""
    try:
        alive = await http.get(f"{url}/healthz")
        ready = await http.get(f"{url}/readyz")
        health, parts = alive.json(), ready.json()
    except (httpx2.HTTPError, ValueError) as error:
        said.fail(
            name,
            f"{url} does not answer: {error!r}",
            "Start it, or mend its address; see docs/runbooks.md, SSKAIServiceDown.",
        )
        return ""
    if health.get("service") != name:
        said.fail(
            name,
            f"{url} is {health.get('service') or 'something else'}",
            f"Set SSKAI_{name.upper()}_URL to the {name}'s address.",
        )
        return ""
    release = str(health.get("version") or OLDER)
    if ready.status_code == 200:
        said.ok(name, f"ready, release {release}")
    else:
        away = ", ".join(f"{part} {state}" for part, state in parts.items() if state != "ok")
        said.fail(name, f"not ready: {away}", "Mend that part; the service goes on by itself.")
    return release


def judge_releases(said: Findings, releases: Mapping[str, str], ours: str) -> None:
    """Neighbours may run together while an upgrade lasts; others may not."""
    kinds = sorted(set(releases.values()))
    says = "; ".join(f"{kind}: {', '.join(name for name, one in releases.items() if one == kind)}" for kind in kinds)
    if not kinds:
        said.skip("versions", "no service told its release")
    elif len(kinds) == 1 and kinds[0] == ours:
        said.ok("versions", f"all of {ours}, as this program")
    elif any(not neighbours(one, other) for one in [*kinds, ours] for other in [*kinds, ours]):
        said.fail(
            "versions", f"{says}; this program: {ours}", "Upgrade one release at a time: these are not neighbours."
        )
    else:
        said.warn(
            "versions",
            f"{says}; this program: {ours}",
            "Finish the upgrade (docs/operations/upgrade.md): neighbours may run together, for so long.",
        )


def neighbours(one: str, other: str) -> bool:
    """Whether two releases are equal or next to each other. One that tells none is older than the first that does."""
    if OLDER in (one, other):
        return True
    (major, minor), (their_major, their_minor) = (tuple(map(int, each.split(".")[:2])) for each in (one, other))
    return major == their_major and abs(minor - their_minor) <= 1
