"""Kubernetes: the API's release, each right of docs/operations.md's Role, the namespace's quota."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes import aio as k8s

from sskai.cluster.kubernetes_cluster import load_account
from sskai.doctor import Finding, Findings
from sskai.doctor.settings import Settings

OLDEST = (1, 31)
REQUEST_SECONDS = 10
NEARLY = 0.9


@dataclass(frozen=True, slots=True)
class Right:
    """`without`: what is missed when it is not given; empty: nothing can be started."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    without: str = ""
    everywhere: bool = False


RIGHTS = (
    Right("batch", "jobs", ("create", "get", "list", "watch", "patch", "delete")),
    Right("", "pods", ("list", "watch", "delete")),
    Right("", "pods/log", ("get",), "jobs' logs are not shown (the scheduler needs it, inference does not)"),
    Right("", "services", ("create", "delete")),
    Right("policy", "poddisruptionbudgets", ("create", "patch"), "replicas are not kept (inference needs it alone)"),
    Right("", "nodes", ("list", "watch"), "notices by taints are missed", everywhere=True),
)


async def look(settings: Settings) -> list[Finding]:
    said = Findings("cluster")
    try:
        await load_account()
    except (k8s.config.ConfigException, OSError) as error:
        said.fail(
            "kubernetes",
            f"no account to ask as: {error}",
            "Run this in a pod with the service account, or give a kubeconfig (KUBECONFIG).",
        )
        return said.found
    async with k8s.client.ApiClient() as api:
        return await look_by(api, settings)


async def look_by(api: Any, settings: Settings) -> list[Finding]:
    """By an API client that is configured."""
    said = Findings("cluster")
    try:
        version = await k8s.client.VersionApi(api).get_code(_request_timeout=REQUEST_SECONDS)
    except (k8s.client.ApiException, aiohttp.ClientError, TimeoutError) as error:
        said.fail(
            "kubernetes",
            f"the API does not answer: {error!r}",
            "Look at the address and certificate of the kubeconfig, and at the network's way there.",
        )
        return said.found
    release = int(version.major), int(version.minor.rstrip("+"))
    says = f"Kubernetes {version.git_version}"
    if release < OLDEST:
        said.fail("kubernetes", says, "Upgrade to Kubernetes 1.31 or newer.")
    else:
        said.ok("kubernetes", says)
    for right in RIGHTS:
        await _right(said, api, right, settings.namespace)
    if await _allowed(api, "*", "*", "*", ""):
        said.warn("rights", "this account may do everything", "Bind the Role of docs/operations.md instead.")
    await _quota(said, api, settings.namespace)
    return said.found


async def _right(said: Findings, api: Any, right: Right, namespace: str) -> None:
    where = "" if right.everywhere else namespace
    check = f"{right.resource}{f'.{right.group}' if right.group else ''}"
    try:
        allowed = await asyncio.gather(
            *(_allowed(api, right.group, right.resource, verb, where) for verb in right.verbs)
        )
    except (k8s.client.ApiException, aiohttp.ClientError, TimeoutError) as error:
        said.skip(check, f"the API does not say what is allowed: {error!r}")
        return
    missing = ", ".join(verb for verb, yes in zip(right.verbs, allowed, strict=True) if not yes)
    place = f"in {namespace}" if where else "in the cluster"
    if not missing:
        said.ok(check, f"{', '.join(right.verbs)} {place}")
    elif right.without:
        said.warn(
            check, f"not allowed {place}: {missing}; {right.without}", "Add it to the Role of docs/operations.md."
        )
    else:
        said.fail(check, f"not allowed {place}: {missing}", "Bind the Role of docs/operations.md to this account.")


async def _allowed(api: Any, group: str, resource: str, verb: str, namespace: str) -> bool:
    name, _, part = resource.partition("/")
    attributes = {"group": group, "resource": name, "verb": verb}
    attributes |= {"subresource": part} if part else {}
    attributes |= {"namespace": namespace} if namespace else {}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await k8s.client.AuthorizationV1Api(api).create_self_subject_access_review(
        review, _request_timeout=REQUEST_SECONDS
    )
    return bool(answer.status.allowed)


async def _quota(said: Findings, api: Any, namespace: str) -> None:
    try:
        found = await k8s.client.CoreV1Api(api).list_namespaced_resource_quota(
            namespace, _request_timeout=REQUEST_SECONDS
        )
    except k8s.client.ApiException as error:
        said.skip(
            "quotas",
            f"ResourceQuotas of {namespace} cannot be read ({error.status}); they need `list` on resourcequotas",
        )
        return
    near = [
        f"{quota.metadata.name}: {name} {used} of {quota.status.hard[name]}"
        for quota in found.items
        for name, used in ((quota.status and quota.status.used) or {}).items()
        if amount(used) >= NEARLY * amount(quota.status.hard[name])
    ]
    if near:
        said.warn(
            "quotas",
            "; ".join(near),
            "Raise the ResourceQuota, or set SSKAI_MAX_MACHINES below it so that jobs wait and say so.",
        )
    else:
        said.ok(
            "quotas", f"{len(found.items)} ResourceQuotas, none nearly used up" if found.items else "no ResourceQuota"
        )


UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def amount(quantity: str) -> float:
    """A Kubernetes quantity as a number: `500m`, `2`, `3Gi`."""
    unit = next((one for one in sorted(UNITS, key=len, reverse=True) if quantity.endswith(one)), "")
    return float(quantity.removesuffix(unit)) * UNITS.get(unit, 1.0)
